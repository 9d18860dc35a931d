// What a model file says about itself, under GGUF's key names whatever the container was
// ("qwen3.block_count", "tokenizer.chat_template"). Other containers' readers translate at the door.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace smelt {

using MetadataValue = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>,
                                   std::vector<double>, std::vector<std::string>>;

class Metadata {
 public:
    void set(std::string key, MetadataValue value) {
        values_.insert_or_assign(std::move(key), std::move(value));
    }

    void erase_prefix(std::string_view prefix) {
        std::erase_if(values_, [&](const auto& item) { return item.first.starts_with(prefix); });
    }

    const MetadataValue* find(std::string_view key) const;

    // The value under `key`; nullopt where the key is missing. An integer serves as a double. Throws Error
    // naming the key where the type is another.
    std::optional<bool> get_bool(std::string_view key) const;
    std::optional<int64_t> get_int(std::string_view key) const;
    std::optional<double> get_double(std::string_view key) const;
    const std::string* get_string(std::string_view key) const;
    const std::vector<int64_t>* get_ints(std::string_view key) const;
    const std::vector<double>* get_doubles(std::string_view key) const;
    const std::vector<std::string>* get_strings(std::string_view key) const;

    const std::map<std::string, MetadataValue, std::less<>>& values() const { return values_; }

 private:
    std::map<std::string, MetadataValue, std::less<>> values_;
};

}  // namespace smelt
