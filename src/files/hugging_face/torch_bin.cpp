// pytorch_model.bin, in both of torch.save's layouts: a zip file (NAME/data.pkl, NAME/data/KEY) and the one
// before torch 1.6, five pickles (magic number, version, machine, object, storage keys) and then the
// storages, each an int64 count with its elements. The object is a dictionary of tensors, which are windows
// into storages that they may share. Neither layout is documented but in torch/serialization.py.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <unordered_set>

#include "base/byte_reader.h"
#include "files/hugging_face/pickle.h"
#include "files/hugging_face/zip_directory.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view zip_start = "PK\x03\x04";
// The pickle of 0x1950a86a20f9469cfc6c, with which the older layout starts.
constexpr std::string_view legacy_magic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
constexpr int64_t legacy_version = 1001;

constexpr std::string_view rebuild_tensor = "torch._utils\n_rebuild_tensor_v2";
constexpr std::string_view rebuild_parameter = "torch._utils\n_rebuild_parameter";

struct StorageType {
    std::string_view global;
    std::string_view dtype;  // safetensors' name
    uint64_t bytes;
};
constexpr std::array storage_types = {
    StorageType{"torch\nDoubleStorage", "F64", 8}, StorageType{"torch\nFloatStorage", "F32", 4},
    StorageType{"torch\nHalfStorage", "F16", 2},   StorageType{"torch\nBFloat16Storage", "BF16", 2},
    StorageType{"torch\nLongStorage", "I64", 8},   StorageType{"torch\nIntStorage", "I32", 4},
    StorageType{"torch\nShortStorage", "I16", 2},  StorageType{"torch\nCharStorage", "I8", 1},
    StorageType{"torch\nByteStorage", "U8", 1},    StorageType{"torch\nBoolStorage", "BOOL", 1},
};

bool is_known_global(std::string_view global) {
    return global == rebuild_tensor || global == rebuild_parameter ||
           std::ranges::find(storage_types, global, &StorageType::global) != storage_types.end();
}

struct Storage {
    const StorageType* type;
    uint64_t n_elements;
    bool is_present = false;  // its bytes are known
    std::span<const std::byte> data = {};

    uint64_t n_bytes() const { return n_elements * type->bytes; }
};

class StateDict {
 public:
    StateDict(Pickle pickle, const std::string& source) : pickle_(std::move(pickle)), source_(source) {
        for (const PickleValue& v : pickle_.values) {
            if (v.kind == Kind::persistent) add_storage(value(v.items[0]));
        }
    }

    std::map<std::string_view, Storage> storages;  // by key

    // `file_bytes` bounds what tensors of one storage may claim together: their copies must not fill the
    // memory.
    std::vector<SafetensorsEntry> tensors(uint64_t file_bytes) const {
        const PickleValue& root = value(pickle_.root);
        if (root.kind != Kind::dict) throw Error("{}: expected a dictionary of tensors", source_);
        std::vector<SafetensorsEntry> result;
        std::unordered_set<std::string> names;
        uint64_t claimed = 0;
        for (size_t i = 0; i < root.items.size(); i += 2) {
            result.push_back(tensor(tensor_name(value(root.items[i])), &value(root.items[i + 1])));
            const SafetensorsEntry& entry = result.back();
            if (!names.insert(entry.name).second) {
                throw Error("{}: tensor {} occurs twice", source_, entry.name);
            }
            claimed += entry.data.size();
            if (claimed > limits::storage_sharing * file_bytes) {
                throw Error("{}: tensors share their bytes more than {} times", source_,
                            limits::storage_sharing);
            }
        }
        std::ranges::stable_sort(result, {}, [](const SafetensorsEntry& e) { return e.data.data(); });
        return result;
    }

 private:
    const PickleValue& value(uint32_t index) const { return pickle_.values[index]; }

    // ("storage", type, key, device, number of elements), and in the older layout a window, or None.
    void add_storage(const PickleValue& id) {
        const auto bad = [&] { throw Error("{}: pickle: persistent id is not that of a storage", source_); };
        if (id.kind != Kind::tuple || id.items.size() < 5 || id.items.size() > 6) bad();
        const PickleValue &what = value(id.items[0]), &global = value(id.items[1]), &key = value(id.items[2]),
                          &n = value(id.items[4]);
        const auto* type = std::ranges::find(storage_types, global.text, &StorageType::global);
        if (what.text != "storage" || global.kind != Kind::global || type == storage_types.end() ||
            key.kind != Kind::text || n.kind != Kind::integer ||
            (id.items.size() == 6 && value(id.items[5]).kind != Kind::none)) {
            bad();
        }
        if (n.integer < 0 || static_cast<uint64_t>(n.integer) > limits::elements) {
            throw Error("{}: storage of {} elements, at most {} are accepted", source_, n.integer,
                        limits::elements);
        }
        const Storage storage = {.type = type, .n_elements = static_cast<uint64_t>(n.integer)};
        const auto [it, is_new] = storages.try_emplace(key.text, storage);
        if (!is_new && (it->second.type != type || it->second.n_elements != storage.n_elements)) {
            throw Error("{}: storage {} has two types or two sizes", source_, shown(key.text));
        }
    }

    std::string shown(std::string_view text) const {
        return check_name(std::string(text.substr(0, limits::tensor_name_bytes)), "storage key", source_);
    }

    std::string tensor_name(const PickleValue& key) const {
        if (key.kind != Kind::text) throw Error("{}: expected names of tensors as keys", source_);
        if (key.text.size() > limits::tensor_name_bytes) {
            throw Error("{}: tensor name of {} bytes, at most {} are accepted", source_, key.text.size(),
                        limits::tensor_name_bytes);
        }
        return check_name(std::string(key.text), "tensor name", source_);
    }

    // The arguments of a call of this function, or null.
    const PickleValue* arguments(const PickleValue& call, std::string_view function) const {
        if (call.kind != Kind::call || value(call.items[0]).text != function) return nullptr;
        return &value(call.items[1]);
    }

    std::vector<int64_t> numbers(const std::string& name, const PickleValue& tuple) const {
        if (tuple.kind != Kind::tuple || tuple.items.size() > limits::dims) {
            throw Error("{}: tensor {}: expected at most {} sizes and strides", source_, name, limits::dims);
        }
        std::vector<int64_t> result;
        for (const uint32_t i : tuple.items) {
            const PickleValue& n = value(i);
            if (n.kind != Kind::integer || n.integer < 0) {
                throw Error("{}: tensor {}: expected sizes and strides of 0 and above", source_, name);
            }
            result.push_back(n.integer);
        }
        return result;
    }

    uint64_t count_elements(const std::string& name, const std::vector<int64_t>& shape) const {
        uint64_t n = 1;
        for (const int64_t d : shape) {
            if (d != 0 && n > limits::elements / static_cast<uint64_t>(d)) {
                throw Error("{}: tensor {}: shape ({}) has too many elements", source_, name,
                            fmt::join(shape, ", "));
            }
            n *= static_cast<uint64_t>(d);
        }
        return n;
    }

    // Rows one after the other: a transposed or repeated tensor has other strides.
    void check_strides(const std::string& name, const std::vector<int64_t>& shape,
                       const std::vector<int64_t>& strides) const {
        bool dense = shape.size() == strides.size();
        int64_t stride = 1;
        for (size_t d = shape.size(); dense && d-- > 0;) {
            dense = shape[d] == 1 || strides[d] == stride;
            stride *= shape[d];
        }
        if (dense) return;
        throw Error("{}: tensor {}: expected a contiguous one, found strides ({}) for shape ({})", source_,
                    name, fmt::join(strides, ", "), fmt::join(shape, ", "));
    }

    SafetensorsEntry tensor(std::string name, const PickleValue* v) const {
        if (const PickleValue* a = arguments(*v, rebuild_parameter); a != nullptr && !a->items.empty()) {
            v = &value(a->items[0]);
        }
        // storage, offset, size, stride, requires_grad, hooks, and perhaps a dictionary of flags
        const PickleValue* a = arguments(*v, rebuild_tensor);
        if (a == nullptr || a->items.size() < 6 || a->items.size() > 7) {
            throw Error("{}: {}: expected a tensor", source_, name);
        }
        if (a->items.size() == 7 && !value(a->items[6]).items.empty()) {
            throw Error("{}: tensor {}: conjugated and negated tensors are not read", source_, name);
        }
        const PickleValue &id = value(a->items[0]), &offset = value(a->items[1]);
        if (id.kind != Kind::persistent || offset.kind != Kind::integer) {
            throw Error("{}: tensor {}: expected a storage and an offset", source_, name);
        }
        const std::string_view key = value(value(id.items[0]).items[2]).text;
        const Storage& storage = storages.at(key);
        if (!storage.is_present) {
            throw Error("{}: tensor {}: storage {} is missing", source_, name, shown(key));
        }
        std::vector<int64_t> shape = numbers(name, value(a->items[2]));
        const std::vector<int64_t> strides = numbers(name, value(a->items[3]));
        const uint64_t n = count_elements(name, shape);
        if (n > 0) check_strides(name, shape, strides);
        const auto begin = static_cast<uint64_t>(offset.integer);
        if (offset.integer < 0 || begin > storage.n_elements || n > storage.n_elements - begin) {
            throw Error("{}: tensor {}: {} elements from {} are not inside its storage of {}", source_, name,
                        n, offset.integer, storage.n_elements);
        }
        const uint64_t bytes = storage.type->bytes;
        return {std::move(name), std::string(storage.type->dtype), std::move(shape),
                storage.data.subspan(begin * bytes, n * bytes)};
    }

    Pickle pickle_;
    const std::string& source_;
};

std::vector<SafetensorsEntry> read_zip(std::span<const std::byte> bytes, const std::string& source) {
    const ZipDirectory entries = read_zip_directory(bytes, source);
    // All entries are in one folder, whose name is that of the file when it was saved.
    const std::string folder = entries.empty() ? "" : entries.begin()->first;
    const std::string prefix = folder.substr(0, folder.find('/') + 1);
    const auto find = [&](std::string_view name) { return entries.find(fmt::format("{}{}", prefix, name)); };
    const auto object = find("data.pkl");
    if (object == entries.end()) throw Error("{}: zip file without {}data.pkl", source, prefix);
    if (const auto order = find("byteorder"); order != entries.end()) {
        const std::string_view text(reinterpret_cast<const char*>(order->second.data()),
                                    order->second.size());
        if (text != "little") throw Error("{}: expected byteorder little", source);
    }
    ByteReader in(object->second, fmt::format("{}: {}", source, object->first));
    StateDict dict(read_pickle(in, is_known_global), source);
    for (auto& [key, storage] : dict.storages) {
        const auto data = find(fmt::format("data/{}", key));
        if (data == entries.end()) continue;
        if (data->second.size() != storage.n_bytes()) {
            throw Error("{}: {}: expected {} bytes, found {}", source, data->first, storage.n_bytes(),
                        data->second.size());
        }
        storage.data = data->second;
        storage.is_present = true;
    }
    return dict.tensors(bytes.size());
}

// A dictionary; among others it says whether the machine was little-endian.
void check_machine(const Pickle& pickle, const std::string& source) {
    const std::vector<uint32_t>& items = pickle.values[pickle.root].items;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
        const PickleValue &key = pickle.values[items[i]], &v = pickle.values[items[i + 1]];
        if (key.text == "little_endian" && v.kind == Kind::boolean && v.integer == 1) return;
    }
    throw Error("{}: expected the file of a little-endian machine", source);
}

std::vector<SafetensorsEntry> read_legacy(std::span<const std::byte> bytes, const std::string& source) {
    ByteReader in(bytes, source);
    in.seek(legacy_magic.size(), "magic number");
    const Pickle version = read_pickle(in, is_known_global);
    if (const PickleValue& v = version.values[version.root];
        v.kind != Kind::integer || v.integer != legacy_version) {
        throw Error("{}: expected version {} of torch's older layout", source, legacy_version);
    }
    check_machine(read_pickle(in, is_known_global), source);
    StateDict dict(read_pickle(in, is_known_global), source);
    const Pickle keys = read_pickle(in, is_known_global);
    if (keys.values[keys.root].kind != Kind::list) throw Error("{}: expected a list of storage keys", source);
    for (const uint32_t i : keys.values[keys.root].items) {
        const auto it = dict.storages.find(keys.values[i].text);
        if (it == dict.storages.end() || it->second.is_present) {
            throw Error("{}: list of storage keys: expected each storage once", source);
        }
        Storage& storage = it->second;
        if (const auto n = in.read<uint64_t>("number of elements"); n != storage.n_elements) {
            throw Error("{}: offset {}: storage: expected {} elements, found {}", source, in.position() - 8,
                        storage.n_elements, n);
        }
        storage.data = in.take(storage.n_bytes(), "storage");
        storage.is_present = true;
    }
    return dict.tensors(bytes.size());
}

bool starts_with(std::span<const std::byte> bytes, std::string_view text) {
    return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

}  // namespace

bool is_torch_bin(std::span<const std::byte> bytes) {
    return starts_with(bytes, zip_start) || starts_with(bytes, legacy_magic);
}

std::vector<SafetensorsEntry> read_torch_bin(std::span<const std::byte> bytes, const std::string& source) {
    if (starts_with(bytes, zip_start)) return read_zip(bytes, source);
    if (starts_with(bytes, legacy_magic)) return read_legacy(bytes, source);
    throw Error("{}: expected a file of torch.save (a zip file, or the older layout's magic number)", source);
}

}  // namespace smelt
