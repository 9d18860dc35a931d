// No Metal in this program.
#include "backend/metal_entry.h"

namespace smelt {

BackendInfo metal_backend_info() {
    return {"metal", "Apple GPU", "this build has no Metal; it needs macOS"};
}

std::unique_ptr<Backend> make_metal_backend(const BackendOptions&) {
    throw Error("device metal: {}", metal_backend_info().missing);
}

}  // namespace smelt
