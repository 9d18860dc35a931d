// What a model's tokenizer and template do, without the model.
#include "server/dialects/make_job.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/schema_checks.h"
#include "server/routes.h"

namespace smelt {

namespace {

void send(Call& call, Json body) {
    if (!call.warnings.empty()) body["warnings"] = call.warnings;
    call.exchange->send({.body = to_string(body)});
}

}  // namespace

void tokenize(Call& call) {
    const Json& body = call.body;
    const auto content = get<std::string>(body, "content");
    const bool has_messages = find_member(body, "messages") != nullptr;
    if (content.has_value() == has_messages) {
        throw bad_request("missing_required_parameter", has_messages ? "messages" : "content",
                          "either content or messages must be given");
    }
    const ChatRequest request = has_messages
                                    ? read_conversation(body)
                                    : ChatRequest{.model = get<std::string>(body, "model").value_or("")};
    const ModelUse model = choose_model(call.server, request, call.key);
    const Tokenizer& tokenizer = model.chat().tokenizer();
    std::vector<int32_t> ids;
    if (has_messages) {
        ids = make_request_prompt(model.chat(), request).ids;
    } else {
        ids = tokenizer.encode(*content, {.add_special = get<bool>(body, "add_special").value_or(false)});
    }
    Json tokens = Json::array();
    const bool pieces = get<bool>(body, "with_pieces").value_or(false);
    constexpr size_t max_pieces = size_t{1} << 20;
    if (pieces && ids.size() > max_pieces) {
        throw RequestError(
            {.status = 413,
             .code = "request_too_large",
             .message = fmt::format("with_pieces: the text has {} tokens, at most {} have their pieces "
                                    "in one answer",
                                    ids.size(), max_pieces),
             .param = "with_pieces"});
    }
    for (const int32_t id : ids) {
        if (pieces) {
            tokens.push_back({{"id", id}, {"piece", std::string(tokenizer.token_bytes(id))}});
        } else {
            tokens.push_back(id);
        }
    }
    send(call, {{"tokens", std::move(tokens)}, {"count", ids.size()}, {"model", model.name()}});
}

void detokenize(Call& call) {
    const ModelUse model =
        choose_model(call.server, {.model = get<std::string>(call.body, "model").value_or("")}, call.key);
    const Tokenizer& tokenizer = model.chat().tokenizer();
    const auto ids = call.body.at("tokens").get<std::vector<int32_t>>();
    for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] >= tokenizer.n_tokens()) {
            throw bad_request("invalid_value", "tokens", "tokens[{}]: expected ids below {}, found {}", i,
                              tokenizer.n_tokens(), ids[i]);
        }
    }
    send(call, {{"content", tokenizer.decode(ids)}, {"model", model.name()}});
}

void apply_template(Call& call) {
    const ChatRequest request = read_conversation(call.body);
    const ModelUse model = choose_model(call.server, request, call.key);
    const Prompt prompt = make_request_prompt(model.chat(), request);
    send(call, {{"prompt", prompt.text}, {"n_tokens", prompt.ids.size()}, {"model", model.name()}});
}

}  // namespace smelt
