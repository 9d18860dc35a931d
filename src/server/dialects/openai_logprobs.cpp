// A token may be part of a character; its text is then what is left of it.
#include "server/dialects/openai_logprobs.h"

namespace smelt {

namespace {

// Bytes that begin a character: the others of it count for nothing, wherever a token is cut.
size_t n_characters(std::string_view text) {
    return static_cast<size_t>(
        std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

Json OpenAiLogprobs::chat_entry(int32_t id, float logprob) const {
    const std::string text = text_of(id);
    Json bytes = Json::array();
    for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
    return {{"token", text}, {"logprob", logprob}, {"bytes", std::move(bytes)}};
}

Json OpenAiLogprobs::of_chat(std::span<const TokenEvent> tokens) const {
    Json content = Json::array();
    for (const TokenEvent& t : tokens) {
        Json entry = chat_entry(t.id, t.logprob);
        entry["top_logprobs"] = Json::array();
        for (const TokenLogprob& top : t.top)
            entry["top_logprobs"].push_back(chat_entry(top.id, top.logprob));
        content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json OpenAiLogprobs::of_completion(std::span<const TokenEvent> tokens, size_t& offset) const {
    Json names = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
    for (const TokenEvent& t : tokens) {
        const std::string text = text_of(t.id);
        const bool first = t.of_prompt && names.empty();
        names.push_back(text);
        values.push_back(first ? Json() : Json(t.logprob));
        offsets.push_back(offset);
        offset += n_characters(text);
        Json top = first ? Json() : Json::object();
        for (const TokenLogprob& l : t.top) top[text_of(l.id)] = l.logprob;
        if (!first) top[text] = t.logprob;
        tops.push_back(std::move(top));
    }
    return {{"tokens", std::move(names)},
            {"token_logprobs", std::move(values)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
}

Json OpenAiLogprobs::of_prompt(std::span<const TokenEvent> tokens) const {
    Json all = Json::array();
    for (const TokenEvent& t : tokens) {
        if (all.empty()) {
            all.push_back(nullptr);
            continue;
        }
        const auto entry = [&](int32_t id, float logprob, Json rank) -> Json {
            return {{"logprob", logprob}, {"rank", std::move(rank)}, {"decoded_token", text_of(id)}};
        };
        Json place = {{std::to_string(t.id), entry(t.id, t.logprob, nullptr)}};
        for (size_t i = 0; i < t.top.size(); ++i) {
            place[std::to_string(t.top[i].id)] = entry(t.top[i].id, t.top[i].logprob, i + 1);
        }
        all.push_back(std::move(place));
    }
    return all;
}

}  // namespace smelt
