// Where the time of steps goes, op by op: summed, and as a Chrome trace. A device adds one entry for each op
// of each step; see Backend::set_trace().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/record.h"

namespace smelt {

class Trace {
 public:
    // Op `op` of the record took from begin to end, seconds of the steady clock.
    void add(const Record& record, const StepCounts& counts, int op, double begin, double end);

    struct Event {
        std::string name;   // "RmsNorm"
        std::string shape;  // the op as Record::print() has it
        double begin = 0, end = 0;
        size_t bytes = 0;
        double flops = 0;
        int n_tokens = 0;
    };
    // Moves the events of another to the end of this: of a device that ran beside others.
    void take(Trace& other);
    const std::vector<Event>& events() const { return events_; }

 private:
    std::vector<Event> events_;
    int last_op_ = -1;
};

}  // namespace smelt
