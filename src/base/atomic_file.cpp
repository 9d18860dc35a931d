// Temporary neighbour + fsync + rename.
#include "base/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/number.h"

namespace smelt {

namespace {

constexpr std::string_view partial_mark = ".partial-";

// Whoever wrote it: a process of this machine that has ended. One of another machine, which shares the
// folder, is known by what it wrote lately.
bool is_abandoned(const std::filesystem::path& partial, std::string_view pid_text) {
    const auto pid = parse_integer<pid_t>(pid_text);
    if (!pid || *pid <= 0 || ::kill(*pid, 0) == 0 || errno != ESRCH) return false;
    constexpr auto quiet = std::chrono::minutes(10);
    const auto lately = std::filesystem::file_time_type::clock::now() - quiet;
    std::error_code error;
    if (std::filesystem::last_write_time(partial, error) > lately || error) return false;
    for (const auto& entry : std::filesystem::directory_iterator(partial, error)) {
        if (entry.last_write_time(error) > lately) return false;
    }
    return true;
}

}  // namespace

std::filesystem::path partial_path(const std::filesystem::path& target) {
    std::filesystem::path path = target;
    path += fmt::format("{}{}", partial_mark, ::getpid());
    return path;
}

void remove_abandoned_partials(const std::filesystem::path& target) {
    const std::string begin = target.filename().string() + std::string(partial_mark);
    const auto folder = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
    std::error_code error, ignored;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        if (!name.starts_with(begin)) continue;
        const std::string_view pid = std::string_view(name).substr(begin.size());
        if (is_abandoned(entry.path(), pid)) std::filesystem::remove_all(entry.path(), ignored);
    }
}

AtomicFile::AtomicFile(std::filesystem::path target, Readers readers)
    : target_(std::move(target)), temporary_(partial_path(target_)) {
    remove_abandoned_partials(target_);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                 readers == Readers::all ? 0644 : 0600);
    if (fd_ < 0) fail("cannot create");
}

AtomicFile::~AtomicFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* what) const {
    throw Error("{}: {}: {}", target_.string(), what, std::strerror(errno));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("cannot write (nothing was replaced)");
        bytes = bytes.subspan(static_cast<size_t>(n));
        position_ += static_cast<uint64_t>(n);
    }
}

void AtomicFile::write(std::string_view text) {
    write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::write_zeros(size_t n) {
    const std::vector<std::byte> zeros(std::min<size_t>(n, 4096));
    for (; n > 0; n -= std::min(n, zeros.size())) write(std::span(zeros).first(std::min(n, zeros.size())));
}

void AtomicFile::commit() {
    if (::fsync(fd_) != 0) fail("cannot sync");
    if (::close(std::exchange(fd_, -1)) != 0 || ::rename(temporary_.c_str(), target_.c_str()) != 0) {
        const int reason = errno;
        ::unlink(temporary_.c_str());
        errno = reason;
        fail("cannot finish");
    }
}

}  // namespace smelt
