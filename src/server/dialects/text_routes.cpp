// What a model's tokenizer and template do, without the model.
#include "server/dialects/read_request.h"
#include "server/routes.h"

namespace smelt {

void tokenize(Call& call) {
    const Json& body = call.body;
    const auto model = call.server.models.choose(read_choice(body, call.key, -1));
    const Tokenizer& tokenizer = model.chat().tokenizer();
    const auto content = get<std::string>(body, "content");
    const auto messages = get<Json>(body, "messages");
    if (content.has_value() == messages.has_value()) {
        throw bad_request("missing_required_parameter", "content",
                          "either content or messages must be given");
    }
    std::vector<int32_t> ids;
    if (messages) {
        ids = make_chat_prompt(model.chat(), *messages, body).ids;
    } else {
        ids = tokenizer.encode(*content, {.add_special = get<bool>(body, "add_special").value_or(false)});
    }
    Json tokens = Json::array();
    const bool pieces = get<bool>(body, "with_pieces").value_or(false);
    for (const int32_t id : ids) {
        if (pieces) {
            tokens.push_back({{"id", id}, {"piece", std::string(tokenizer.token_bytes(id))}});
        } else {
            tokens.push_back(id);
        }
    }
    call.exchange->send(
        {.body =
             to_string(Json{{"tokens", std::move(tokens)}, {"count", ids.size()}, {"model", model.name()}})});
}

void detokenize(Call& call) {
    const auto model = call.server.models.choose(read_choice(call.body, call.key, -1));
    const Tokenizer& tokenizer = model.chat().tokenizer();
    const auto ids = call.body.at("tokens").get<std::vector<int32_t>>();
    for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] >= tokenizer.n_tokens()) {
            throw bad_request("invalid_value", "tokens", "tokens[{}]: expected ids below {}, found {}", i,
                              tokenizer.n_tokens(), ids[i]);
        }
    }
    call.exchange->send(
        {.body = to_string(Json{{"content", tokenizer.decode(ids)}, {"model", model.name()}})});
}

void apply_template(Call& call) {
    const auto model = call.server.models.choose(read_choice(call.body, call.key, -1));
    const Prompt prompt = make_chat_prompt(model.chat(), call.body.at("messages"), call.body,
                                           get<bool>(call.body, "add_generation_prompt").value_or(true));
    call.exchange->send(
        {.body = to_string(
             Json{{"prompt", prompt.text}, {"n_tokens", prompt.ids.size()}, {"model", model.name()}})});
}

}  // namespace smelt
