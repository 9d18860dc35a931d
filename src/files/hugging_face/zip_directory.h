// The entries of a zip file that are stored as they are. Compressed and encrypted ones are an Error: model
// files have none, and their tensors are used where they lie.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

namespace smelt {

using ZipDirectory = std::map<std::string, std::span<const std::byte>, std::less<>>;
ZipDirectory read_zip_directory(std::span<const std::byte> bytes, const std::string& source);

}  // namespace smelt
