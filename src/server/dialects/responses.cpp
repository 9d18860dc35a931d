// OpenAI's Responses API: POST /v1/responses. Each request brings its conversation, or goes on from an answer
// that an earlier one asked to keep.
#include "server/dialects/answer.h"
#include "server/dialects/make_job.h"
#include "server/dialects/responses_request.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

// An item of the output on its way.
struct OpenItem {
    enum class Kind { reasoning, message, call } kind;
    std::string id, text = {};
    ToolCallText call = {};

    Json part() const {
        if (kind == Kind::reasoning) return {{"type", "reasoning_text"}, {"text", text}};
        return {{"type", "output_text"},
                {"text", text},
                {"annotations", Json::array()},
                {"logprobs", Json::array()}};
    }
    // As it stands at its beginning or its end.
    Json json(bool done, const char* status) const {
        const Json content = done ? Json::array({part()}) : Json::array();
        switch (kind) {
            case Kind::reasoning:
                return {{"id", id},
                        {"type", "reasoning"},
                        {"summary", Json::array()},
                        {"content", content},
                        {"status", status}};
            case Kind::message:
                return {{"id", id},
                        {"type", "message"},
                        {"status", status},
                        {"role", "assistant"},
                        {"content", content}};
            case Kind::call:
                break;
        }
        return {{"id", id},           {"type", "function_call"}, {"status", status},
                {"call_id", call.id}, {"name", call.name},       {"arguments", done ? text : ""}};
    }
};

// What the answer repeats of its request.
struct Asked {
    Json body;
    Json tools;              // those that were offered to the model
    std::string key = {};    // of who asked
    Json conversation = {};  // items up to the answer, where it is to be kept; else null
    float temperature = 0, top_p = 0;
    bool progress = false, timings_per_token = false;  // llama.cpp's
};

class ResponsesAnswer final : public ChatAnswer {
 public:
    ResponsesAnswer(Setup setup, Asked asked) : ChatAnswer(std::move(setup)), asked_(std::move(asked)) {}

 private:
    using Kind = OpenItem::Kind;

    void begin() override {
        event("response.created", {{"response", response("in_progress")}});
        event("response.in_progress", {{"response", response("in_progress")}});
    }

    void computed(int, const PromptProgress& p) override {
        if (!asked_.progress) return;
        event("response.in_progress",
              {{"response", response("in_progress")}, {"prompt_progress", progress_json(p)}});
    }

    void more(const TextDelta& text) override {
        if (!text.thinking.empty()) grow(Kind::reasoning, text.thinking);
        if (!text.answer.empty()) grow(Kind::message, text.answer);
        for (const ToolCallDelta& d : text.tool_calls) {
            const ToolCallText& call = calls().all()[static_cast<size_t>(d.index)];
            if (!open_ || open_->call.id != call.id) open({Kind::call, random_id("fc_"), "", call});
            add("response.function_call_arguments.delta", d.arguments);
        }
    }

    void end() override {
        const bool cut = ending().reason == "length";
        close(cut ? "incomplete" : "completed");
        event(cut ? "response.incomplete" : "response.completed",
              {{"response", kept_response()}, {"timings", usage().timings_json()}});
    }

    void fail(const ApiError& error) override {
        close("incomplete");
        Json body = response("failed");
        body["error"] = {{"code", "server_error"}, {"message", error.message}};
        event("response.failed", {{"response", std::move(body)}});
    }

    Json whole() override {
        const auto add_item = [&](Kind kind, const char* prefix, const std::string& text,
                                  const ToolCallText& call) {
            items_.push_back(OpenItem{kind, random_id(prefix), text, call}.json(true, "completed"));
        };
        if (!thinking().empty()) add_item(Kind::reasoning, "rs_", thinking(), {});
        if (!text().empty()) add_item(Kind::message, "msg_", text(), {});
        for (const ToolCallText& c : calls().all()) add_item(Kind::call, "fc_", c.arguments, c);
        if (ending().reason == "length" && !items_.empty()) items_.back()["status"] = "incomplete";
        return kept_response();
    }

    // Kept before the client hears its id.
    Json kept_response() {
        Json body = whole_response();
        if (asked_.conversation.is_null()) return body;
        Json conversation = asked_.conversation;
        for (const Json& item : items_) conversation.push_back(item);
        if (!server().responses->put(id_, asked_.key, {std::move(conversation), body})) body["store"] = false;
        return body;
    }

    Json whole_response() const {
        const FinishEvent& f = ending().finish;
        const bool cut = ending().reason == "length";
        Json body = response(cut ? "incomplete" : "completed");
        if (cut) body["incomplete_details"] = {{"reason", "max_output_tokens"}};
        body["usage"] = {
            {"input_tokens", f.n_prompt},
            {"input_tokens_details", {{"cached_tokens", f.n_cached_prompt}, {"cache_write_tokens", 0}}},
            {"output_tokens", f.n_generated},
            {"output_tokens_details", {{"reasoning_tokens", ending().n_thinking}}},
            {"total_tokens", f.n_prompt + f.n_generated}};
        return body;
    }

    Json response(const char* status) const {
        const auto asked = [&](const char* name, Json otherwise) {
            const Json* v = find_member(asked_.body, name);
            return v == nullptr ? std::move(otherwise) : *v;
        };
        Json reasoning = {{"effort", nullptr}, {"summary", nullptr}};
        reasoning.update(asked("reasoning", Json::object()));
        Json body = {{"id", id_},
                     {"object", "response"},
                     {"created_at", created_},
                     {"status", status},
                     {"background", false},
                     {"error", nullptr},
                     {"incomplete_details", nullptr},
                     {"instructions", asked("instructions", nullptr)},
                     {"max_output_tokens", asked("max_output_tokens", nullptr)},
                     {"max_tool_calls", nullptr},
                     {"model", model()},
                     {"output", items_},
                     {"parallel_tool_calls", asked("parallel_tool_calls", true)},
                     {"previous_response_id", asked("previous_response_id", nullptr)},
                     {"reasoning", std::move(reasoning)},
                     {"service_tier", asked("service_tier", "default")},
                     {"store", !asked_.conversation.is_null()},
                     {"temperature", asked("temperature", asked_.temperature)},
                     {"text", asked("text", {{"format", {{"type", "text"}}}})},
                     {"tool_choice", asked("tool_choice", "auto")},
                     {"tools", asked_.tools},
                     {"top_logprobs", 0},
                     {"top_p", asked("top_p", asked_.top_p)},
                     {"truncation", "disabled"},
                     {"metadata", asked("metadata", Json::object())}};
        add_warnings(body);
        return body;
    }

    void event(const char* type, Json members) {
        Json e = {{"type", type}, {"sequence_number", n_events_++}};
        e.update(members);
        write(fmt::format("event: {}\n{}", type, sse(e)));
    }
    // An event about the open item.
    void item_event(const char* type, Json members) {
        Json m = {{"item_id", open_->id}, {"output_index", items_.size()}};
        if (open_->kind != Kind::call) m["content_index"] = 0;
        m.update(members);
        event(type, std::move(m));
    }
    void grow(Kind kind, const std::string& text) {
        if (!open_ || open_->kind != kind) open({kind, random_id(kind == Kind::message ? "msg_" : "rs_")});
        add(kind == Kind::message ? "response.output_text.delta" : "response.reasoning_text.delta", text);
    }
    void add(const char* type, const std::string& text) {
        if (text.empty()) return;
        open_->text += text;
        Json members = {{"delta", text}};
        if (open_->kind == Kind::message) members["logprobs"] = Json::array();
        if (asked_.timings_per_token) members["timings"] = live_usage().timings_json();
        item_event(type, std::move(members));
    }
    void open(OpenItem item) {
        close("completed");
        open_ = std::move(item);
        event("response.output_item.added",
              {{"output_index", items_.size()}, {"item", open_->json(false, "in_progress")}});
        if (open_->kind != Kind::call) item_event("response.content_part.added", {{"part", open_->part()}});
    }
    void close(const char* status) {
        if (!open_) return;
        switch (open_->kind) {
            case Kind::reasoning:
                item_event("response.reasoning_text.done", {{"text", open_->text}});
                break;
            case Kind::message:
                item_event("response.output_text.done", {{"text", open_->text}, {"logprobs", Json::array()}});
                break;
            case Kind::call:
                item_event("response.function_call_arguments.done",
                           {{"name", open_->call.name}, {"arguments", open_->text}});
                break;
        }
        if (open_->kind != Kind::call) item_event("response.content_part.done", {{"part", open_->part()}});
        const Json item = open_->json(true, status);
        event("response.output_item.done", {{"output_index", items_.size()}, {"item", item}});
        items_.push_back(item);
        open_.reset();
    }

    Asked asked_;
    std::string id_ = random_id("resp_");
    int64_t created_ = std::time(nullptr);
    int n_events_ = 0;
    Json items_ = Json::array();
    std::optional<OpenItem> open_;
};

}  // namespace

namespace {

RequestError no_such_response(const std::string& id, const char* param) {
    return RequestError(
        {.status = 404,
         .code = "previous_response_not_found",
         .message = fmt::format("{} is not kept here: it was not stored, or is forgotten by now; "
                                "send the conversation as input",
                                id),
         .param = param});
}

// Items of the whole conversation, in place of the input.
Json with_previous(Call& call) {
    const Json& input = call.body["input"];
    Json items = Json::array();
    if (const auto id = get<std::string>(call.body, "previous_response_id")) {
        auto kept = call.server.responses->get(*id, call.key);
        if (!kept) throw no_such_response(*id, "previous_response_id");
        items = std::move(kept->conversation);
    }
    if (input.is_string()) {
        items.push_back({{"type", "message"}, {"role", "user"}, {"content", input}});
    } else if (input.is_array()) {
        for (const Json& item : input) items.push_back(item);
    } else {
        wrong_type("input", "a string or an array of items", input);
    }
    return items;
}

}  // namespace

void show_response(Call& call) {
    const auto kept = call.server.responses->get(call.name, call.key);
    if (!kept) throw no_such_response(call.name.substr(0, 64), "id");
    call.exchange->send({.body = to_string(kept->response)});
}

void delete_response(Call& call) {
    const std::string& id = call.name;
    if (!call.server.responses->erase(id, call.key)) throw no_such_response(id.substr(0, 64), "id");
    call.exchange->send({.body = to_string(Json{{"id", id}, {"object", "response"}, {"deleted", true}})});
}

void responses(Call& call) {
    const bool keeps = get<bool>(call.body, "store").value_or(false);
    Json conversation;
    if (keeps || find_member(call.body, "previous_response_id") != nullptr) {
        call.body["input"] = conversation = with_previous(call);
    }
    ChatRequest request = read_responses_request(call.body);
    request.warnings.insert(request.warnings.begin(), call.warnings.begin(), call.warnings.end());
    Asked asked{.body = call.body, .tools = Json::array(), .key = call.key};
    asked.body.erase("input");
    if (keeps) asked.conversation = std::move(conversation);
    for (const Tool& t : request.tools.tools) {
        asked.tools.push_back(t.function);
        asked.tools.back()["type"] = "function";
    }
    JobSpec job = make_job(call.server, std::move(request), call.key, call.turn,
                           {.parameters = "tools[{}].parameters"});
    asked.temperature = job.options.sampling.temperature;
    asked.top_p = job.options.sampling.top_p;
    const bool stream = get<bool>(call.body, "stream").value_or(false);
    asked.progress = get<bool>(call.body, "return_progress").value_or(false);
    asked.timings_per_token = get<bool>(call.body, "timings_per_token").value_or(false);
    job.tells_progress = stream && (asked.progress || asked.timings_per_token);
    start_answer<ResponsesAnswer>(call, one_job(std::move(job)), stream, ErrorStyle::openai,
                                  std::move(asked));
}

void responses_count_tokens(Call& call) {
    if (find_member(call.body, "previous_response_id") != nullptr) call.body["input"] = with_previous(call);
    ChatRequest request = read_responses_request(call.body);
    const ModelUse model = choose_model(call.server, request, call.key);
    send_count(call, make_request_prompt(model.chat(), request, call.turn).ids.size());
}

}  // namespace smelt
