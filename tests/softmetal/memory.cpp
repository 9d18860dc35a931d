// The buffers' memory on the software device: pages of the process.
#include <sys/mman.h>
#include <unistd.h>

#include "softmetal/execute.h"

namespace softmetal {

namespace {
// Whole pages and one more, which stays out of reach.
size_t mapped_bytes(size_t length) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    return (length + page - 1) / page * page + page;
}
}  // namespace

char* allocate(size_t bytes) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    void* p = ::mmap(nullptr, mapped_bytes(bytes), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    char* memory = static_cast<char*>(p);
    ::mprotect(memory + mapped_bytes(bytes) - page, page, PROT_NONE);
    return memory;
}

void free(char* memory, size_t bytes) {
    ::munmap(memory, mapped_bytes(bytes));
}

char* adopt(char* memory, size_t) {
    return memory;
}

}  // namespace softmetal
