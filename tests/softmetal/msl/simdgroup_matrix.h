// 8x8 matrices that a simdgroup holds, two elements a lane.
#pragma once

#include "softmetal/msl/simd.h"

namespace metal {

template <class T, int rows, int columns>
struct simdgroup_matrix {
    static_assert(rows == 8 && columns == 8);
    vec<T, 2> elements;

    simdgroup_matrix() = default;
    explicit simdgroup_matrix(T diagonal) {
        for (int i = 0; i < 2; ++i) elements[i] = row() == column() + i ? diagonal : T(0);
    }
    vec<T, 2>& thread_elements() { return elements; }
    const vec<T, 2>& thread_elements() const { return elements; }

    // Where this lane's two elements lie, as on Apple's GPUs.
    static int row() {
        const int lane = static_cast<int>(softmetal::simdgroup->lane);
        return (lane / 4 & 4) + lane / 2 % 4;
    }
    static int column() {
        const int lane = static_cast<int>(softmetal::simdgroup->lane);
        return (lane / 4 & 2) * 2 + lane % 2 * 2;
    }
};
using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

template <class T, int rows, int columns>
simdgroup_matrix<T, rows, columns> make_filled_simdgroup_matrix(std::type_identity_t<T> value) {
    simdgroup_matrix<T, rows, columns> m;
    m.elements = vec<T, 2>(value);
    return m;
}

template <class T, class Space, class U>
void simdgroup_load(simdgroup_matrix<T, 8, 8>& m, softmetal::ptr<Space, U> from, ulong per_row = 8,
                    ulong2 origin = 0, bool transpose = false) {
    const int r = m.row(), c = m.column();
    for (int i = 0; i < 2; ++i) {
        const ulong row = static_cast<ulong>(transpose ? c + i : r),
                    column = static_cast<ulong>(transpose ? r : c + i);
        m.elements[i] = T(static_cast<U>(from[(origin.y + row) * per_row + origin.x + column]));
    }
}
template <class T, class Space>
void simdgroup_store(simdgroup_matrix<T, 8, 8> m, softmetal::ptr<Space, T> to, ulong per_row = 8,
                     ulong2 origin = 0, bool transpose = false) {
    const int r = m.row(), c = m.column();
    for (int i = 0; i < 2; ++i) {
        const ulong row = static_cast<ulong>(transpose ? c + i : r),
                    column = static_cast<ulong>(transpose ? r : c + i);
        to[(origin.y + row) * per_row + origin.x + column] = m.elements[i];
    }
}

// d = a * b + c: each element a chain of fused multiply-adds from c on, k ascending.
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                                   simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c, METAL_PLACE) {
    const int row = a.row(), column = a.column();
    const softmetal::MatrixOperands mine{{a.elements[0], a.elements[1]},
                                         {b.elements[0], b.elements[1]},
                                         {c.elements[0], c.elements[1]},
                                         row,
                                         column};
    const softmetal::MatrixProduct* product = simd_detail::collect<softmetal::MatrixProduct>(
        "simdgroup_multiply_accumulate", {file, line}, mine,
        [](const softmetal::MatrixOperands* lanes, uint n, softmetal::MatrixProduct& result) {
            if (n != 32)
                softmetal::report_index("simdgroup_multiply_accumulate in a simdgroup of fewer than 32", n,
                                        32);
            softmetal::multiply_accumulate(lanes, result);
        });
    for (int i = 0; i < 2; ++i) d.elements[i] = D(product->at[row][column + i]);
}
template <class D, class A, class B>
void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                        simdgroup_matrix<B, 8, 8> b, METAL_PLACE) {
    simdgroup_multiply_accumulate(d, a, b, simdgroup_matrix<float, 8, 8>(0.0F), file, line);
}

}  // namespace metal
