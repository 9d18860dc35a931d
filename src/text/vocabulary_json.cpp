// Reads Hugging Face's tokenizer.json and tokenizer_config.json. What it says and smelt does not do is
// refused by name rather than tokenized wrongly.
#include <algorithm>

#include "base/error.h"
#include "text/bpe.h"
#include "text/byte_map.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_json.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

const Json null_json;

// Member of an object, null where either is missing.
const Json& member(const Json& object, const char* name) {
    if (!object.is_object()) return null_json;
    const auto it = object.find(name);
    return it == object.end() ? null_json : *it;
}

bool flag(const Json& object, const char* name, bool otherwise = false) {
    const Json& v = member(object, name);
    return v.is_boolean() ? v.get<bool>() : otherwise;
}

std::string text_of(const Json& object, const char* name) {
    const Json& v = member(object, name);
    return v.is_string() ? v.get<std::string>() : "";
}

class Reader {
 public:
    Reader(const TokenizerJson& json, std::string_view source) : json_(json), source_(source) {}

    Vocabulary read() {
        read_model();
        read_added_tokens();
        read_normalizer(member(json_.rest, "normalizer"));
        read_pre_tokenizer(member(json_.rest, "pre_tokenizer"));
        if (!byte_level_ && !v_.sentencepiece) {
            throw Error(
                "{}: pre_tokenizer: expected a ByteLevel or Metaspace one, or model.byte_fallback; found "
                "none",
                source_);
        }
        read_post_processor(member(json_.rest, "post_processor"));
        check_vocabulary(v_, source_);
        return std::move(v_);
    }

 private:
    [[noreturn]] void unsupported(std::string_view what, const Json& found) const {
        throw Error("{}: {} {} is not supported", source_, what, to_string(found).substr(0, 200));
    }

    void read_model() {
        const Json& model = member(json_.rest, "model");
        const Json& type = member(model, "type");
        if (type.is_null() ? json_.merges.empty() : type != "BPE") unsupported("model.type", type);
        v_.sentencepiece = flag(model, "byte_fallback") || has_metaspace(member(json_.rest, "pre_tokenizer"));
        for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
            if (!text_of(model, name).empty()) unsupported(std::string("model.") + name, model[name]);
        }
        v_.ignore_merges = flag(model, "ignore_merges");

        for (size_t i = 0; i < json_.tokens.size(); ++i) {
            const std::string& spelling = json_.tokens[i];
            std::string& token = token_at(json_.ids[i], spelling);
            if (!token.empty()) {
                throw Error("{}: model.vocab: id {} for {} and for {}", source_, json_.ids[i],
                            show_token(token), show_token(spelling));
            }
            TokenType& kind = v_.types[static_cast<size_t>(json_.ids[i])];
            kind = TokenType::normal;
            if (const auto byte = unspell_byte(spelling); v_.sentencepiece && byte) {
                token.assign(1, *byte);
                kind = TokenType::byte;
            } else if (v_.sentencepiece) {
                token = unspell_spaces(spelling);
            } else {
                // A token with a character outside the map is never made from text, but stands for itself.
                token = unspell_bytes(spelling).value_or(spelling);
            }
        }
        read_merges();
        const Json& unk = member(model, "unk_token");
        if (unk.is_string()) {
            const auto it = std::find(json_.tokens.begin(), json_.tokens.end(), unk.get<std::string>());
            if (it != json_.tokens.end()) v_.unk = json_.ids[static_cast<size_t>(it - json_.tokens.begin())];
        }
    }

    void read_merges() {
        TokenTable table(json_.tokens);
        for (size_t i = 0; i < json_.tokens.size(); ++i) table.insert(static_cast<int32_t>(i));
        const auto id_of = [&](const std::string& spelling) {
            const int32_t i = table.find(spelling);
            if (i < 0) {
                throw Error("{}: model.merges: entry {}: token {} is not in model.vocab", source_,
                            v_.merges.size(), show_token(spelling));
            }
            return json_.ids[static_cast<size_t>(i)];
        };
        v_.merges.reserve(json_.merges.size());
        for (const auto& [left, right] : json_.merges) {
            v_.merges.push_back({id_of(left), id_of(right), id_of(left + right)});
        }
    }

    // Ids may have gaps, but not such that a small file asks for much memory.
    std::string& token_at(int64_t id, std::string_view text) {
        constexpr size_t max_gap = 65536;
        if (id < 0 || static_cast<size_t>(id) > json_.tokens.size() + max_gap) {
            throw Error("{}: token {}: id {} is too far from the {} tokens of the file", source_,
                        show_token(text), id, json_.tokens.size());
        }
        const auto i = static_cast<size_t>(id);
        if (i >= v_.tokens.size()) {
            v_.tokens.resize(i + 1);
            v_.types.resize(i + 1, TokenType::unused);
        }
        return v_.tokens[i];
    }

    void read_added_tokens() {
        const Json& added = member(json_.rest, "added_tokens");
        if (!added.is_null() && !added.is_array()) unsupported("added_tokens", added);
        for (const Json& entry : added) {
            const Json& id = member(entry, "id");
            const Json& content = member(entry, "content");
            if (!id.is_number_integer() || !content.is_string()) {
                throw Error("{}: added_tokens: expected id and content, found {}", source_,
                            to_string(entry).substr(0, 200));
            }
            const AddedToken token{
                .id = 0,
                .special = flag(entry, "special"),
                .lstrip = flag(entry, "lstrip"),
                .rstrip = flag(entry, "rstrip"),
                .single_word = flag(entry, "single_word"),
                // SentencePiece's normaliser only marks spaces.
                .normalized = !v_.sentencepiece && flag(entry, "normalized", !flag(entry, "special"))};
            add_token(id.get<int64_t>(), content.get<std::string>(), token);
        }
    }

    void add_token(int64_t id, const std::string& content, AddedToken token) {
        token_at(id, content) = content;
        token.id = static_cast<int32_t>(id);
        v_.types[static_cast<size_t>(id)] = token.special ? TokenType::control : TokenType::user_defined;
        v_.added.push_back(token);
    }

    void read_normalizer(const Json& normalizer) {
        if (normalizer.is_null()) return;
        const std::string type = text_of(normalizer, "type");
        if (type == "NFC") {
            v_.nfc = true;
        } else if (type == "Sequence") {
            for (const Json& part : member(normalizer, "normalizers")) read_normalizer(part);
        } else if (v_.sentencepiece && type == "Prepend" && text_of(normalizer, "prepend") == space_mark) {
            v_.add_prefix_space = v_.prefix_always = true;
        } else if (v_.sentencepiece && type == "Replace" && text_of(normalizer, "content") == space_mark &&
                   text_of(member(normalizer, "pattern"), "String") == " ") {
            // As everywhere in SentencePiece.
        } else {
            unsupported("normalizer", normalizer);
        }
    }

    static bool has_metaspace(const Json& p) {
        const Json& parts = member(p, "pretokenizers");
        return text_of(p, "type") == "Metaspace" || std::any_of(parts.begin(), parts.end(), has_metaspace);
    }

    void read_metaspace(const Json& p) {
        const Json& mark = member(p, "replacement");
        if (!mark.is_null() && mark != space_mark) unsupported("pre_tokenizer", p);
        std::string scheme = text_of(p, "prepend_scheme");
        if (scheme.empty()) scheme = flag(p, "add_prefix_space", true) ? "always" : "never";
        if (scheme != "never") v_.add_prefix_space = true;
        v_.prefix_once = scheme == "first" && !v_.prefix_always;
        if (flag(p, "split", true)) v_.patterns.emplace_back(metaspace_pattern);
    }

    void read_pre_tokenizer(const Json& p) {
        if (p.is_null()) return;
        const std::string type = text_of(p, "type");
        if (type == "Sequence") {
            for (const Json& part : member(p, "pretokenizers")) read_pre_tokenizer(part);
        } else if (byte_level_) {
            unsupported("pre_tokenizer behind ByteLevel:", p);
        } else if (type == "ByteLevel") {
            byte_level_ = true;
            v_.add_prefix_space = flag(p, "add_prefix_space", true);
            if (v_.add_prefix_space && !v_.patterns.empty()) unsupported("pre_tokenizer behind Split:", p);
            if (flag(p, "use_regex", true)) v_.patterns.emplace_back(gpt2_pattern);
        } else if (type == "Metaspace") {
            read_metaspace(p);
        } else if (v_.sentencepiece && type == "Split" && text_of(member(p, "pattern"), "String") == " ") {
            // Gemma's: behind the normaliser there are no spaces.
        } else if (type == "Digits") {
            v_.patterns.emplace_back(flag(p, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)");
        } else if (type == "Split") {
            read_split(p);
        } else {
            unsupported("pre_tokenizer", p);
        }
    }

    void read_split(const Json& p) {
        const Json& pattern = member(p, "pattern");
        std::string regex = text_of(pattern, "Regex");
        for (const char c : text_of(pattern, "String")) {
            if (static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c))) {
                regex += '\\';
            }
            regex += c;
        }
        if (regex.empty()) unsupported("pre_tokenizer", p);
        // Keeping just the matches is the same as long as the pattern leaves nothing between them.
        const bool isolated = text_of(p, "behavior") == "Isolated";
        const bool matches_only =
            text_of(p, "behavior") == "Removed" && flag(p, "invert") &&
            (regex == qwen2_pattern || regex == llama3_pattern || regex == gpt2_pattern ||
             regex == o200k_pattern || regex == tekken_pattern);
        if (!isolated && !matches_only) unsupported("pre_tokenizer", p);
        v_.patterns.push_back(std::move(regex));
    }

    // Only a template with BOS in front or EOS behind, or none.
    void read_post_processor(const Json& p) {
        const std::string type = text_of(p, "type");
        if (p.is_null() || type == "ByteLevel") return;
        if (type == "Sequence") {
            for (const Json& part : member(p, "processors")) read_post_processor(part);
            return;
        }
        if (type != "TemplateProcessing") unsupported("post_processor", p);
        bool seen_text = false;
        for (const Json& part : member(p, "single")) {
            const Json& special = member(part, "SpecialToken");
            if (special.is_null()) {
                seen_text = true;
                continue;
            }
            const Json& ids =
                member(member(member(p, "special_tokens"), text_of(special, "id").c_str()), "ids");
            bool& add = seen_text ? v_.add_eos : v_.add_bos;
            if (add || !ids.is_array() || ids.size() != 1 || !ids[0].is_number_integer()) {
                unsupported("post_processor", p);
            }
            add = true;
            const auto id = ids[0].get<int64_t>();
            if (id < 0 || id >= v_.n_tokens()) unsupported("post_processor", p);
            (seen_text ? v_.eos : v_.bos) = static_cast<int32_t>(id);
        }
    }

    const TokenizerJson& json_;
    std::string_view source_;
    Vocabulary v_;
    bool byte_level_ = false;
};

}  // namespace

Vocabulary read_vocabulary_json(std::string_view text, std::string_view source) {
    return Reader(parse_tokenizer_json(text, source), source).read();
}

Vocabulary read_vocabulary_and_merges(std::string_view vocab, std::string_view merges,
                                      std::string_view source) {
    Json lines = Json::array();
    while (!merges.empty()) {
        const size_t end = std::min(merges.size(), merges.find('\n'));
        std::string_view line = merges.substr(0, end);
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (!line.empty() && !line.starts_with("#version")) lines.push_back(line);
        merges.remove_prefix(std::min(merges.size(), end + 1));
    }
    std::string text =
        R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"type":"BPE",)";
    text.append(R"("merges":)").append(to_string(lines)).append(R"(,"vocab":)").append(vocab).append("}}");
    Vocabulary v = read_vocabulary_json(text, source);
    // GPT-2's one special token, which neither file marks.
    const auto end_of_text = std::find(v.tokens.begin(), v.tokens.end(), "<|endoftext|>");
    if (end_of_text == v.tokens.end()) return v;
    v.bos = v.eos = v.unk = static_cast<int32_t>(end_of_text - v.tokens.begin());
    v.types[static_cast<size_t>(v.eos)] = TokenType::control;
    v.added.push_back({.id = v.eos, .special = true});
    return v;
}

void read_tokenizer_config(Vocabulary& v, std::string_view text, std::string_view source) {
    const Json config = parse_json(text, source);
    const auto id_of = [&](const char* name, int32_t otherwise) {
        const Json& value = member(config, name);
        const std::string token = value.is_object() ? text_of(value, "content") : text_of(config, name);
        if (token.empty()) return value.is_null() && config.contains(name) ? -1 : otherwise;
        const auto it = std::find(v.tokens.rbegin(), v.tokens.rend(), token);  // special tokens are the last
        return it == v.tokens.rend() ? otherwise : static_cast<int32_t>(v.tokens.rend() - it) - 1;
    };
    v.bos = id_of("bos_token", v.bos);
    v.eos = id_of("eos_token", v.eos);
    v.pad = id_of("pad_token", v.pad);
    v.unk = id_of("unk_token", v.unk);
    v.add_bos = flag(config, "add_bos_token", v.add_bos);
    v.add_eos = flag(config, "add_eos_token", v.add_eos);
}

}  // namespace smelt
