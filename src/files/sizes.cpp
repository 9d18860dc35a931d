// Reads shapes as "3 [n_heads] head_dim, dim / 2": sums of products, with brackets around the number of
// pieces.
#include "files/sizes.h"

#include <algorithm>
#include <limits>

#include "base/ascii.h"
#include "base/error.h"
#include "base/number.h"
#include "files/limits.h"
#include "files/metadata.h"

namespace smelt {

namespace {

constexpr std::string_view spaces = " ";

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(separator, at), text.size());
        parts.push_back(trimmed(text.substr(at, end - at), spaces));
        at = end + 1;
    }
    return parts;
}

// No tensor has as many elements: a comparison with the file's shape fails, as it should.
int64_t times(int64_t a, int64_t b) {
    int64_t result = 0;
    return __builtin_mul_overflow(a, b, &result) ? std::numeric_limits<int64_t>::max() : result;
}

int64_t plus(int64_t a, int64_t b) {
    int64_t result = 0;
    return __builtin_add_overflow(a, b, &result) ? std::numeric_limits<int64_t>::max() : result;
}

// A dimension's text apart: "3 [n_heads] head_dim".
struct Dimension {
    std::string_view parts, pieces, unit;
    bool brackets;
};

Dimension take_apart(std::string_view text) {
    const size_t open = text.find('[');
    if (open == std::string_view::npos) return {{}, text, {}, false};
    const size_t close = text.find(']', open);
    CHECK(close != std::string_view::npos, "shape {}", text);
    return {trimmed(text.substr(0, open), spaces), trimmed(text.substr(open + 1, close - open - 1), spaces),
            trimmed(text.substr(close + 1), spaces), true};
}

}  // namespace

Sizes::Sizes(const Family& family, const Metadata& metadata) {
    const std::string prefix = std::string(family.architecture) + ".";
    for (const ConfigKey& key : family.config) {
        if (key.size.empty()) continue;
        const MetadataValue* value = metadata.find(prefix + std::string(key.gguf));
        const int64_t* n = value == nullptr ? nullptr : std::get_if<int64_t>(value);
        values_[std::string(key.size)] = n != nullptr && *n >= 0 && *n <= limits::size ? *n : 0;
    }
    // GGUF has the length of all value heads together.
    if (const auto heads = values_.find("lin_v_heads"); heads != values_.end() && heads->second > 0) {
        const MetadataValue* inner = metadata.find(prefix + "ssm.inner_size");
        const int64_t* n = inner == nullptr ? nullptr : std::get_if<int64_t>(inner);
        if (n != nullptr && *n >= 0 && *n <= limits::size) values_["lin_v_dim"] = *n / heads->second;
    }
    if (!family.latent) return;
    // GGUF has the length of a whole head, with the part that is rotated.
    const MetadataValue* head = metadata.find(prefix + "attention.key_length_mla");
    if (head != nullptr && std::holds_alternative<int64_t>(*head)) {
        values_["nope_dim"] =
            std::clamp<int64_t>(std::get<int64_t>(*head), 0, limits::size) - values_["rope_dim"];
    }
}

int64_t Sizes::operator[](std::string_view name) const {
    const auto it = values_.find(name);
    return it == values_.end() ? 0 : it->second;
}

int64_t Sizes::product(std::string_view text) const {
    int64_t n = 1;
    for (const std::string_view factor : split(text, '*')) {
        const std::vector<std::string_view> quotient = split(factor, '/');
        const auto literal = parse_integer<int64_t>(quotient[0]);
        CHECK(literal || values_.contains(quotient[0]), "shape: unknown size {}", factor);
        n = times(n, literal ? *literal : (*this)[quotient[0]]);
        if (quotient.size() > 1) n /= parse_integer<int64_t>(quotient[1]).value();
    }
    return n;
}

int64_t Sizes::sum(std::string_view text) const {
    int64_t n = 0;
    for (const std::string_view term : split(text, '+')) n = plus(n, product(term));
    return n;
}

std::vector<Extent> Sizes::extents(std::string_view shape) const {
    std::vector<Extent> result;
    for (const std::string_view text : split(shape, ',')) {
        const Dimension d = take_apart(text);
        Extent e{.may_be_cut = d.brackets};
        if (!d.parts.empty()) e.parts = product(d.parts);
        if (!d.unit.empty()) e.unit = sum(d.unit);
        e.n = times(times(e.parts, sum(d.pieces)), e.unit);
        result.push_back(e);
    }
    return result;
}

std::vector<int64_t> Sizes::shape(std::string_view text) const {
    std::vector<int64_t> result;
    for (const Extent& e : extents(text)) result.push_back(e.n);
    return result;
}

std::vector<std::string> spelled_out(const Family& family, std::string_view shape) {
    // Names of sizes become keys of config.json, whatever is between them.
    const auto translate = [&](std::string_view text) {
        std::string result;
        for (size_t at = 0; at < text.size();) {
            const size_t end = std::min(text.find_first_of(" *+", at), text.size());
            const std::string_view word = text.substr(at, end - at);
            const auto key = std::ranges::find_if(
                family.config, [&](const ConfigKey& k) { return !word.empty() && k.size == word; });
            result += key == family.config.end() || key->hf.empty() ? word : key->hf;
            if (end < text.size()) result += text[end];
            at = end + 1;
        }
        return result.find('+') == std::string::npos ? result : "(" + result + ")";
    };
    std::vector<std::string> result;
    for (const std::string_view text : split(shape, ',')) {
        const Dimension d = take_apart(text);
        std::string all;
        for (const std::string_view part : {d.parts, d.pieces, d.unit}) {
            if (!part.empty()) all += (all.empty() ? "" : " * ") + translate(part);
        }
        result.push_back(std::move(all));
    }
    return result;
}

}  // namespace smelt
