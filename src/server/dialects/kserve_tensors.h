// Tensors of KServe v2 (Open Inference Protocol): of JSON, and of bytes as its binary extension, gRPC and
// Triton have them. Knows no model.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace smelt {

struct KserveTensor {
    std::string name, datatype;  // "BYTES", "BOOL", "INT32", "FP32", ...
    std::vector<int64_t> shape = {};
    Json data = Json::array();  // its elements in a row: strings, numbers, true and false
};

// 0: the elements have no size of their own, or there is no such type.
size_t kserve_element_bytes(std::string_view datatype);
// Throws RequestError: what is wrong with a shape, or with elements that the type cannot have.
void check_kserve_tensor(const KserveTensor& tensor);
// An element of `inputs`; takes its bytes from the front of `binary` where it says so. Throws the same.
KserveTensor read_kserve_tensor(const std::string& param, const Json& input, std::string_view& binary);
// Little-endian; strings with their lengths in 4 bytes before them. Throws the same.
Json decode_kserve_data(const KserveTensor& about, std::string_view bytes);
std::string encode_kserve_data(const KserveTensor& tensor);

}  // namespace smelt
