// Typed look-ups.
#include "files/metadata.h"

#include <array>

#include "base/error.h"

namespace smelt {

namespace {

constexpr std::array type_names = {"true or false",      "an integer",        "a number",         "a string",
                                   "a list of integers", "a list of numbers", "a list of strings"};
static_assert(type_names.size() == std::variant_size_v<MetadataValue>);

template <class T>
const T* get(const Metadata& metadata, std::string_view key) {
    const MetadataValue* value = metadata.find(key);
    if (value == nullptr) return nullptr;
    if (const T* found = std::get_if<T>(value)) return found;
    throw Error("metadata {}: expected {}, found {}", key, type_names[MetadataValue(T{}).index()],
                type_names[value->index()]);
}

template <class T>
std::optional<T> copy(const T* value) {
    return value == nullptr ? std::nullopt : std::optional<T>(*value);
}

}  // namespace

const MetadataValue* Metadata::find(std::string_view key) const {
    const auto it = values_.find(key);
    return it == values_.end() ? nullptr : &it->second;
}

std::optional<bool> Metadata::get_bool(std::string_view key) const {
    return copy(get<bool>(*this, key));
}

std::optional<int64_t> Metadata::get_int(std::string_view key) const {
    return copy(get<int64_t>(*this, key));
}

std::optional<double> Metadata::get_double(std::string_view key) const {
    const MetadataValue* value = find(key);
    if (value != nullptr && std::holds_alternative<int64_t>(*value)) {
        return static_cast<double>(std::get<int64_t>(*value));
    }
    return copy(get<double>(*this, key));
}

const std::string* Metadata::get_string(std::string_view key) const {
    return get<std::string>(*this, key);
}

const std::vector<int64_t>* Metadata::get_ints(std::string_view key) const {
    return get<std::vector<int64_t>>(*this, key);
}

const std::vector<double>* Metadata::get_doubles(std::string_view key) const {
    return get<std::vector<double>>(*this, key);
}

const std::vector<std::string>* Metadata::get_strings(std::string_view key) const {
    return get<std::vector<std::string>>(*this, key);
}

}  // namespace smelt
