// model.safetensors.index.json and pytorch_model.bin.index.json: which file of the folder holds which tensor.
// Read as a stream, because models with experts have tens of thousands of entries.
#include <unordered_set>

#include "base/error.h"
#include "base/json.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

namespace {

class IndexHandler : public nlohmann::json_sax<Json> {
 public:
    IndexHandler(const std::string& source, std::string_view ending) : source_(source), ending_(ending) {}

    bool null() override { return other(); }
    bool boolean(bool) override { return other(); }
    bool number_integer(number_integer_t) override { return other(); }
    bool number_unsigned(number_unsigned_t) override { return other(); }
    bool number_float(number_float_t, const string_t&) override { return other(); }
    bool binary(binary_t&) override { return other(); }

    bool string(string_t& text) override {
        if (!in_map_) return true;
        if (depth_ != 2) return other();
        // A shard lies beside its index; anything else reads files that are no part of the model.
        if (text.find_first_of("/\\") != std::string::npos || !text.ends_with(ending_)) {
            throw Error("{}: weight_map: {}: expected a {} file of this folder, found '{}'", source_, name_,
                        ending_, check_name(text, "weight_map: file name", source_));
        }
        entries.push_back({name_, check_name(text, "weight_map: file name", source_)});
        return true;
    }

    bool start_object(size_t) override {
        if (in_map_ && depth_ != 1) return other();
        found = found || in_map_;
        ++depth_;
        return true;
    }
    bool start_array(size_t) override {
        other();
        ++depth_;
        return true;
    }
    bool end_object() override { return leave(); }
    bool end_array() override { return leave(); }

    bool key(string_t& text) override {
        if (depth_ == 1) in_map_ = text == "weight_map";
        if (depth_ != 2 || !in_map_) return true;
        name_ = check_name(text, "weight_map: tensor name", source_);
        if (!names_.insert(text).second) throw Error("{}: weight_map: {} occurs twice", source_, name_);
        if (entries.size() >= limits::tensors) {
            throw Error("{}: weight_map: more than {} tensors", source_, limits::tensors);
        }
        return true;
    }

    bool parse_error(size_t position, const std::string&, const Json::exception&) override {
        throw Error("{}: not valid JSON at byte {}", source_, position);
    }

    std::vector<ShardEntry> entries;
    bool found = false;

 private:
    bool other() const {
        if (!in_map_) return true;
        if (depth_ < 2) throw Error("{}: expected an object weight_map", source_);
        throw Error("{}: weight_map: {}: expected a file name", source_, name_);
    }
    bool leave() {
        if (--depth_ == 1) in_map_ = false;
        return true;
    }

    const std::string& source_;
    std::string_view ending_;
    std::unordered_set<std::string> names_;
    std::string name_;
    int depth_ = 0;
    bool in_map_ = false;
};

}  // namespace

std::vector<ShardEntry> read_shard_index(std::string_view text, const std::string& source,
                                         std::string_view ending) {
    if (text.size() > limits::shard_index_bytes) {
        throw Error("{}: {} bytes, at most {} are accepted", source, text.size(), limits::shard_index_bytes);
    }
    IndexHandler handler(source, ending);
    Json::sax_parse(text, &handler);
    if (!handler.found) throw Error("{}: expected an object weight_map", source);
    return std::move(handler.entries);
}

}  // namespace smelt
