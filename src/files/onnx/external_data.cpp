// Paths in an ONNX file come from whoever made it: they lead to files in its own folder and nowhere else.
#include "files/onnx/external_data.h"

#include <algorithm>

#include "base/number.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

void ExternalPlace::add(ProtobufReader in, const std::string& source) {
    std::string key, value;
    while (in.next()) {
        if (in.field() == 1) key = in.text();
        if (in.field() == 2) value = in.text();
    }
    if (key == "location") location = check_name(value, "external data's location", source);
    if (key != "offset" && key != "length") return;
    const auto number = parse_integer<int64_t>(value);
    if (!number || *number < 0) {
        throw Error("{}: external data: {}: expected a number of bytes, found {}", source, key,
                    check_name(value, key, source));
    }
    (key == "offset" ? offset : length) = static_cast<uint64_t>(*number);
    has_length = has_length || key == "length";
}

const MappedFile& ExternalData::map(const std::string& location, const std::string& tensor) {
    const auto fail = [&](std::string_view expected) {
        throw Error("{}: tensor {}: external data: expected {}, found {}", source_, tensor, expected,
                    location);
    };
    if (folder_.empty()) fail("none");
    const std::filesystem::path relative(location);
    const auto is_parent = [](const std::filesystem::path& part) { return part == ".."; };
    if (location.empty() || relative.is_absolute() || std::ranges::any_of(relative, is_parent)) {
        fail("a file in the model's folder");
    }
    const auto [it, is_new] = files_.try_emplace(location);
    if (is_new) {
        if (files_.size() > limits::shards) fail(fmt::format("at most {} files", limits::shards));
        std::error_code error;
        if (!std::filesystem::is_regular_file(folder_ / relative, error)) fail("a file that is there");
        it->second = std::make_shared<const MappedFile>(folder_ / relative);
        model_.mappings.push_back(it->second);
    }
    return *it->second;
}

ExternalData::Found ExternalData::bytes_of(const ExternalPlace& place, const std::string& tensor,
                                           uint64_t n_bytes) {
    const MappedFile& file = map(place.location, tensor);
    const uint64_t size = file.bytes().size();
    if (place.has_length && place.length != n_bytes) {
        throw Error("{}: tensor {}: expected {} bytes of external data, found a length of {}", source_,
                    tensor, n_bytes, place.length);
    }
    if (place.offset > size || n_bytes > size - place.offset) {
        throw Error("{}: tensor {}: expected {} bytes from offset {} on, {} has {}", source_, tensor, n_bytes,
                    place.offset, file.path().string(), size);
    }
    return {file.bytes().subspan(place.offset, n_bytes), file.path().string()};
}

}  // namespace smelt
