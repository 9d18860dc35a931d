// Anthropic's dialect: POST /v1/messages and /v1/messages/count_tokens.
#include "server/dialects/answer.h"
#include "server/dialects/anthropic_request.h"
#include "server/dialects/make_job.h"

namespace smelt {

namespace {

Json stop_reason(const AnswerEnd& end) {
    if (end.reason == "tool_calls") return "tool_use";
    if (end.reason == "length") return "max_tokens";
    return end.stop_string.empty() ? "end_turn" : "stop_sequence";
}

Json usage_json(const FinishEvent& f) {
    return {{"input_tokens", f.n_prompt - f.n_cached_prompt},
            {"cache_creation_input_tokens", 0},
            {"cache_read_input_tokens", f.n_cached_prompt},
            {"output_tokens", f.n_generated}};
}

class AnthropicAnswer final : public ChatAnswer {
 public:
    using ChatAnswer::ChatAnswer;

 private:
    void begin() override {
        Json message = envelope(Json::array());
        message["usage"] = {{"input_tokens", n_prompt()}, {"output_tokens", 0}};
        add_warnings(message);
        event("message_start", {{"message", std::move(message)}});
        event("ping", Json::object());
    }

    void more(const TextDelta& text) override {
        if (!text.thinking.empty()) {
            open("thinking", {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}});
            delta({{"type", "thinking_delta"}, {"thinking", text.thinking}});
        }
        if (!text.answer.empty()) {
            open("text", {{"type", "text"}, {"text", ""}});
            delta({{"type", "text_delta"}, {"text", text.answer}});
        }
        for (const ToolCallDelta& d : text.tool_calls) {
            const ToolCallText& call = calls().all()[static_cast<size_t>(d.index)];
            open(call.id,
                 {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", Json::object()}});
            if (!d.arguments.empty()) {
                delta({{"type", "input_json_delta"}, {"partial_json", d.arguments}});
            }
        }
    }

    void end() override {
        const AnswerEnd& end = ending();
        close();
        event("message_delta",
              {{"delta", {{"stop_reason", stop_reason(end)}, {"stop_sequence", stop_sequence(end)}}},
               {"usage", usage_json(end.finish)}});
        event("message_stop", Json::object());
    }

    void fail(const ApiError& error) override {
        write("event: error\n" + sse(error_body(error, ErrorStyle::anthropic)));
    }

    Json whole() override {
        const AnswerEnd& end = ending();
        Json content = Json::array();
        if (!thinking().empty()) {
            content.push_back({{"type", "thinking"}, {"thinking", thinking()}, {"signature", ""}});
        }
        if (!text().empty()) content.push_back({{"type", "text"}, {"text", text()}});
        for (const ToolCallText& call : calls().all()) {
            content.push_back(
                {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", call.object()}});
        }
        Json message = envelope(std::move(content));
        message["stop_reason"] = stop_reason(end);
        message["stop_sequence"] = stop_sequence(end);
        message["usage"] = usage_json(end.finish);
        add_warnings(message);
        return message;
    }

    Json envelope(Json content) const {
        return {{"id", id_},
                {"type", "message"},
                {"role", "assistant"},
                {"model", model()},
                {"content", std::move(content)},
                {"stop_reason", nullptr},
                {"stop_sequence", nullptr}};
    }
    static Json stop_sequence(const AnswerEnd& end) {
        return end.stop_string.empty() ? Json() : Json(end.stop_string);
    }

    void event(const char* type, Json members) {
        Json e = {{"type", type}};
        e.update(members);
        write(fmt::format("event: {}\n{}", type, sse(e)));
    }
    // Of the content block that is open; another name opens the next.
    void open(const std::string& name, Json block) {
        if (name == open_) return;
        close();
        open_ = name;
        event("content_block_start", {{"index", index_}, {"content_block", std::move(block)}});
    }
    void delta(Json delta) { event("content_block_delta", {{"index", index_}, {"delta", std::move(delta)}}); }
    void close() {
        if (open_.empty()) return;
        open_.clear();
        event("content_block_stop", {{"index", index_++}});
    }

    std::string id_ = random_id("msg_");
    std::string open_;
    int index_ = 0;
};

}  // namespace

void anthropic_messages(Call& call) {
    ChatRequest request = read_anthropic_request(call.body);
    std::ranges::move(call.warnings, std::back_inserter(request.warnings));
    JobSpec job = make_job(call.server, std::move(request), call.key, call.turn,
                           {.parameters = "tools[{}].input_schema"});
    start_answer<AnthropicAnswer>(call, one_job(std::move(job)),
                                  get<bool>(call.body, "stream").value_or(false), ErrorStyle::anthropic);
}

void anthropic_count_tokens(Call& call) {
    const ChatRequest request = read_anthropic_conversation(call.body);
    const ModelUse model = choose_model(call.server, request, call.key);
    const Prompt prompt = make_request_prompt(model.chat(), request, call.turn);
    Json body = {{"input_tokens", prompt.ids.size()}};
    if (!call.warnings.empty()) body["warnings"] = call.warnings;
    call.exchange->send({.body = to_string(body)});
}

}  // namespace smelt
