// Random valid records: every usable device agrees with the reference within derived bounds, op by op, and
// writes nothing else. The bytes choose ops, shapes, formats and batches.
#include <cstdio>
#include <cstdlib>

#include "backend/check/op_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    static const std::vector<std::unique_ptr<Backend>> devices = [] {
        std::vector<std::unique_ptr<Backend>> all;
        for (const BackendInfo& info : list_backends()) {
            if (info.missing.empty() && info.name != "reference")
                all.push_back(make_backend(info.name, {.n_threads = 2}));
        }
        return all;
    }();
    static const std::unique_ptr<Backend> reference = make_reference_backend();
    if (size == 0) return 0;
    const RandomRecordOptions options{.op = data[0] % 8 == 7 ? "Sample" : "", .n_ops = 1 + data[0] % 7};
    const Choices choices(std::span(data + 1, size - 1));
    for (const auto& device : devices) {
        const std::string difference = check_random_record(*device, *reference, options, choices);
        if (difference.empty()) continue;
        std::fprintf(stderr, "%s: %s\n", device->description().c_str(), difference.c_str());
        std::abort();
    }
    return 0;
}
