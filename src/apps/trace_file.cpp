// The picture of a trace as JSON, and its table.
#include "apps/trace_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"

namespace smelt {

namespace {

double microseconds(double seconds) {
    return seconds * 1e6;
}

std::string event_text(const Trace::Event& e, const std::string& name, const std::string& shape,
                       double zero) {
    return fmt::format(
        R"({{"name":{},"cat":"op","ph":"X","pid":1,"tid":{},"ts":{:.3f},"dur":{:.3f},"args":{{"shape":{},"bytes":{:.0f},"flops":{:.0f},"tokens":{},"step":{}}}}},{})",
        name, e.stream + 1, microseconds(e.begin - zero), microseconds(e.end - e.begin), shape, e.bytes,
        e.flops, e.n_tokens, e.step, "\n");
}

// One event for each step, from the start of its first op to the end of its last: viewers draw the ops inside
// it.
std::vector<Trace::Event> steps_of(const Trace::Contents& trace) {
    std::map<std::pair<int, int64_t>, Trace::Event> steps;
    for (const Trace::Event& e : trace.events) {
        Trace::Event& step = steps.try_emplace({e.stream, e.step}, e).first->second;
        step.begin = std::min(step.begin, e.begin);
        step.end = std::max(step.end, e.end);
    }
    std::vector<Trace::Event> all;
    for (const auto& [key, step] : steps) all.push_back(step);
    return all;
}

}  // namespace

void write_chrome_trace(const Trace::Contents& trace, const std::function<void(std::string_view)>& write) {
    double zero = 0;
    for (const Trace::Event& e : trace.events) zero = zero == 0 ? e.begin : std::min(zero, e.begin);
    write("[\n");
    write(fmt::format(
        R"({{"name":"process_name","ph":"M","pid":1,"args":{{"name":"smelt, {} events{}"}}}},{})",
        trace.events.size(),
        trace.n_dropped > 0 ? fmt::format(", {} later ones dropped", trace.n_dropped) : "", "\n"));
    for (size_t i = 0; i < trace.streams.size(); ++i) {
        write(fmt::format(R"({{"name":"thread_name","ph":"M","pid":1,"tid":{},"args":{{"name":{}}}}},{})",
                          i + 1, Json(trace.streams[i]).dump(), "\n"));
    }
    for (const Trace::Event& s : steps_of(trace)) {
        write(fmt::format(
            R"({{"name":"step","cat":"step","ph":"X","pid":1,"tid":{},"ts":{:.3f},"dur":{:.3f},"args":{{"step":{},"tokens":{}}}}},{})",
            s.stream + 1, microseconds(s.begin - zero), microseconds(s.end - s.begin), s.step, s.n_tokens,
            "\n"));
    }
    std::vector<std::string> names, shapes;
    for (const Trace::Text& t : trace.texts) {
        names.push_back(Json(t.name).dump());
        shapes.push_back(Json(t.shape).dump());
    }
    for (size_t i = 0; i < trace.events.size(); ++i) {
        const Trace::Event& e = trace.events[i];
        const auto text = static_cast<size_t>(e.text);
        write(event_text(e, names[text], shapes[text], zero));
    }
    // The last, so that every other event can have a comma after it.
    write(fmt::format(R"({{"name":"dropped_events","ph":"M","pid":1,"args":{{"count":{}}}}})"
                      "\n]\n",
                      trace.n_dropped));
}

std::string rate_text(double per_second, const char* unit) {
    return per_second > 0 ? fmt::format("{:.2f} G{}/s", per_second / 1e9, unit) : std::string();
}

std::string sum_table(const Trace::Contents& trace) {
    std::map<std::string, Trace::Sum> by_name;
    double seconds = 0;
    for (size_t i = 0; i < trace.texts.size(); ++i) {
        Trace::Sum& s = by_name[trace.texts[i].name];
        s.n += trace.sums[i].n;
        s.seconds += trace.sums[i].seconds;
        s.bytes += trace.sums[i].bytes;
        s.flops += trace.sums[i].flops;
        seconds += trace.sums[i].seconds;
    }
    std::vector<std::pair<std::string, Trace::Sum>> rows(by_name.begin(), by_name.end());
    std::ranges::stable_sort(
        rows, [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
    std::string table = fmt::format("{:<15} {:>9} {:>11} {:>7}  {:>13}  {:>16}\n", "op", "count", "time, ms",
                                    "share", "bytes", "arithmetic");
    for (const auto& [name, s] : rows) {
        const double t = std::max(s.seconds, 1e-12);
        table += fmt::format("{:<15} {:>9} {:>11.3f} {:>5.1f} %  {:>13}  {:>16}\n", name, s.n,
                             s.seconds * 1e3, 100 * s.seconds / std::max(seconds, 1e-12),
                             rate_text(s.bytes / t, "B"), rate_text(s.flops / t, "FLOP"));
    }
    return table;
}

void run_traced(DeviceOptions& device, const std::function<void()>& verb) {
    if (device.trace_file.empty()) return verb();
    AtomicFile file(device.trace_file);
    Trace trace;
    device.trace = &trace;
    verb();
    const Trace::Contents contents = trace.take();
    std::string buffer;
    const auto flush = [&] {
        file.write(buffer);
        buffer.clear();
    };
    write_chrome_trace(contents, [&](std::string_view text) {
        buffer += text;
        if (buffer.size() > (size_t{1} << 20)) flush();
    });
    flush();
    file.commit();
    if (contents.texts.empty()) {
        fmt::print(stderr, "trace      {}: no step ran on a device that times its ops\n", device.trace_file);
        return;
    }
    fmt::print(stderr, "{}", sum_table(contents));
    const std::string dropped =
        contents.n_dropped == 0 ? ""
                                : fmt::format("; {} later events are in the table alone", contents.n_dropped);
    fmt::print(stderr, "trace      {}: {} events{}\n", device.trace_file, contents.events.size(), dropped);
}

}  // namespace smelt
