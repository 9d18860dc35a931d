// Opens libcuda and looks at whether it can be used.
#include "backend/cuda/driver.h"

#include <fmt/format.h>

namespace smelt::cuda {

namespace {

constexpr int least_version = 12000;  // cuGraphInstantiateWithFlags, and what NVRTC 12 makes

}  // namespace

std::string Driver::text_of(Status s) const {
    const char *name = nullptr, *text = nullptr;
    if (error_name(s, &name) != status::success || name == nullptr) return fmt::format("error {}", s);
    if (error_string(s, &text) != status::success || text == nullptr) return name;
    return fmt::format("{}: {}", name, text);
}

std::unique_ptr<const Driver> open_driver(std::string& missing) {
    const SharedLibrary library{"libcuda.so.1"};
    if (!library) {
        missing = fmt::format("no NVIDIA driver: {}", library.reason());
        return nullptr;
    }
    auto driver = std::make_unique<Driver>();
    std::string symbol;
#define X(member, name, parameters) library.find(driver->member, #name, symbol);
    SMELT_CUDA_FUNCTIONS(X)
#undef X
    int version = 0;
    if (driver->driver_version != nullptr) driver->driver_version(&version);
    if (!symbol.empty() || version < least_version) {
        missing =
            fmt::format("the NVIDIA driver is too old: expected one of CUDA {}.{} or newer, found {}.{}{}",
                        least_version / 1000, least_version % 1000 / 10, version / 1000, version % 1000 / 10,
                        symbol.empty() ? "" : " without " + symbol);
        return nullptr;
    }
    const Status started = driver->init(0);
    if (started == status::no_device) {
        missing =
            "the NVIDIA driver finds no GPU: none is there, CUDA_VISIBLE_DEVICES hides it, or it is in MIG "
            "mode without an instance";
        return nullptr;
    }
    if (started != status::success) {
        missing = fmt::format("the NVIDIA driver does not start: {}", driver->text_of(started));
        return nullptr;
    }
    int n_devices = 0;
    const Status counted = driver->device_count(&n_devices);
    if (counted != status::success || n_devices == 0) {
        missing =
            "the NVIDIA driver finds no GPU: CUDA_VISIBLE_DEVICES hides it, or it is in MIG mode without an "
            "instance";
        return nullptr;
    }
    return driver;
}

}  // namespace smelt::cuda
