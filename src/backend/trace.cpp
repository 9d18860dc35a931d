// Collects the timings of ops.
#include "backend/trace.h"

namespace smelt {

void Trace::add(const Record& record, const StepCounts& counts, int op, double begin, double end) {
    const AnyOp& any = record.ops()[static_cast<size_t>(op)];
    // An op of several stages is one event.
    if (!events_.empty() && events_.back().end == begin && events_.back().name == op_name(any) &&
        last_op_ == op) {
        events_.back().end = end;
        return;
    }
    last_op_ = op;
    events_.push_back({.name = std::string(op_name(any)),
                       .shape = print_op(any),
                       .begin = begin,
                       .end = end,
                       .bytes = bytes_of(any, counts),
                       .flops = flops_of(any, counts),
                       .n_tokens = counts.n_tokens});
}

void Trace::take(Trace& other) {
    last_op_ = -1;
    for (Event& e : other.events_) events_.push_back(std::move(e));
    other = {};
}

}  // namespace smelt
