// dlopen.
#include "base/shared_library.h"

#include <dlfcn.h>

namespace smelt {

SharedLibrary::SharedLibrary(std::initializer_list<const char*> names) {
    for (const char* name : names) {
        handle_ = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (handle_ != nullptr) return;
        const char* error = ::dlerror();
        if (reason_.empty() && error != nullptr) reason_ = error;
    }
}

void* SharedLibrary::address(const char* symbol) const {
    return ::dlsym(handle_, symbol);
}

}  // namespace smelt
