// mmap on POSIX systems.
#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/truncation.h"

namespace smelt {

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
    // O_NONBLOCK: a FIFO is refused below, and not waited for.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) throw Error("{}: cannot open: {}", path.string(), std::strerror(errno));
    struct stat info {};
    if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        ::close(fd);
        throw Error("{}: expected a regular file", path.string());
    }
    size_ = static_cast<size_t>(info.st_size);
    if (size_ > 0) {
        void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
        if (address == MAP_FAILED) {
            const int reason = errno;
            ::close(fd);
            throw Error("{}: cannot map {} bytes: {}", path.string(), size_, std::strerror(reason));
        }
        data_ = static_cast<const std::byte*>(address);
        watch_mapping(data_, size_);
    }
    ::close(fd);
}

MappedFile::~MappedFile() {
    if (data_ == nullptr) return;
    forget_mapping(data_);
    ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace smelt
