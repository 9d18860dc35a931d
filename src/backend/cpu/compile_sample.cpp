// Draws tokens: every row by one thread, with scratch of its own.
#include <new>

#include "backend/cpu/compile.h"
#include "backend/cpu/sampler_pool.h"

namespace smelt::cpu {

namespace {

struct DrawRows {
    Sampler* samplers;  // one for each thread
    size_t vocab_size, mask_words;
    RowCount count;
    Place<float> logits, logprobs, log_sums;
    Place<int32_t> tokens;
    Place<const DrawRow> rows;
    Place<const LogitEdit> edits;
    Place<const uint64_t> masks;

    int begin(const Frame& f) { return static_cast<int>(count.in(f)); }
    void run(const Frame& f, int chunk, int member) const {
        const DrawRow& row = row_at(rows, f, chunk);
        if (row.draws == 0) return;
        const std::span<const LogitEdit> own(row.n_edits == 0 ? nullptr : &row_at(edits, f, row.first_edit),
                                             static_cast<size_t>(row.n_edits));
        const std::span<const uint64_t> mask(row.masked == 0 ? nullptr : &row_at(masks, f, chunk),
                                             row.masked == 0 ? 0 : mask_words);
        int32_t& token = tokens.in(f).first[chunk];
        try {
            token = samplers[member].draw({logits.in(f)[chunk], vocab_size}, row, own, mask,
                                          logprobs.in(f).first[chunk], log_sums.in(f)[chunk]);
        } catch (const std::bad_alloc&) {
            token = static_cast<int32_t>(DrawProblem::memory);  // threads of a pool must not throw
        }
    }
    // Strides of the input are in words of 4 bytes.
    template <class T>
    static const T& row_at(const Place<const T>& p, const Frame& f, int64_t i) {
        const auto* bytes = reinterpret_cast<const std::byte*>(p.in(f).first);
        return *reinterpret_cast<const T*>(bytes + static_cast<size_t>(i * p.stride) * sizeof(int32_t));
    }
};

}  // namespace

void compile(const Compiler& c, const Sample& op) {
    const auto vocab_size = static_cast<size_t>(op.logits.row_len());
    c.stages.add(
        DrawRows{.samplers = c.samplers.for_vocabulary(c.n_threads, static_cast<int>(vocab_size)).data(),
                 .vocab_size = vocab_size,
                 .mask_words = static_cast<size_t>(op.masks ? op.masks.row_len() / 2 : 0),
                 .count = RowCount(op.logits),
                 .logits = Place<float>(op.logits),
                 .logprobs = Place<float>(op.logprobs),
                 .log_sums = Place<float>(op.log_sums),
                 .tokens = Place<int32_t>(op.tokens),
                 .rows = Place<const DrawRow>(op.rows),
                 .edits = Place<const LogitEdit>(op.edits),
                 .masks = Place<const uint64_t>(op.masks)});
}

}  // namespace smelt::cpu
