// A file that another process cuts short while it is mapped gives SIGBUS on access. With this guard the
// missing pages read as zeros instead, the mapping counts as damaged, and whoever uses it can fail in good
// order.
#pragma once

#include "base/mapped_file.h"

namespace smelt {

// For the whole process, so a program asks for it and no library does. SIGBUS elsewhere ends the process as
// ever.
void guard_mapped_files();

bool is_damaged(const MappedFile& file);

// Of MappedFile.
void watch_mapping(const std::byte* data, size_t size);
void forget_mapping(const std::byte* data);

}  // namespace smelt
