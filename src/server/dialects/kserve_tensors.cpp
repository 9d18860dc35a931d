// Types of 16-bit floats are refused: no input of a model here has them.
#include "server/dialects/kserve_tensors.h"

#include <bit>
#include <cstring>

#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

static_assert(std::endian::native == std::endian::little);

struct ElementType {
    std::string_view name;
    size_t n_bytes;
    Json (*decode)(const char* at);
    void (*encode)(const Json& value, std::string& to);
};

template <class T>
Json decode_element(const char* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}
template <class T>
void encode_element(const Json& value, std::string& to) {
    const T v = value.get<T>();
    to.append(reinterpret_cast<const char*>(&v), sizeof v);
}
Json decode_bool(const char* at) {
    return *at != 0;
}
void encode_bool(const Json& value, std::string& to) {
    to += value.get<bool>() ? '\1' : '\0';
}
template <class T>
constexpr ElementType element_type(std::string_view name) {
    return {name, sizeof(T), decode_element<T>, encode_element<T>};
}

constexpr ElementType element_types[] = {
    {"BOOL", 1, decode_bool, encode_bool}, element_type<int8_t>("INT8"),     element_type<int16_t>("INT16"),
    element_type<int32_t>("INT32"),        element_type<int64_t>("INT64"),   element_type<uint8_t>("UINT8"),
    element_type<uint16_t>("UINT16"),      element_type<uint32_t>("UINT32"), element_type<uint64_t>("UINT64"),
    element_type<float>("FP32"),           element_type<double>("FP64"),
};

const ElementType* find_element_type(std::string_view name) {
    const auto* it = std::ranges::find(element_types, name, &ElementType::name);
    return it == std::end(element_types) ? nullptr : it;
}

[[noreturn]] void wrong_size(const KserveTensor& about, size_t expected, size_t found_bytes) {
    throw bad_request("invalid_value", about.name, "{}: expected {} bytes for its shape, found {}",
                      about.name, expected, found_bytes);
}

size_t n_elements(const KserveTensor& t) {
    constexpr int64_t most = 1 << 16;  // each takes more memory than its bytes
    int64_t n = 1;
    for (const int64_t d : t.shape) {
        if (d < 0 || d > most || n * std::max<int64_t>(d, 1) > most) {
            throw bad_request("invalid_value", t.name, "{}: expected a shape of 0 to {} elements, found [{}]",
                              t.name, most, fmt::join(t.shape, ", "));
        }
        n *= d;
    }
    return static_cast<size_t>(n);
}

// [["a"], ["b"]] as ["a", "b"]; how deep it is does not matter.
void flatten(const std::string& name, const Json& v, Json& to) {
    if (!v.is_array()) {
        if (v.is_object() || v.is_null()) wrong_type(name, "strings, numbers, true or false", v);
        to.push_back(v);
        return;
    }
    for (const Json& inner : v) flatten(name, inner, to);
}

bool fits(const Json& v, std::string_view datatype) {
    if (datatype == "BYTES") return v.is_string();
    if (datatype == "BOOL") return v.is_boolean();
    return datatype.starts_with("FP") ? v.is_number() : v.is_number_integer();
}

}  // namespace

size_t kserve_element_bytes(std::string_view datatype) {
    const ElementType* type = find_element_type(datatype);
    return type == nullptr ? 0 : type->n_bytes;
}

void check_kserve_tensor(const KserveTensor& t) {
    if (t.datatype != "BYTES" && find_element_type(t.datatype) == nullptr) {
        throw bad_request("not_supported", t.name, "{}: tensors of type {} are not supported here", t.name,
                          t.datatype.substr(0, 40));
    }
    const size_t n = n_elements(t);
    if (t.data.size() != n) {
        throw bad_request("invalid_value", t.name, "{}: expected {} elements for its shape, found {}", t.name,
                          n, t.data.size());
    }
    for (const Json& v : t.data) {
        if (!fits(v, t.datatype)) wrong_type(t.name, t.datatype, v);
    }
}

Json decode_kserve_data(const KserveTensor& about, std::string_view bytes) {
    const size_t n = n_elements(about);
    Json data = Json::array();
    if (const ElementType* type = find_element_type(about.datatype)) {
        if (bytes.size() != n * type->n_bytes) wrong_size(about, n * type->n_bytes, bytes.size());
        for (size_t i = 0; i < n; ++i) data.push_back(type->decode(bytes.data() + i * type->n_bytes));
        return data;
    }
    while (about.datatype == "BYTES" && !bytes.empty()) {
        uint32_t length = 0;
        if (bytes.size() < sizeof length) wrong_size(about, sizeof length, bytes.size());
        std::memcpy(&length, bytes.data(), sizeof length);
        bytes.remove_prefix(sizeof length);
        if (length > bytes.size()) wrong_size(about, length, bytes.size());
        data.push_back(std::string(bytes.substr(0, length)));
        bytes.remove_prefix(length);
        if (data.size() > n) break;  // too many already: refused where they are counted
    }
    return data;
}

std::string encode_kserve_data(const KserveTensor& tensor) {
    std::string bytes;
    const ElementType* type = find_element_type(tensor.datatype);
    for (const Json& v : tensor.data) {
        if (type != nullptr) {
            type->encode(v, bytes);
            continue;
        }
        const auto& text = v.get_ref<const std::string&>();
        const auto length = static_cast<uint32_t>(text.size());
        bytes.append(reinterpret_cast<const char*>(&length), sizeof length);
        bytes += text;
    }
    return bytes;
}

KserveTensor read_kserve_tensor(const std::string& param, const Json& input, std::string_view& binary) {
    constexpr size_t max_dims = 8;
    check_object(param, input);
    KserveTensor t{.name = need_string(param, input, "name"),
                   .datatype = need_string(param, input, "datatype")};
    const Json& shape = need_member(param, input, "shape");
    if (!shape.is_array() || shape.size() > max_dims)
        wrong_type(param + ".shape", fmt::format("an array of at most {} integers", max_dims), shape);
    for (const Json& d : shape) {
        check_integer(param + ".shape", d, 0, std::numeric_limits<int32_t>::max());
        t.shape.push_back(d.get<int64_t>());
    }
    const Json* parameters = find_member(input, "parameters");
    if (parameters != nullptr) check_object(param + ".parameters", *parameters);
    for (const char* shared : {"shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"}) {
        if (parameters != nullptr && find_member(*parameters, shared) != nullptr)
            throw bad_request("not_supported", param, "{}.parameters.{}: shared memory is not supported here",
                              param, shared);
    }
    const Json* size = parameters == nullptr ? nullptr : find_member(*parameters, "binary_data_size");
    if (size == nullptr) {
        flatten(t.name, need_member(param, input, "data"), t.data);
    } else {
        check_integer(param + ".parameters.binary_data_size", *size, 0, static_cast<int64_t>(binary.size()));
        const auto n = size->get<size_t>();
        t.data = decode_kserve_data(t, binary.substr(0, n));
        binary.remove_prefix(n);
    }
    check_kserve_tensor(t);
    return t;
}

}  // namespace smelt
