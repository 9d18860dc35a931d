// Matching names against the families' tables, and which of the tables' tensors a model has.
#include "files/families.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "files/limits.h"
#include "files/model_file.h"
#include "files/sizes.h"

namespace smelt {

namespace {

constexpr std::string_view hole = "{}";
constexpr std::string_view stacked_ending = "_exps.weight", single_ending = ".{}.weight";

// The number at the beginning of text as names write it, without leading zeros; it is taken off the text.
std::optional<int64_t> take_number(std::string_view& text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const auto length = static_cast<size_t>(end - text.data());
    if (error != std::errc{} || text[0] == '-' || (text[0] == '0' && length > 1)) return std::nullopt;
    text.remove_prefix(length);
    return value;
}

// The numbers in the holes of a name that fits the pattern, -1 for holes that it has not.
std::optional<std::array<int64_t, 2>> match(std::string_view pattern, std::string_view name) {
    std::array<int64_t, 2> numbers = {-1, -1};
    for (int64_t& number : numbers) {
        const size_t at = pattern.find(hole);
        if (at == std::string_view::npos) break;
        if (!name.starts_with(pattern.substr(0, at)) || name.size() == at) return std::nullopt;
        name.remove_prefix(at);
        pattern.remove_prefix(at + hole.size());
        const auto value = take_number(name);
        if (!value) return std::nullopt;
        number = *value;
    }
    return name == pattern ? std::optional(numbers) : std::nullopt;
}

std::string fill(std::string_view pattern, int64_t layer, int64_t expert = -1) {
    std::string name(pattern);
    for (const int64_t number : {layer, expert}) {
        if (const size_t at = name.find(hole); at != std::string::npos) {
            name.replace(at, hole.size(), std::to_string(number));
        }
    }
    return name;
}

// "blk.{}.ffn_up.{}.weight" for "blk.{}.ffn_up_exps.weight".
std::string single_name(const TensorRule& rule) {
    std::string name(rule.gguf);
    if (name.ends_with(stacked_ending)) {
        name.replace(name.size() - stacked_ending.size(), stacked_ending.size(), single_ending);
    }
    return name;
}

}  // namespace

const Family* family_of(const Metadata& metadata) {
    const MetadataValue* architecture = metadata.find("general.architecture");
    if (architecture == nullptr || !std::holds_alternative<std::string>(*architecture)) return nullptr;
    const auto& name = std::get<std::string>(*architecture);
    // What a reader found out.
    if (const MetadataValue* type = metadata.find("smelt.model_type"); type != nullptr) {
        const auto* text = std::get_if<std::string>(type);
        const Family* f = text == nullptr ? nullptr : family_of_model_type(*text);
        if (f != nullptr && f->architecture == name) return f;
    }
    const MetadataValue* experts = metadata.find(name + ".expert_count");
    const bool mixture = experts != nullptr && *experts != MetadataValue(int64_t{0});
    const Family* found = nullptr;
    for (const Family* f : all_families()) {
        if (f->architecture != name || f->mixture != mixture) continue;
        if (f->gguf_key.empty()) {
            if (found == nullptr) found = f;
        } else if (metadata.find(fmt::format("{}.{}", name, f->gguf_key)) != nullptr) {
            return f;
        }
    }
    return found;
}

const Family* family_of_model_type(std::string_view model_type) {
    const auto it = std::ranges::find(all_families(), model_type, &Family::model_type);
    return it == all_families().end() ? nullptr : *it;
}

std::optional<RuleMatch> match_hf(const Family& family, std::string_view name) {
    const std::string_view first = family.tensors.front().hf;
    const std::string prefixed = fmt::format("{}{}", first.substr(0, first.find('.') + 1), name);
    for (const std::string_view candidate : {name, std::string_view(prefixed)}) {
        for (const TensorRule& rule : family.tensors) {
            if (rule.hf.empty()) continue;
            if (const auto n = match(rule.hf, candidate)) return RuleMatch{&rule, (*n)[0], (*n)[1]};
        }
    }
    return std::nullopt;
}

std::optional<RuleMatch> match_gguf(const Family& family, std::string_view name) {
    for (const TensorRule& rule : family.tensors) {
        if (rule.gguf.empty()) continue;
        if (const auto n = match(rule.gguf, name)) return RuleMatch{&rule, (*n)[0], -1};
        if (!has_experts_apart(rule)) continue;
        if (const auto n = match(single_name(rule), name)) return RuleMatch{&rule, (*n)[0], (*n)[1]};
    }
    return std::nullopt;
}

std::string hf_name(const RuleMatch& m) {
    return fill(m.rule->hf, m.layer, m.expert);
}

std::string gguf_name(const RuleMatch& m) {
    return m.expert < 0 ? fill(m.rule->gguf, m.layer) : fill(single_name(*m.rule), m.layer, m.expert);
}

bool has_experts_apart(const TensorRule& rule) {
    const size_t first = rule.hf.find(hole);
    return first != std::string_view::npos && rule.hf.find(hole, first + 1) != std::string_view::npos;
}

const TensorRule* find_rule(const Family& family, std::string_view gguf) {
    const auto it = std::ranges::find(family.tensors, gguf, &TensorRule::gguf);
    return it == family.tensors.end() ? nullptr : &*it;
}

namespace {

// Which of a family's tensors one model has, and where.
class Presences {
 public:
    Presences(const Family& family, const Metadata& metadata)
        : metadata_(metadata), sizes_(family, metadata) {
        tied_ = metadata.get_bool("smelt.tie_word_embeddings").value_or(true);
        n_layers_ = std::min(sizes_["n_layers"], limits::layers);
        n_dense_ = family.mixture ? std::min(sizes_["n_dense_layers"], n_layers_) : n_layers_;
        if (family.recurrent) {
            recurrent_ = metadata.get_ints(fmt::format("{}.attention.recurrent_layers", family.architecture));
        }
    }

    int64_t n_layers(const TensorRule& rule) const {
        const bool layered = (rule.gguf.empty() ? rule.hf : rule.gguf).find(hole) != std::string_view::npos;
        return layered ? n_layers_ : 1;
    }

    bool has(const TensorRule& rule, int64_t layer, bool gguf) const {
        if ((gguf ? rule.gguf : rule.hf).empty()) return false;
        if (!rule.flag.empty()) {
            const std::string key = fmt::format("smelt.{}", rule.flag);
            if (!metadata_.get_bool(key).value_or(false)) return false;
        }
        switch (rule.presence) {
            case Presence::always:
                return true;
            case Presence::optional:
                return false;
            case Presence::own_head:
                return !tied_;
            case Presence::dense_layers:
                return layer < n_dense_;
            case Presence::expert_layers: {
                const std::vector<int64_t> shape = sizes_.shape(rule.shape);
                return layer >= n_dense_ &&
                       std::ranges::find(shape, 0) == shape.end();  // shared ones may be none
            }
            case Presence::attention_layers:
                return !is_recurrent(layer);
            case Presence::recurrent_layers:
                return is_recurrent(layer);
            case Presence::hugging_face:
                return !gguf;
            case Presence::gguf:
                return gguf;
            case Presence::hugging_face_recurrent:
                return !gguf && is_recurrent(layer);
            case Presence::gguf_recurrent:
                return gguf && is_recurrent(layer);
        }
        return false;
    }

    int64_t n_experts() const { return std::min(sizes_["n_experts"], limits::experts); }

 private:
    bool is_recurrent(int64_t layer) const {
        return recurrent_ != nullptr && layer < std::ssize(*recurrent_) &&
               (*recurrent_)[static_cast<size_t>(layer)] != 0;
    }

    const Metadata& metadata_;
    Sizes sizes_;
    bool tied_;
    int64_t n_layers_, n_dense_;
    const std::vector<int64_t>* recurrent_ = nullptr;
};

}  // namespace

std::vector<RuleMatch> list_tensors(const Family& family, const Metadata& metadata, bool gguf) {
    const Presences presences(family, metadata);
    std::vector<RuleMatch> result;
    for (const TensorRule& rule : family.tensors) {
        const int64_t n_layers = presences.n_layers(rule);
        for (int64_t layer = 0; layer < n_layers; ++layer) {
            if (!presences.has(rule, layer, gguf)) continue;
            if (gguf || !has_experts_apart(rule)) {
                result.push_back({&rule, layer, -1});
            } else {
                for (int64_t e = 0; e < presences.n_experts(); ++e) result.push_back({&rule, layer, e});
            }
        }
    }
    return result;
}

std::vector<std::string> missing_tensors(const ModelFile& model) {
    const Family* family = family_of(model.metadata);
    if (family == nullptr) return {};
    const Presences presences(*family, model.metadata);
    std::vector<std::string> present;
    for (const TensorView& t : model.tensors) present.push_back(t.name);
    for (const UnsupportedTensor& t : model.unsupported) present.push_back(t.name);
    std::ranges::sort(present);
    const auto has = [&](const RuleMatch& m) { return std::ranges::binary_search(present, gguf_name(m)); };
    std::vector<std::string> missing;
    for (const TensorRule& rule : family->tensors) {
        // Either form will do: GGUF files of old have Hugging Face's of some.
        if (rule.presence >= Presence::hugging_face) continue;
        for (int64_t layer = 0; layer < presences.n_layers(rule); ++layer) {
            const bool gguf = model.container != Container::hugging_face;
            if (!presences.has(rule, layer, gguf) || has({&rule, layer, -1})) continue;
            const bool apart = has_experts_apart(rule) && (!gguf || has({&rule, layer, 0}));
            for (int64_t e = apart ? 0 : -1; e < (apart ? presences.n_experts() : 0); ++e) {
                const RuleMatch m{&rule, layer, e};
                if (has(m)) continue;
                missing.push_back(gguf_name(m));
                break;
            }
        }
    }
    return missing;
}

}  // namespace smelt
