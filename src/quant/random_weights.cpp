// Random bits, and the scale that makes them weights, format by format.
#include "quant/random_weights.h"

#include <cstring>

#include "base/error.h"
#include "base/splitmix.h"

namespace smelt {

namespace {

class Random {
 public:
    explicit Random(uint64_t seed) : state_(seed) {}
    // splitmix64
    uint64_t next() { return splitmix_finalise(state_ += 0x9e3779b97f4a7c15u); }
    // Sum of four uniforms: near enough to a normal of deviation 1.
    float normal() {
        const uint64_t bits = next();
        float sum = -2;
        for (int i = 0; i < 4; ++i) sum += static_cast<float>((bits >> (16 * i)) & 0xffff) * 0x1p-16f;
        return sum * 1.732f;
    }

 private:
    uint64_t state_;
};

// A block of random bits gets the scale that gives its weights the deviation. The divisors are root mean
// squares of uniform quants times uniform inner scales; mins are chosen so that the mean is 0.
void set_scale(BlockQ4_1& b, float deviation) {
    b.d = F16::from(deviation / 4.6f);
    b.m = F16::from(-7.5f * deviation / 4.6f);
}
void set_scale(BlockQ5_0& b, float deviation) {
    b.d = F16::from(deviation / 9.2f);
}
void set_scale(BlockQ5_1& b, float deviation) {
    b.d = F16::from(deviation / 9.2f);
    b.m = F16::from(-15.5f * deviation / 9.2f);
}
void set_scale(BlockQ2_K& b, float deviation) {
    b.d = F16::from(deviation / 13.8f);
    b.dmin = F16::from(1.5f * deviation / 13.8f);
}
void set_scale(BlockQ3_K& b, float deviation) {
    b.d = F16::from(deviation / 42.4f);
}
void set_scale(BlockQ4_K& b, float deviation) {
    b.d = F16::from(deviation / 258.0f);
    b.dmin = F16::from(7.5f * deviation / 258.0f);
}
void set_scale(BlockQ5_K& b, float deviation) {
    b.d = F16::from(deviation / 526.0f);
    b.dmin = F16::from(15.5f * deviation / 526.0f);
}
void set_scale(BlockQ6_K& b, float deviation) {
    b.d = F16::from(deviation / 1365.0f);
}
void set_scale(BlockQ8_K& b, float deviation) {
    b.d = deviation / 73.9f;
    for (int g = 0; g < 16; ++g) {
        b.sums[g] = 0;
        for (int i = 0; i < 16; ++i) b.sums[g] = static_cast<int16_t>(b.sums[g] + b.qs[16 * g + i]);
    }
}
void set_scale(BlockIQ4_NL& b, float deviation) {
    b.d = F16::from(deviation / 70.0f);
}
void set_scale(BlockIQ4_XS& b, float deviation) {
    b.d = F16::from(deviation / 1295.0f);
}

// Half of the scales above the wanted one, half below: E4M3 is coarse there.
void set_scale(BlockNVFP4& b, float deviation) {
    uint8_t code = 2;
    while (code < 126 && E4M3::value(code) < deviation / 2.93f) ++code;
    for (int g = 0; g < 4; ++g) b.scales[g] = static_cast<uint8_t>(code - g % 2);
}
void set_scale(BlockQ4_Z& b, float deviation) {
    b.d = F16::from(deviation / 4.6f);
    b.z = F16::from(7.5f);
}
void set_scale(BlockQ8_Z& b, float deviation) {
    b.d = F16::from(deviation / 73.9f);
    b.z = F16::from(127.5f);
}

template <class Block>
concept ScaledAfterwards = requires(Block& b) {
    set_scale(b, 1.0f);
};

template <class Block>
void random_blocks(int64_t n_blocks, float deviation, Random& random, std::byte* data) {
    for (int64_t i = 0; i < n_blocks; ++i) {
        std::byte bytes[sizeof(Block)];
        for (std::byte& b : bytes) b = static_cast<std::byte>(random.next() >> 56);
        Block block;
        std::memcpy(&block, bytes, sizeof(Block));
        set_scale(block, deviation);
        std::memcpy(data + i * static_cast<int64_t>(sizeof(Block)), &block, sizeof(Block));
    }
}

}  // namespace

void random_row(Format f, int64_t n, uint64_t seed, float deviation, std::byte* data, std::byte* scales) {
    const FormatInfo& info = format_info(f);
    CHECK(n % info.block_len == 0);
    Random random(seed);
    switch (f) {
#define X(name, id, text, encodes)                                                          \
    case Format::name:                                                                      \
        if constexpr (ScaledAfterwards<Block##name>) {                                      \
            return random_blocks<Block##name>(n / info.block_len, deviation, random, data); \
        }                                                                                   \
        break;
        QUANT_FORMATS(X)
#undef X
    }
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) v = random.normal() * deviation;
    encode_row(f, x, data, scales);
}

}  // namespace smelt
