// Chooses among the sets that this build has.
#include "lab/vector_sums.h"

#include "base/cpu_info.h"

namespace smelt {

namespace lab_isa {

namespace portable {
extern const VectorSums sums;
}
#ifdef SMELT_LAB_AVX2
namespace avx2 {
extern const VectorSums sums;
}
#endif

}  // namespace lab_isa

const VectorSums& vector_sums() {
#ifdef SMELT_LAB_AVX2
    static const bool has_avx2 = [] {
        const CpuInfo cpu = read_cpu_info();
        return cpu.has("avx2") && cpu.has("fma");
    }();
    if (has_avx2) return lab_isa::avx2::sums;
#endif
    return lab_isa::portable::sums;
}

}  // namespace smelt
