// Loops of one instruction over registers, in assembly: no compiler flag is needed, and nothing is optimised
// away.
#include "base/peak_rate.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/affinity.h"
#include "base/cpu_info.h"
#include "base/thread_pool.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace smelt {

namespace {

struct Loop {
    std::string_view instruction_set, type;
    std::vector<std::string_view> needs;  // CpuInfo::features
    double operations;                    // of one turn
    void (*run)(int64_t turns);
};

#if defined(__x86_64__)

// Twelve accumulators, so that none is waited for; the factors are registers 13 and 14.
#define TWELVE(instruction, r)                                                                          \
    instruction " %%" r "13, %%" r "14, %%" r "0\n" instruction " %%" r "13, %%" r "14, %%" r           \
                "1\n" instruction " %%" r "13, %%" r "14, %%" r "2\n" instruction " %%" r "13, %%" r    \
                "14, %%" r "3\n" instruction " %%" r "13, %%" r "14, %%" r "4\n" instruction " %%" r    \
                "13, %%" r "14, %%" r "5\n" instruction " %%" r "13, %%" r "14, %%" r "6\n" instruction \
                " %%" r "13, %%" r "14, %%" r "7\n" instruction " %%" r "13, %%" r "14, %%" r           \
                "8\n" instruction " %%" r "13, %%" r "14, %%" r "9\n" instruction " %%" r "13, %%" r    \
                "14, %%" r "10\n" instruction " %%" r "13, %%" r "14, %%" r "11\n"
#define CLOBBERED                                                                                           \
    "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
        "xmm12", "xmm13", "xmm14", "xmm15"
// Zeros everywhere: no number is slow.
#define TURNS(body) \
    asm volatile("vzeroall\n1:\n" body "dec %0\njnz 1b\nvzeroupper\n" : "+r"(turns) : : CLOBBERED)

// Without VNNI a product of bytes takes three instructions.
#define BYTES_AVX2(a, b)                                                                                \
    "vpmaddubsw %%ymm13, %%ymm14, %%ymm" a "\nvpmaddwd %%ymm15, %%ymm" a ", %%ymm" a "\nvpaddd %%ymm" a \
    ", %%ymm" b ", %%ymm" b "\n"

const std::span<const Loop> loops() {
    static const Loop all[] = {
        {"AVX2",
         "f32",
         {"avx2", "fma"},
         12 * 8 * 2,
         [](int64_t turns) { TURNS(TWELVE("vfmadd231ps", "ymm")); }},
        {"AVX2",
         "int8",
         {"avx2"},
         6 * 32 * 2,
         [](int64_t turns) {
             TURNS(BYTES_AVX2("0", "1") BYTES_AVX2("2", "3") BYTES_AVX2("4", "5") BYTES_AVX2("6", "7")
                       BYTES_AVX2("8", "9") BYTES_AVX2("10", "11"));
         }},
        {"AVX-VNNI",
         "int8",
         {"avx_vnni"},
         12 * 32 * 2,
         [](int64_t turns) { TURNS(TWELVE("%{vex%} vpdpbusd", "ymm")); }},
        {"AVX-512",
         "f32",
         {"avx512f"},
         12 * 16 * 2,
         [](int64_t turns) { TURNS(TWELVE("vfmadd231ps", "zmm")); }},
        {"AVX-512 VNNI",
         "int8",
         {"avx512_vnni"},
         12 * 64 * 2,
         [](int64_t turns) { TURNS(TWELVE("vpdpbusd", "zmm")); }},
        {"AVX-512 BF16",
         "bf16",
         {"avx512_bf16"},
         12 * 32 * 2,
         [](int64_t turns) { TURNS(TWELVE("vdpbf16ps", "zmm")); }},
    };
    return all;
}

#if defined(__linux__)

// Eight tiles of 16 rows of 64 bytes; 0 to 3 are sums, 4 to 7 factors.
struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
#define FOUR_TILES(instruction)                                                                 \
    instruction " %%tmm6, %%tmm4, %%tmm0\n" instruction " %%tmm7, %%tmm4, %%tmm1\n" instruction \
                " %%tmm6, %%tmm5, %%tmm2\n" instruction " %%tmm7, %%tmm5, %%tmm3\n"
#define TILE_TURNS(body)                                                                     \
    static const TileConfig config;                                                          \
    asm volatile(                                                                            \
        "ldtilecfg %1\ntilezero %%tmm4\ntilezero %%tmm5\ntilezero %%tmm6\ntilezero %%tmm7\n" \
        "1:\n" body "dec %0\njnz 1b\ntilerelease\n"                                          \
        : "+r"(turns)                                                                        \
        : "m"(config)                                                                        \
        : "cc")

// The system gives the tiles' registers to a process that asks.
bool may_use_tiles() {
    constexpr long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
const std::span<const Loop> tile_loops() {
    static const Loop all[] = {
        {"AMX",
         "int8",
         {"amx_tile", "amx_int8"},
         4.0 * 16 * 16 * 64 * 2,
         [](int64_t turns) { TILE_TURNS(FOUR_TILES("tdpbssd")); }},
        {"AMX",
         "bf16",
         {"amx_tile", "amx_bf16"},
         4.0 * 16 * 16 * 32 * 2,
         [](int64_t turns) { TILE_TURNS(FOUR_TILES("tdpbf16ps")); }},
    };
    return all;
}

#endif

#elif defined(__aarch64__)

// Instructions of v0 .. v15 by v30 and v31, by their numbers: assemblers differ in how they are told of
// extensions.
// clang-format off
#define ONE(code, to) ".inst " code " + " to "\n"
#define FOUR(code, a, b, c, d) ONE(code, a) ONE(code, b) ONE(code, c) ONE(code, d)
#define SIXTEEN(code) FOUR(code, "0", "1", "2", "3") FOUR(code, "4", "5", "6", "7") \
    FOUR(code, "8", "9", "10", "11") FOUR(code, "12", "13", "14", "15")
// clang-format on
#define TURNS(body)                                                                                       \
    asm volatile("movi v30.16b, #0\nmovi v31.16b, #0\n1:\n" body "subs %0, %0, #1\nb.ne 1b\n"             \
                 : "+r"(turns)                                                                            \
                 :                                                                                        \
                 : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", \
                   "v13", "v14", "v15", "v30", "v31")

const std::span<const Loop> loops() {
    static const Loop all[] = {
        {"NEON", "f32", {"neon"}, 16 * 4 * 2, [](int64_t turns) { TURNS(SIXTEEN("0x4e3fcfc0")); }},
        {"NEON dot product",
         "int8",
         {"dotprod"},
         16 * 16 * 2,
         [](int64_t turns) { TURNS(SIXTEEN("0x4e9f97c0")); }},
        {"NEON i8mm", "int8", {"i8mm"}, 16 * 32 * 2, [](int64_t turns) { TURNS(SIXTEEN("0x4e9fa7c0")); }},
        {"NEON bf16", "bf16", {"bf16"}, 16 * 16 * 2, [](int64_t turns) { TURNS(SIXTEEN("0x6e5fefc0")); }},
    };
    return all;
}

#else

std::span<const Loop> loops() {
    return {};
}

#endif

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Rig {
 public:
    explicit Rig(int n_threads)
        : pool_(n_threads), processors_(usable_processors()), ends_(static_cast<size_t>(n_threads)) {}

    double rate(const Loop& loop) {
        constexpr double wanted_seconds = 0.05;
        constexpr int n_runs = 3;
        int64_t turns = 10000;
        double best = 0;
        // The first run says how many turns take long enough to measure, and wakes the cores.
        turns = std::max(
            turns, static_cast<int64_t>(static_cast<double>(turns) * wanted_seconds / time(loop, turns)));
        for (int i = 0; i < n_runs; ++i) {
            const double all =
                loop.operations * static_cast<double>(turns) * static_cast<double>(ends_.size());
            best = std::max(best, all / time(loop, turns));
        }
        return best;
    }

 private:
    double time(const Loop& loop, int64_t turns) {
        double start = 0;
        pool_.run([&](int member) {
            const auto m = static_cast<size_t>(member);
            std::unique_ptr<PinnedThread> pinned;
            if (!processors_.empty()) {
                pinned = std::make_unique<PinnedThread>(processors_[m % processors_.size()]);
            }
            pool_.barrier();
            if (m == 0) start = seconds_now();
            loop.run(turns);
            ends_[m] = seconds_now();
        });
        return *std::max_element(ends_.begin(), ends_.end()) - start;
    }

    ThreadPool pool_;
    std::vector<int> processors_;
    std::vector<double> ends_;
};

}  // namespace

std::vector<PeakRate> measure_peak_rates(int n_threads) {
    const CpuInfo cpu = read_cpu_info();
    Rig rig(n_threads);
    std::vector<PeakRate> rates;
    const auto add = [&](std::span<const Loop> list) {
        for (const Loop& loop : list) {
            if (std::ranges::all_of(loop.needs, [&](std::string_view f) { return cpu.has(f); })) {
                rates.push_back({loop.instruction_set, loop.type, rig.rate(loop)});
            }
        }
    };
    add(loops());
#if defined(__x86_64__) && defined(__linux__)
    if (cpu.has("amx_tile") && may_use_tiles()) add(tile_loops());
#endif
    return rates;
}

}  // namespace smelt
