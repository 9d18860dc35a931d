// Collects the timings of ops: bounded in events, complete in sums.
#include "backend/trace.h"

#include <utility>

namespace smelt {

int Trace::add_stream(std::string name) {
    const std::scoped_lock lock(mutex_);
    contents_.streams.push_back(std::move(name));
    n_steps_.push_back(0);
    return static_cast<int>(n_steps_.size()) - 1;
}

int Trace::text_of(const AnyOp& op) {
    const auto [entry, is_new] =
        text_numbers_.try_emplace(print_op(op), static_cast<int>(contents_.texts.size()));
    if (is_new) {
        contents_.texts.push_back({std::string(op_name(op)), entry->first});
        contents_.sums.emplace_back();
    }
    return entry->second;
}

void Trace::add_step(int stream, const Record& record, const StepCounts& counts,
                     std::span<const Timing> timings) {
    const std::scoped_lock lock(mutex_);
    const int64_t step = n_steps_[static_cast<size_t>(stream)]++;
    for (size_t i = 0; i < timings.size();) {
        const Timing& first = timings[i];
        double end = first.end;
        while (++i < timings.size() && timings[i].op == first.op) end = timings[i].end;
        const AnyOp& op = record.ops()[static_cast<size_t>(first.op)];
        const Event event{.text = text_of(op),
                          .stream = stream,
                          .step = step,
                          .n_tokens = counts.n_tokens,
                          .begin = first.begin,
                          .end = end,
                          .bytes = static_cast<double>(bytes_of(op, counts)),
                          .flops = flops_of(op, counts)};
        Sum& sum = contents_.sums[static_cast<size_t>(event.text)];
        ++sum.n;
        sum.seconds += end - first.begin;
        sum.bytes += event.bytes;
        sum.flops += event.flops;
        if (contents_.events.size() < max_events_) {
            contents_.events.push_back(event);
        } else {
            ++contents_.n_dropped;
        }
    }
}

Trace::Contents Trace::take() {
    const std::scoped_lock lock(mutex_);
    text_numbers_.clear();
    Contents all = std::exchange(contents_, {});
    contents_.streams = all.streams;
    return all;
}

}  // namespace smelt
