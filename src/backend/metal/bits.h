// Operations on words that GPUs have an instruction for, which their compilers do not find by themselves.
// For .metal files.
#pragma once

namespace smelt {

// The 32 bits of high:low that begin at `shift`, which is at most 32.
inline uint joined(uint low, uint high, uint shift) {
#ifdef __CUDACC__
    return __funnelshift_rc(low, high, shift);
#else
    return shift == 32 ? high : shift == 0 ? low : low >> shift | high << (32 - shift);
#endif
}

// 32768 + byte i of the word.
inline float byte_float(uint word, int i) {
#ifdef __CUDACC__
    return as_type<float>(__byte_perm(word, 0x47000000u, 0x7404u | uint(i) << 4));
#else
    return as_type<float>((word >> (8 * i) & 0xffu) << 8 | 0x47000000u);
#endif
}

// Two halves, whose upper bytes are bytes 1 and 3 of the word, or 0 and 2.
inline half2 odd_halves(uint word) {
    return as_type<half2>(word & 0xff00ff00u);
}
inline half2 even_halves(uint word) {
#ifdef __CUDACC__
    return as_type<half2>(__byte_perm(word, 0, 0x2404u));
#else
    return as_type<half2>(word << 8 & 0xff00ff00u);
#endif
}

}  // namespace smelt
