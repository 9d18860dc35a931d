// The list of backends that this build has.
#include "backend/backend.h"

namespace smelt {

std::vector<BackendInfo> list_backends() {
    return {{"reference", make_reference_backend()->description(), ""}};
}

std::unique_ptr<Backend> make_backend(std::string_view name, const BackendOptions&) {
    if (name == "reference" || name == "auto") return make_reference_backend();
    std::string usable;
    for (const BackendInfo& info : list_backends()) {
        if (info.missing.empty()) usable += (usable.empty() ? "" : ", ") + info.name;
    }
    throw Error("device {}: not usable here; usable: {}", name, usable);
}

}  // namespace smelt
