// Writes a file so that a reader sees the whole of it or nothing: bytes go to a temporary neighbour that
// commit() renames over the target. Without commit(), or on any failure, the target stays as it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace smelt {

// The temporary neighbour of a file or folder that this process writes.
std::filesystem::path partial_path(const std::filesystem::path& target);
// Removes the neighbours of processes that were killed: those that are not there any more. What cannot be
// removed stays.
void remove_abandoned_partials(const std::filesystem::path& target);

class AtomicFile {
 public:
    // Who may read it, beside whoever writes it.
    enum class Readers { all, nobody };
    // Throws Error when the folder is not writable.
    explicit AtomicFile(std::filesystem::path target, Readers readers = Readers::all);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    // Throws Error on a full disk or any other failed write.
    void write(std::span<const std::byte> bytes);
    void write(std::string_view text);
    void write_zeros(size_t n);
    uint64_t position() const { return position_; }

    void commit();

 private:
    [[noreturn]] void fail(const char* what) const;

    std::filesystem::path target_, temporary_;
    int fd_ = -1;
    uint64_t position_ = 0;
};

}  // namespace smelt
