// RoPE scaling: metadata in place of the file's own.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/number.h"
#include "files/families.h"
#include "model/rope.h"

namespace smelt {

namespace {

struct Key {
    std::string_view option, metadata;
    double low, high;
};
constexpr Key keys[] = {{"factor", "factor", 1, 1e6},
                        {"original", "original_context_length", 1, 1e9},
                        {"attn_factor", "attn_factor", 0, 1e6},
                        {"beta_fast", "yarn_beta_fast", 1e-6, 1e6},
                        {"beta_slow", "yarn_beta_slow", 1e-6, 1e6}};

std::string_view take_part(std::string_view& text) {
    const size_t end = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return part;
}

void set_key(Metadata& m, const std::string& prefix, std::string_view part) {
    const size_t equals = part.find('=');
    const std::string_view name = part.substr(0, equals);
    const auto key = std::ranges::find(keys, name, &Key::option);
    if (key == std::end(keys) || equals == std::string_view::npos) {
        throw Error(
            "RoPE scaling: expected factor=, original=, attn_factor=, beta_fast= or beta_slow=, found "
            "\"{}\"",
            part);
    }
    const std::string_view text = part.substr(equals + 1);
    const double value = parse_real(text).value_or(NAN);
    const bool whole = key->option != "original" || value == std::floor(value);
    if (!whole || !(value >= key->low && value <= key->high)) {
        throw Error("RoPE scaling: {}: expected a number of {} to {}, found \"{}\"", name, key->low,
                    key->high, text);
    }
    if (key->option == "original") {
        m.set(prefix + std::string(key->metadata), static_cast<int64_t>(value));
    } else {
        m.set(prefix + std::string(key->metadata), value);
    }
}

// What the model was trained with before any stretching.
int64_t original_context(const Metadata& m, const std::string& architecture) {
    if (const auto n = m.get_int(architecture + ".rope.scaling.original_context_length")) return *n;
    const int64_t context = m.get_int(architecture + ".context_length").value_or(0);
    const Family* family = family_of(m);
    return family != nullptr && context == family->said_context ? family->trained_context : context;
}

}  // namespace

std::shared_ptr<const ModelFile> override_rope_scaling(std::shared_ptr<const ModelFile> file,
                                                       std::string_view scaling) {
    if (scaling.empty()) return file;
    const std::string* name = file->metadata.get_string("general.architecture");
    if (name == nullptr) throw Error("{}: general.architecture: missing", file->path.string());
    const std::string prefix = *name + ".rope.scaling.", context_key = *name + ".context_length";
    const int64_t original = original_context(file->metadata, *name);

    auto result = std::make_shared<ModelFile>(*file);
    Metadata& m = result->metadata;
    m.erase_prefix(prefix);
    // GGUF's form of Llama 3's scaling.
    std::erase_if(result->tensors, [](const TensorView& t) {
        return t.name == "rope_freqs.weight" || t.name.starts_with("rope_factors_");
    });

    const std::string type(take_part(scaling));
    if (type == "none") {
        if (!scaling.empty()) throw Error("RoPE scaling: none: expected no more, found \"{}\"", scaling);
        m.set(context_key, original);
        return result;
    }
    if (type != "yarn" && type != "linear") {
        throw Error("RoPE scaling: expected none, linear or yarn, found \"{}\"", type);
    }
    m.set(prefix + "type", type);
    m.set(prefix + "factor", type == "yarn" ? 4.0 : 2.0);
    m.set(prefix + "original_context_length", original);
    while (!scaling.empty()) set_key(m, prefix, take_part(scaling));
    const double context = *m.get_double(prefix + "factor") *
                           static_cast<double>(*m.get_int(prefix + "original_context_length"));
    m.set(context_key, static_cast<int64_t>(std::min(context, 1e9)));
    return result;
}

}  // namespace smelt
