// The safetensors container: u64 header length, JSON header, tensor bytes. Knows nothing of models.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_set>

#include "base/byte_reader.h"
#include "base/json.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

namespace {

struct DType {
    std::string_view name;
    uint64_t bits;
};
constexpr std::array dtypes = {
    DType{"F64", 64},    DType{"F32", 32}, DType{"F16", 16},    DType{"BF16", 16},   DType{"I64", 64},
    DType{"I32", 32},    DType{"I16", 16}, DType{"I8", 8},      DType{"U64", 64},    DType{"U32", 32},
    DType{"U16", 16},    DType{"U8", 8},   DType{"BOOL", 8},    DType{"F8_E4M3", 8}, DType{"F8_E5M2", 8},
    DType{"F8_E8M0", 8}, DType{"F4", 4},   DType{"F6_E2M3", 6}, DType{"F6_E3M2", 6}, DType{"C64", 64},
};

struct HeaderEntry {
    std::string name, dtype;
    std::vector<int64_t> shape;
    std::vector<int64_t> offsets;
};

// Takes the header as a stream, so that one with a million entries is read in linear time and a name that
// occurs twice is seen.
class HeaderHandler : public nlohmann::json_sax<Json> {
 public:
    explicit HeaderHandler(const std::string& source) : source_(source) {}

    bool null() override { return value("null"); }
    bool boolean(bool) override { return value("true or false"); }
    bool number_float(number_float_t, const string_t&) override { return value("a fraction"); }
    bool binary(binary_t&) override { return value("binary"); }
    bool number_integer(number_integer_t) override { return value("a negative number"); }

    bool number_unsigned(number_unsigned_t n) override {
        if (depth_ != 3 || list_ == nullptr) return value("a number");
        if (n > limits::elements) throw Error("{}: header: {}: number {} is too large", source_, name(), n);
        if (list_->size() >= limits::dims) {
            throw Error("{}: header: {}: {}: at most {} numbers are accepted", source_, name(), key_,
                        limits::dims);
        }
        list_->push_back(static_cast<int64_t>(n));
        return true;
    }

    bool string(string_t& text) override {
        if (in_metadata_ && depth_ == 2) return true;
        if (depth_ != 2 || key_ != "dtype") return value("a string");
        entries.back().dtype = check_name(text, "header: dtype", source_);
        return true;
    }

    bool start_object(size_t) override {
        if (++depth_ > 2) fail("an object");
        return true;
    }
    bool end_object() override {
        --depth_;
        return true;
    }

    bool key(string_t& text) override {
        if (depth_ == 2) {
            key_ = check_name(text, "header: key", source_);
            return true;
        }
        in_metadata_ = text == "__metadata__";
        if (in_metadata_) return true;
        if (text.size() > limits::tensor_name_bytes) {
            throw Error("{}: header: tensor name of {} bytes, at most {} are accepted", source_, text.size(),
                        limits::tensor_name_bytes);
        }
        check_name(text, "header: tensor name", source_);
        if (entries.size() >= limits::tensors) {
            throw Error("{}: header: more than {} tensors", source_, limits::tensors);
        }
        if (!names_.insert(text).second) throw Error("{}: header: tensor {} occurs twice", source_, text);
        entries.push_back({text, {}, {}, {}});
        return true;
    }

    bool start_array(size_t) override {
        if (depth_ != 2 || in_metadata_) fail("a list");
        if (key_ == "shape") {
            list_ = &entries.back().shape;
        } else if (key_ == "data_offsets") {
            list_ = &entries.back().offsets;
        } else {
            fail("a list");
        }
        if (!list_->empty()) throw Error("{}: header: {}: {} occurs twice", source_, name(), key_);
        ++depth_;
        return true;
    }
    bool end_array() override {
        --depth_;
        list_ = nullptr;
        return true;
    }

    bool parse_error(size_t position, const std::string&, const Json::exception&) override {
        throw Error("{}: header: not valid JSON at byte {}", source_, position);
    }

    std::vector<HeaderEntry> entries;

 private:
    std::string name() const { return entries.empty() ? "start" : entries.back().name; }
    [[noreturn]] void fail(const char* found) const {
        throw Error("{}: header: {}: expected {{dtype, shape, data_offsets}}, found {} in {}", source_,
                    name(), found, depth_ < 2 ? "place of it" : key_);
    }
    bool value(const char* found) const {
        if (in_metadata_ && depth_ == 2) return true;
        fail(found);
    }

    const std::string& source_;
    std::unordered_set<std::string> names_;
    std::string key_;
    std::vector<int64_t>* list_ = nullptr;
    int depth_ = 0;
    bool in_metadata_ = false;
};

uint64_t expected_bytes(const HeaderEntry& e, const std::string& source) {
    const auto* dtype = std::ranges::find(dtypes, e.dtype, &DType::name);
    if (dtype == dtypes.end()) {
        throw Error("{}: {}: unknown dtype '{}'", source, e.name, e.dtype.substr(0, 40));
    }
    uint64_t n = 1;
    for (const int64_t d : e.shape) {
        if (d != 0 && n > limits::elements / static_cast<uint64_t>(d)) {
            throw Error("{}: {}: shape {} has too many elements", source, e.name, shape_text(e.shape));
        }
        n *= static_cast<uint64_t>(d);
    }
    return (n * dtype->bits + 7) / 8;
}

}  // namespace

std::vector<SafetensorsEntry> read_safetensors(std::span<const std::byte> bytes, const std::string& source) {
    ByteReader in(bytes, source);
    const uint64_t header_size = in.read<uint64_t>("header length");
    if (header_size > limits::safetensors_header_bytes) {
        throw Error("{}: offset 0: header of {} bytes, at most {} are accepted (is this a safetensors file?)",
                    source, header_size, limits::safetensors_header_bytes);
    }
    const auto header = in.take(header_size, "header");
    HeaderHandler handler(source);
    const auto* text = reinterpret_cast<const char*>(header.data());
    Json::sax_parse(text, text + header.size(), &handler);

    const uint64_t data_at = in.position(), data_size = in.remaining();
    std::ranges::sort(handler.entries, {}, &HeaderEntry::offsets);
    std::vector<SafetensorsEntry> result;
    uint64_t covered = 0;
    std::string_view before;
    for (HeaderEntry& e : handler.entries) {
        if (e.offsets.size() != 2) {
            throw Error("{}: {}: data_offsets: expected 2 numbers, found {}", source, e.name,
                        e.offsets.size());
        }
        const auto begin = static_cast<uint64_t>(e.offsets[0]), end = static_cast<uint64_t>(e.offsets[1]);
        if (begin > end || end > data_size) {
            throw Error("{}: {}: bytes {}..{} are not inside the data section (offset {}, {} bytes)", source,
                        e.name, begin, end, data_at, data_size);
        }
        if (const uint64_t expected = expected_bytes(e, source); expected != end - begin) {
            throw Error("{}: {}: {} of shape {}: expected {} bytes, found {}", source, e.name, e.dtype,
                        shape_text(e.shape), expected, end - begin);
        }
        if (begin < covered && begin != end) {
            throw Error("{}: {}: bytes {}..{} overlap those of {}", source, e.name, begin, end, before);
        }
        if (end > covered) {
            covered = end;
            before = e.name;
        }
        result.push_back(
            {e.name, std::move(e.dtype), std::move(e.shape), bytes.subspan(data_at + begin, end - begin)});
    }
    return result;
}

}  // namespace smelt
