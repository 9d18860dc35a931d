// The list of instruction sets that have kernels of their own.
#include "backend/cpu/isa.h"

#include "base/error.h"

namespace smelt::cpu {

#if defined(__x86_64__)
namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
#elif defined(__aarch64__)
namespace neon_dotprod {
extern const Kernels kernels;
}
namespace neon {
extern const Kernels kernels;
}
#endif
namespace portable {
extern const Kernels kernels;
}

const std::vector<Isa>& built_isas() {
    static const std::vector<Isa> isas = {
#if defined(__x86_64__)
        {"avx512",
         "AVX-512 VNNI",
         &avx512::kernels,
         {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}},
        {"avx2", "AVX2", &avx2::kernels, {"avx2", "fma", "f16c"}},
#elif defined(__aarch64__)
        {"neon_dotprod", "NEON dot product", &neon_dotprod::kernels, {"neon", "dotprod"}},
        {"neon", "NEON", &neon::kernels, {"neon"}},
#endif
        {"portable", "portable C++", &portable::kernels, {}},
    };
    return isas;
}

const Isa& choose_isa(std::string_view name, const CpuInfo& cpu) {
    std::string known;
    for (const Isa& isa : built_isas()) {
        known += (known.empty() ? "" : ", ") + std::string(isa.name);
        if (!name.empty() && name != isa.name) continue;
        std::string missing;
        for (const std::string& feature : isa.needs) {
            if (!cpu.has(feature)) missing += (missing.empty() ? "" : ", ") + feature;
        }
        if (missing.empty()) return isa;
        if (!name.empty()) throw Error("instruction set {}: this processor lacks {}", name, missing);
    }
    throw Error("instruction set {}: expected one of {}", name, known);
}

}  // namespace smelt::cpu
