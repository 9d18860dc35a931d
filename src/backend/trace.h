// Where the time of steps goes, op by op. Devices add each step that they ran, see Backend::set_trace();
// several devices and threads may share a trace. Knows nothing of files.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/record.h"

namespace smelt {

class Trace {
 public:
    // An event is 64 bytes: so many of them are 64 MB, and some 3000 steps of a model of 28 layers.
    static constexpr size_t default_max_events = size_t{1} << 20;
    explicit Trace(size_t max_events = default_max_events) : max_events_(max_events) {}

    // A device whose steps are one after the other. Returns its number.
    int add_stream(std::string name);

    struct Timing {
        int op;             // of the record
        double begin, end;  // seconds of the steady clock
    };
    // In the order of time. Neighbours of the same op become one event.
    void add_step(int stream, const Record& record, const StepCounts& counts,
                  std::span<const Timing> timings);

    struct Text {
        std::string name;   // "RmsNorm"
        std::string shape;  // the op as Record::print() has it
    };
    struct Event {
        int text, stream;  // where they are in the lists below
        int64_t step;      // of the stream
        int n_tokens;
        double begin, end;
        double bytes, flops;
    };
    struct Sum {  // of everything with one text
        int64_t n = 0;
        double seconds = 0, bytes = 0, flops = 0;
    };
    struct Contents {
        std::vector<std::string> streams;
        std::vector<Text> texts;
        std::vector<Sum> sums;      // by text, of all events
        std::vector<Event> events;  // the first of them, as many as are kept
        uint64_t n_dropped = 0;
    };
    // What came since this was called last; streams stay.
    Contents take();

 private:
    int text_of(const AnyOp& op);

    std::mutex mutex_;
    const size_t max_events_;
    Contents contents_;
    std::unordered_map<std::string, int> text_numbers_;  // by shape
    std::vector<int64_t> n_steps_;                       // by stream
};

}  // namespace smelt
