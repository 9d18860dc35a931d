#include "text/tokenizer_json.h"

#include <limits>

#include "base/error.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

constexpr int deepest = 64;
constexpr size_t max_members = 10'000;  // of one object outside model.vocab
constexpr size_t max_bytes = size_t{256} << 20;

class Handler : public nlohmann::json_sax<Json> {
 public:
    explicit Handler(std::string_view source) : source_(source) {}

    TokenizerJson result;

    bool null() override { return value(nullptr); }
    bool boolean(bool b) override { return value(b); }
    bool number_float(double d, const std::string&) override { return value(d); }
    bool binary(Json::binary_t&) override { return true; }  // not in JSON text

    bool number_integer(int64_t n) override { return in_vocab_ ? fail_id(std::to_string(n)) : value(n); }

    bool number_unsigned(uint64_t n) override {
        if (!in_vocab_) return value(n);
        if (n > static_cast<uint64_t>(std::numeric_limits<int32_t>::max())) fail_id(std::to_string(n));
        result.tokens.push_back(std::move(key_));
        result.ids.push_back(static_cast<int32_t>(n));
        return true;
    }

    bool string(std::string& s) override {
        if (merge_level_ == 0) return value(std::move(s));
        if (merge_level_ == 2) {
            pair_.push_back(std::move(s));
            return true;
        }
        const size_t space = s.find(' ');
        if (space == std::string::npos) fail_merge(show_token(s));
        result.merges.emplace_back(s.substr(0, space), s.substr(space + 1));
        return true;
    }

    bool start_object(size_t) override {
        if (path_is("model", "vocab")) {
            in_vocab_ = true;
            return true;
        }
        return open(Json::object());
    }

    bool key(std::string& k) override {
        key_ = std::move(k);
        if (in_vocab_) return true;
        if (stack_.back()->size() >= max_members) {
            throw Error("{}: an object with more than {} members", source_, max_members);
        }
        path_.back() = key_;
        return true;
    }

    bool end_object() override {
        if (in_vocab_) {
            in_vocab_ = false;
            return true;
        }
        return close();
    }

    bool start_array(size_t) override {
        if (merge_level_ > 0) {
            if (++merge_level_ > 2) fail_merge("a list in a list");
            pair_.clear();
            return true;
        }
        if (path_is("model", "merges")) {
            merge_level_ = 1;
            return true;
        }
        return open(Json::array());
    }

    bool end_array() override {
        if (merge_level_ == 0) return close();
        if (merge_level_ == 2) {
            if (pair_.size() != 2) fail_merge(fmt::format("a list of {}", pair_.size()));
            result.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
        }
        --merge_level_;
        return true;
    }

    bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
        throw Error("{}: not valid JSON: {}", source_, e.what());
    }

 private:
    [[noreturn]] bool fail_id(const std::string& found) {
        throw Error("{}: model.vocab: {}: expected a token id, found {}", source_, show_token(key_), found);
    }
    [[noreturn]] void fail_merge(const std::string& found) {
        throw Error("{}: model.merges: entry {}: expected two tokens, found {}", source_,
                    result.merges.size(), found);
    }

    // Whether the value that begins now is root[outer][inner].
    bool path_is(std::string_view outer, std::string_view inner) const {
        return path_.size() == 2 && path_[0] == outer && path_[1] == inner && !in_vocab_ &&
               merge_level_ == 0 && stack_[0]->is_object() && stack_[1]->is_object();
    }

    Json& place(Json v) {
        if (in_vocab_) fail_id(v.type_name());
        if (merge_level_ > 0) fail_merge(v.type_name());
        if (stack_.empty()) return result.rest = std::move(v);
        Json& parent = *stack_.back();
        if (parent.is_object()) return parent[key_] = std::move(v);
        parent.push_back(std::move(v));
        return parent.back();
    }
    bool value(Json v) {
        place(std::move(v));
        return true;
    }
    bool open(Json v) {
        if (stack_.size() >= static_cast<size_t>(deepest)) {
            throw Error("{}: JSON nested deeper than {} levels", source_, deepest);
        }
        stack_.push_back(&place(std::move(v)));
        path_.emplace_back();
        return true;
    }
    bool close() {
        stack_.pop_back();
        path_.pop_back();
        return true;
    }

    std::string_view source_;
    std::vector<Json*> stack_;       // open objects and arrays of result.rest
    std::vector<std::string> path_;  // the current key in each; empty in arrays
    std::string key_;
    bool in_vocab_ = false;
    int merge_level_ = 0;  // 1: in model.merges, 2: in a pair there
    std::vector<std::string> pair_;
};

}  // namespace

TokenizerJson parse_tokenizer_json(std::string_view text, std::string_view source) {
    if (text.size() > max_bytes) {
        throw Error("{}: {} bytes, at most {} are accepted", source, text.size(), max_bytes);
    }
    Handler handler(source);
    Json::sax_parse(text, &handler);
    return std::move(handler.result);
}

}  // namespace smelt
