// GGUF v2 and v3, little-endian: header, metadata, tensor table, aligned tensor bytes.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "base/byte_reader.h"
#include "base/number.h"
#include "files/families.h"
#include "files/gguf/gguf_types.h"
#include "files/known_keys.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

namespace {

std::string read_string(ByteReader& in, std::string_view what, uint64_t max_bytes = limits::string_bytes) {
    const uint64_t at = in.position();
    const auto n = in.read<uint64_t>(what);
    if (n > max_bytes) {
        throw Error("{}: offset {}: {}: string of {} bytes, at most {} are accepted", in.source(), at, what,
                    n, max_bytes);
    }
    const auto bytes = in.take(n, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The double that prints as the float does (1e-06, not 9.9999999747524271e-07); narrowing gives the float
// back.
double widen(float value) {
    return parse_real(fmt::format("{}", value)).value_or(static_cast<double>(value));
}

class MetadataReader {
 public:
    MetadataReader(ByteReader& in, ModelFile& model) : in_(in), model_(model) {}

    void read_entry() {
        key_ = check_name(read_string(in_, "metadata key", limits::key_bytes), "metadata key", in_.source());
        if (model_.metadata.find(key_) != nullptr) {
            throw Error("{}: metadata key {} occurs twice", in_.source(), key_);
        }
        const auto type = read_type();
        if (type != GgufValue::array) return model_.metadata.set(key_, read_scalar(type));
        read_array();
    }

 private:
    GgufValue read_type() {
        const uint64_t at = in_.position();
        const auto id = in_.read<uint32_t>(key_);
        if (id > static_cast<uint32_t>(GgufValue::f64)) {
            throw Error("{}: offset {}: {}: unknown metadata type {}", in_.source(), at, key_, id);
        }
        return static_cast<GgufValue>(id);
    }

    int64_t read_integer(GgufValue type) {
        switch (type) {
            case GgufValue::u8:
                return in_.read<uint8_t>(key_);
            case GgufValue::i8:
                return in_.read<int8_t>(key_);
            case GgufValue::u16:
                return in_.read<uint16_t>(key_);
            case GgufValue::i16:
                return in_.read<int16_t>(key_);
            case GgufValue::u32:
                return in_.read<uint32_t>(key_);
            case GgufValue::i32:
                return in_.read<int32_t>(key_);
            case GgufValue::boolean:
                return in_.read<uint8_t>(key_) != 0;
            case GgufValue::u64: {
                const auto value = in_.read<uint64_t>(key_);
                if (value > uint64_t{std::numeric_limits<int64_t>::max()}) {
                    throw Error("{}: {}: number {} is too large", in_.source(), key_, value);
                }
                return static_cast<int64_t>(value);
            }
            default:
                return in_.read<int64_t>(key_);
        }
    }

    double read_real(GgufValue type) {
        return type == GgufValue::f32 ? static_cast<double>(in_.read<float>(key_)) : in_.read<double>(key_);
    }

    MetadataValue read_scalar(GgufValue type) {
        if (type == GgufValue::string) return read_string(in_, key_);
        if (type == GgufValue::boolean) return in_.read<uint8_t>(key_) != 0;
        if (type != GgufValue::f32 && type != GgufValue::f64) return read_integer(type);
        const double value = type == GgufValue::f32 ? widen(in_.read<float>(key_)) : in_.read<double>(key_);
        if (!std::isfinite(value)) {
            throw Error("{}: metadata {}: expected a number, found {}", in_.source(), key_, value);
        }
        return value;
    }

    static uint64_t min_bytes(GgufValue type) {
        switch (type) {
            case GgufValue::u8:
            case GgufValue::i8:
            case GgufValue::boolean:
                return 1;
            case GgufValue::u16:
            case GgufValue::i16:
                return 2;
            case GgufValue::u32:
            case GgufValue::i32:
            case GgufValue::f32:
                return 4;
            case GgufValue::array:
                return 12;
            default:
                return 8;
        }
    }

    uint64_t read_count(GgufValue type) {
        const uint64_t at = in_.position();
        const auto n = in_.check_count(in_.read<uint64_t>(key_), min_bytes(type), key_);
        if (n > limits::array_items) {
            throw Error("{}: offset {}: {}: {} items, at most {} are accepted", in_.source(), at, key_, n,
                        limits::array_items);
        }
        return n;
    }

    void read_array() {
        const GgufValue type = read_type();
        const uint64_t n = read_count(type);
        if (type == GgufValue::array) {
            for (uint64_t i = 0; i < n; ++i) skip_array(2);
            model_.notes.push_back(fmt::format("metadata {} is a list of lists, which was left out", key_));
        } else if (type == GgufValue::string) {
            std::vector<std::string> list;
            list.reserve(n);
            for (uint64_t i = 0; i < n; ++i) list.push_back(read_string(in_, key_));
            model_.metadata.set(key_, std::move(list));
        } else if (type == GgufValue::f32 || type == GgufValue::f64) {
            std::vector<double> list(n);
            for (double& value : list) value = read_real(type);
            model_.metadata.set(key_, std::move(list));
        } else {
            std::vector<int64_t> list(n);
            for (int64_t& value : list) value = read_integer(type);
            model_.metadata.set(key_, std::move(list));
        }
    }

    void skip_array(int depth) {
        if (depth > limits::array_depth) {
            throw Error("{}: {}: lists nested deeper than {} levels", in_.source(), key_,
                        limits::array_depth);
        }
        const GgufValue type = read_type();
        const uint64_t n = read_count(type);
        for (uint64_t i = 0; i < n; ++i) {
            if (type == GgufValue::array) {
                skip_array(depth + 1);
            } else if (type == GgufValue::string) {
                read_string(in_, key_);
            } else {
                in_.take(min_bytes(type), key_);
            }
        }
    }

    ByteReader& in_;
    ModelFile& model_;
    std::string key_;
};

struct TensorInfo {
    std::string name;
    std::vector<int64_t> shape;  // slowest first
    const GgufType* type;
    uint64_t offset;  // from the start of the data section
    uint64_t n_bytes;
};

TensorInfo read_tensor_info(ByteReader& in) {
    TensorInfo t;
    t.name =
        check_name(read_string(in, "tensor name", limits::tensor_name_bytes), "tensor name", in.source());
    const auto n_dims = in.read<uint32_t>(t.name);
    if (n_dims > limits::dims) {
        throw Error("{}: tensor {}: {} dimensions, at most {} are accepted", in.source(), t.name, n_dims,
                    limits::dims);
    }
    uint64_t n = 1;
    for (uint32_t i = 0; i < n_dims; ++i) {
        const auto d = in.read<uint64_t>(t.name);
        if (d > limits::elements || (d != 0 && n > limits::elements / d)) {
            throw Error("{}: tensor {}: dimension {} of {} gives too many elements", in.source(), t.name, i,
                        d);
        }
        n *= d;
        t.shape.insert(t.shape.begin(), static_cast<int64_t>(d));
    }
    const auto id = in.read<uint32_t>(t.name);
    t.type = gguf_type(id);
    if (t.type == nullptr) throw Error("{}: tensor {}: unknown number format {}", in.source(), t.name, id);
    if (t.type->block_len == 0) {
        throw Error("{}: tensor {}: number format {} is no longer in use; convert the model again",
                    in.source(), t.name, t.type->name);
    }
    const auto row_len = t.shape.empty() ? uint64_t{1} : static_cast<uint64_t>(t.shape.back());
    if (row_len % t.type->block_len != 0) {
        throw Error("{}: tensor {}: {}: expected rows of a multiple of {} weights, found {}", in.source(),
                    t.name, t.type->name, t.type->block_len, row_len);
    }
    t.n_bytes = n / t.type->block_len * t.type->block_bytes;
    t.offset = in.read<uint64_t>(t.name);
    return t;
}

uint64_t read_alignment(const Metadata& metadata, const std::string& source) {
    const int64_t n = metadata.get_int("general.alignment").value_or(gguf_default_alignment);
    if (n < 1 || n > static_cast<int64_t>(limits::alignment) || (n & (n - 1)) != 0) {
        throw Error("{}: general.alignment: expected a power of two up to {}, found {}", source,
                    limits::alignment, n);
    }
    return static_cast<uint64_t>(n);
}

void check_placement(const std::vector<TensorInfo>& infos, uint64_t alignment, uint64_t data_bytes,
                     const std::string& source) {
    std::vector<const TensorInfo*> by_offset;
    for (const TensorInfo& t : infos) {
        if (t.offset % alignment != 0) {
            throw Error("{}: tensor {}: offset {} is no multiple of the alignment {}", source, t.name,
                        t.offset, alignment);
        }
        if (t.offset > data_bytes || t.n_bytes > data_bytes - t.offset) {
            throw Error("{}: tensor {}: expected {} bytes at {} of the data section, which has {}", source,
                        t.name, t.n_bytes, t.offset, data_bytes);
        }
        if (t.n_bytes > 0) by_offset.push_back(&t);
    }
    std::ranges::sort(by_offset, {}, &TensorInfo::offset);
    for (size_t i = 1; i < by_offset.size(); ++i) {
        const TensorInfo &a = *by_offset[i - 1], &b = *by_offset[i];
        if (b.offset < a.offset + a.n_bytes) {
            throw Error("{}: tensor {}: its bytes overlap those of {}", source, b.name, a.name);
        }
    }
}

// Keys that smelt's writer adds, and GGUF's own spellings, to the names that model_file.h promises.
void translate_keys(ModelFile& model) {
    Metadata& m = model.metadata;
    const std::string* name = m.get_string("general.architecture");
    const std::string architecture =
        name == nullptr ? "" : check_name(*name, "general.architecture", model.path.string());
    const Family* family = family_of(m);
    if (family != nullptr) m.set("smelt.model_type", std::string(family->model_type));
    if (family != nullptr && family->tiled_in_gguf) m.set("smelt.value_heads", std::string("tiled"));
    m.set("smelt.rope.pairing",
          std::string(family != nullptr && family->gguf_interleaved ? "interleaved" : "half"));

    const auto rename = [&](const std::string& from, const std::string& to) {
        const MetadataValue* value = m.find(from);
        if (value != nullptr && m.find(to) == nullptr) m.set(to, MetadataValue(*value));
    };
    rename("general.sampling.temp", "generation.temperature");
    rename("general.sampling.top_k", "generation.top_k");
    rename("general.sampling.top_p", "generation.top_p");
    rename("general.sampling.min_p", "generation.min_p");
    rename("general.sampling.penalty_repeat", "generation.repetition_penalty");
    rename("smelt.generation.do_sample", "generation.do_sample");
    rename("smelt.generation.eos_token_ids", "generation.eos_token_ids");
    rename("smelt.generation.bos_token_id", "generation.bos_token_id");
    rename("tokenizer.ggml.bos_token_id", "generation.bos_token_id");
    for (const char* key :
         {"type", "factor", "low_freq_factor", "high_freq_factor", "original_context_length"}) {
        rename(std::string("smelt.rope.scaling.") + key, architecture + ".rope.scaling." + key);
    }
    // Files of 2023 say the factor alone, in either place; what reads them divides all positions by it.
    rename(architecture + ".rope.scale_linear", architecture + ".rope.scaling.factor");
    if (m.find(architecture + ".rope.scaling.factor") != nullptr &&
        m.find(architecture + ".rope.scaling.type") == nullptr) {
        m.set(architecture + ".rope.scaling.type", std::string("linear"));
    }
    if (m.find("generation.eos_token_ids") == nullptr) {
        std::vector<int64_t> ids;
        for (const char* key :
             {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
            const auto id = m.get_int(key);
            if (id && std::ranges::find(ids, *id) == ids.end()) ids.push_back(*id);
        }
        if (!ids.empty()) m.set("generation.eos_token_ids", std::move(ids));
    }
}

uint32_t read_version(ByteReader& in) {
    if (in.read<uint32_t>("magic") != gguf_magic) throw Error("{}: expected GGUF at offset 0", in.source());
    const auto version = in.read<uint32_t>("version");
    if (version != 0 && (version & 0xffff) == 0) {
        throw Error("{}: big-endian GGUF is not supported; convert the model again", in.source());
    }
    if (version != 2 && version != 3) {
        throw Error("{}: offset 4: expected GGUF version 2 or 3, found {}", in.source(), version);
    }
    return version;
}

void read_file(std::span<const std::byte> bytes, const std::string& source, ModelFile& model) {
    ByteReader in(bytes, source);
    const uint32_t version = read_version(in);
    // Smallest entries: an empty name, and for a tensor no dimensions; for a key one byte.
    const auto n_tensors = in.read<uint64_t>("tensor count"), n_keys = in.read<uint64_t>("metadata count");
    in.check_count(n_tensors, 24, "tensor count");
    in.check_count(n_keys, 13, "metadata count");
    if (n_tensors > limits::tensors || n_keys > limits::metadata_entries) {
        throw Error("{}: {} tensors and {} metadata entries, at most {} and {} are accepted", source,
                    n_tensors, n_keys, limits::tensors, limits::metadata_entries);
    }
    MetadataReader metadata(in, model);
    for (uint64_t i = 0; i < n_keys; ++i) metadata.read_entry();

    std::vector<TensorInfo> infos;
    std::unordered_set<std::string_view> names;
    infos.reserve(n_tensors);
    for (uint64_t i = 0; i < n_tensors; ++i) {
        infos.push_back(read_tensor_info(in));
        if (!names.insert(infos.back().name).second) {
            throw Error("{}: tensor {} occurs twice", source, infos.back().name);
        }
    }
    const uint64_t alignment = read_alignment(model.metadata, source);
    if (n_tensors > 0) in.seek((in.position() + alignment - 1) / alignment * alignment, "tensor data");
    const auto data = in.take(in.remaining(), "tensor data");
    check_placement(infos, alignment, data.size(), source);

    for (TensorInfo& t : infos) {
        const auto format = format_from_gguf(t.type->id);
        if (!format) {
            model.unsupported.push_back(
                {t.name, std::string(t.type->name), std::move(t.shape), t.n_bytes, source});
            continue;
        }
        const auto view = aligned(data.subspan(t.offset, t.n_bytes), alignof(float), model);
        model.tensors.push_back({t.name, *format, std::move(t.shape), view, {}, source});
    }
    model.container = Container::gguf;
    model.container_version = fmt::format("GGUF v{}", version);
}

// NAME-00001-of-00003.gguf has the metadata; the others lie beside it and hold tensors.
void read_other_parts(const std::string& source, ModelFile& model) {
    const int64_t n_parts = model.metadata.get_int("split.count").value_or(1);
    if (n_parts <= 1) return;
    const std::string ending = fmt::format("-00001-of-{:05}.gguf", n_parts);
    if (model.metadata.get_int("split.no") != 0 || !source.ends_with(ending)) {
        throw Error("{}: expected the first of {} parts, whose name ends in {}", source, n_parts, ending);
    }
    std::unordered_set<std::string> names;
    for (const TensorView& t : model.tensors) names.insert(t.name);
    for (const UnsupportedTensor& t : model.unsupported) names.insert(t.name);
    for (int64_t i = 1; i < n_parts; ++i) {
        const std::string path = fmt::format("{}-{:05}-of-{:05}.gguf",
                                             source.substr(0, source.size() - ending.size()), i + 1, n_parts);
        const auto file = std::make_shared<const MappedFile>(path);
        ModelFile part;
        read_file(file->bytes(), path, part);
        if (part.metadata.get_int("split.no") != i) throw Error("{}: expected split.no {}", path, i);
        const auto check_new = [&](const std::string& name) {
            if (!names.insert(name).second)
                throw Error("{}: tensor {} occurs in an earlier part as well", path, name);
        };
        for (const TensorView& t : part.tensors) check_new(t.name);
        for (const UnsupportedTensor& t : part.unsupported) check_new(t.name);
        std::ranges::move(part.tensors, std::back_inserter(model.tensors));
        std::ranges::move(part.unsupported, std::back_inserter(model.unsupported));
        std::ranges::move(part.owned, std::back_inserter(model.owned));
        model.mappings.push_back(file);
    }
    model.container_version += fmt::format(", {} parts", n_parts);
}

}  // namespace

void read_gguf(std::span<const std::byte> bytes, const std::string& source, ModelFile& model) {
    read_file(bytes, source, model);
    read_other_parts(source, model);
    if (const Family* family = family_of(model.metadata)) refuse_unknown_metadata(*family, model);
    translate_keys(model);
    fill_defaults(model);
}

}  // namespace smelt
