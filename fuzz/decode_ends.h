// What the fuzzers of model files do with a model that was read: the first and the last row of every tensor
// are decoded, and the tensors that its family needs are looked for.
#pragma once

#include <vector>

#include "files/families.h"
#include "files/model_file.h"

namespace smelt {

inline void decode_ends(const ModelFile& model) {
    for (const TensorView& t : model.tensors) {
        if (t.n_rows() == 0) continue;
        std::vector<float> row(static_cast<size_t>(t.row_len()));
        decode_row(t.row(0), row);
        decode_row(t.row(t.n_rows() - 1), row);
    }
    (void)missing_tensors(model);
}

}  // namespace smelt
