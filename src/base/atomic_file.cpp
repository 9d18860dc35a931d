// Temporary neighbour + fsync + rename.
#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"

namespace smelt {

AtomicFile::AtomicFile(std::filesystem::path target, Readers readers) : target_(std::move(target)) {
    temporary_ = target_;
    temporary_ += fmt::format(".partial-{}", ::getpid());
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
