// What a model's tokenizer and template do, without the model.
#include "server/dialects/make_job.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/schema_checks.h"
#include "server/routes.h"

namespace smelt {

namespace {

// Of a token in an answer; most take less.
constexpr size_t id_bytes = 8, piece_bytes = 40;

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
        ids = make_request_prompt(model.chat(), request, call.turn).ids;
    } else {
        try {
            ids = tokenizer.encode(*content, {.add_special = get<bool>(body, "add_special").value_or(false)});
        } catch (const Error& e) {  // the pattern that splits texts needs too much for this one
            throw bad_request("invalid_value", "content", "{}", e.what());
        }
    }
    const bool pieces = get<bool>(body, "with_pieces").value_or(false);
    // Twice: as it is written, and as it waits for the client.
    const size_t per_token = 2 * (pieces ? piece_bytes : id_bytes) + sizeof(int32_t);
    require(call.exchange->hold(ids.size() * per_token));
    Json rest = {{"count", ids.size()}, {"model", model.name()}};
    if (!call.warnings.empty()) rest["warnings"] = call.warnings;
    // As text: a value for each token would take ten times as much.
    std::string text = "{\"tokens\":[";
    for (size_t i = 0; i < ids.size(); ++i) {
        if (i > 0) text += ',';
        if (pieces) {
            const Json piece = std::string(tokenizer.token_bytes(ids[i]));
            text += fmt::format("{{\"id\":{},\"piece\":{}}}", ids[i], to_string(piece));
        } else {
            text += fmt::format("{}", ids[i]);
        }
    }
    text += "]," + to_string(rest).substr(1);
    call.exchange->send({.body = std::move(text)});
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
    const Prompt prompt = make_request_prompt(model.chat(), request, call.turn);
    send(call, {{"prompt", prompt.text}, {"n_tokens", prompt.ids.size()}, {"model", model.name()}});
}

}  // namespace smelt
