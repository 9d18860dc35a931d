// Writes tokenizer.json and the vocabulary's part of tokenizer_config.json as Hugging Face's libraries read
// them.
#include "base/error.h"
#include "text/byte_map.h"
#include "text/sentencepiece.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

std::string spelling(const Vocabulary& v, int32_t id) {
    if (v.sentencepiece) return sentencepiece_spelling(v, id);
    const std::string& token = v.tokens[static_cast<size_t>(id)];
    return v.types[static_cast<size_t>(id)] == TokenType::normal ? spell_bytes(token) : token;
}

Json byte_level(bool add_prefix_space, bool use_regex) {
    return {{"type", "ByteLevel"},
            {"add_prefix_space", add_prefix_space},
            {"trim_offsets", false},
            {"use_regex", use_regex}};
}

Json replace(std::string_view from, std::string_view to) {
    return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

Json normalizer(const Vocabulary& v) {
    if (!v.sentencepiece) return v.nfc ? Json{{"type", "NFC"}} : Json();
    Json parts = Json::array();
    if (v.prefix_always) parts.push_back({{"type", "Prepend"}, {"prepend", space_mark}});
    parts.push_back(replace(" ", space_mark));
    return {{"type", "Sequence"}, {"normalizers", parts}};
}

Json metaspace(const Vocabulary& v) {
    const bool prefix = v.add_prefix_space && !v.prefix_always;
    if (!prefix && v.patterns.empty()) return {};
    if (!v.patterns.empty() && (v.patterns.size() > 1 || v.patterns[0] != metaspace_pattern)) {
        throw Error("vocabulary: a SentencePiece vocabulary cannot have the pre-tokenizer patterns {}",
                    to_string(Json(v.patterns)));
    }
    return {{"type", "Metaspace"},
            {"replacement", space_mark},
            {"prepend_scheme", !prefix         ? "never"
                               : v.prefix_once ? "first"
                                               : "always"},
            {"split", !v.patterns.empty()}};
}

Json decoder(const Vocabulary& v) {
    if (!v.sentencepiece) return byte_level(false, false);
    Json parts = {replace(space_mark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
    if (v.add_prefix_space) {
        parts.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    }
    return {{"type", "Sequence"}, {"decoders", parts}};
}

Json pre_tokenizer(const Vocabulary& v) {
    if (v.sentencepiece) return metaspace(v);
    if (v.patterns.size() == 1 && v.patterns[0] == gpt2_pattern) return byte_level(v.add_prefix_space, true);
    if (v.patterns.empty()) return byte_level(v.add_prefix_space, false);
    if (v.add_prefix_space) {
        throw Error(
            "vocabulary: tokenizer.json has no prefix space together with the pre-tokenizer patterns {}",
            to_string(Json(v.patterns)));
    }
    Json parts = Json::array();
    for (const std::string& pattern : v.patterns) {
        parts.push_back({{"type", "Split"},
                         {"pattern", {{"Regex", pattern}}},
                         {"behavior", "Isolated"},
                         {"invert", false}});
    }
    parts.push_back(byte_level(false, false));
    return {{"type", "Sequence"}, {"pretokenizers", parts}};
}

Json post_processor(const Vocabulary& v) {
    const bool bos = v.add_bos && v.bos >= 0, eos = v.add_eos && v.eos >= 0;
    if (!bos && !eos) return v.sentencepiece ? Json() : byte_level(false, false);
    Json single = Json::array(), pair = Json::array(), tokens = Json::object();
    const auto add_special = [&](Json& list, int32_t id, int type) {
        const std::string name = spelling(v, id);
        list.push_back({{"SpecialToken", {{"id", name}, {"type_id", type}}}});
        tokens[name] = {{"id", name}, {"ids", Json::array({id})}, {"tokens", Json::array({name})}};
    };
    const auto add_sequence = [&](Json& list, const char* name, int type) {
        if (bos) add_special(list, v.bos, type);
        list.push_back({{"Sequence", {{"id", name}, {"type_id", type}}}});
        if (eos) add_special(list, v.eos, type);
    };
    add_sequence(single, "A", 0);
    add_sequence(pair, "A", 0);
    add_sequence(pair, "B", 1);
    return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

Json added_token(const Vocabulary& v, const AddedToken& token) {
    return {{"content", v.tokens[static_cast<size_t>(token.id)]},
            {"single_word", token.single_word},
            {"lstrip", token.lstrip},
            {"rstrip", token.rstrip},
            {"normalized", token.normalized},
            {"special", token.special}};
}

Json added_tokens(const Vocabulary& v) {
    Json list = Json::array();
    for (const AddedToken& token : v.added) {
        Json entry = {{"id", token.id}};
        entry.update(added_token(v, token));
        list.push_back(std::move(entry));
    }
    return list;
}

}  // namespace

// The two long lists are put together as text: as Json they would take seconds.
std::string write_vocabulary_json(const Vocabulary& v) {
    const auto text = [](const auto& value) { return to_string(Json(value)); };
    std::string out = R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":)";
    out += to_string(added_tokens(v));
    out += R"(,"normalizer":)" + to_string(normalizer(v));
    out += R"(,"pre_tokenizer":)" + to_string(pre_tokenizer(v));
    out += R"(,"post_processor":)" + to_string(post_processor(v));
    out += R"(,"decoder":)" + to_string(decoder(v));
    out += R"(,"model":{"type":"BPE","dropout":null,"unk_token":)";
    out += v.unk >= 0 ? text(spelling(v, v.unk)) : "null";
    out += fmt::format(
        R"(,"continuing_subword_prefix":{0},"end_of_word_suffix":{0},"fuse_unk":{1},"byte_fallback":{1},)",
        v.sentencepiece ? "null" : R"("")", v.sentencepiece);
    out += fmt::format(R"("ignore_merges":{},"vocab":{{)", v.ignore_merges);

    // Tokens that merges make, and control tokens that text never makes, are the model's; the others stand in
    // added_tokens alone.
    std::vector<bool> in_model(v.tokens.size());
    for (size_t id = 0; id < v.tokens.size(); ++id) {
        in_model[id] = v.types[id] == TokenType::normal || (v.sentencepiece && !v.tokens[id].empty());
    }
    for (const Merge& m : v.merges) {
        for (const int32_t id : {m.left, m.right, m.result}) in_model[static_cast<size_t>(id)] = true;
    }
    const auto model_spelling = [&](int32_t id) {
        return v.sentencepiece ? sentencepiece_spelling(v, id)
                               : spell_bytes(v.tokens[static_cast<size_t>(id)]);
    };
    const char* comma = "";
    for (int32_t id = 0; id < v.n_tokens(); ++id) {
        if (!in_model[static_cast<size_t>(id)]) continue;
        out.append(comma).append(text(model_spelling(id)));
        out.append(":").append(std::to_string(id));
        comma = ",";
    }
    out += R"(},"merges":[)";
    comma = "";
    for (const Merge& m : v.merges) {
        out.append(comma).append(text(model_spelling(m.left) + " " + model_spelling(m.right)));
        comma = ",";
    }
    return out + "]}}";
}

Json write_tokenizer_config(const Vocabulary& v) {
    const auto name = [&](int32_t id) { return id >= 0 ? Json(spelling(v, id)) : Json(); };
    Json decoder = Json::object();
    for (const AddedToken& token : v.added) decoder[std::to_string(token.id)] = added_token(v, token);
    return {{"tokenizer_class", "PreTrainedTokenizerFast"},
            {"add_bos_token", v.add_bos},
            {"add_eos_token", v.add_eos},
            {"add_prefix_space", v.add_prefix_space},
            {"bos_token", name(v.bos)},
            {"eos_token", name(v.eos)},
            {"pad_token", name(v.pad)},
            {"unk_token", name(v.unk)},
            {"clean_up_tokenization_spaces", false},
            {"added_tokens_decoder", decoder}};
}

}  // namespace smelt
