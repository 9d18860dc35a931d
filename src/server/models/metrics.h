// What the server counts: per model and as a whole, for /metrics (Prometheus' text) and /performance (JSON).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "base/json.h"

namespace smelt {

// Seconds: counts for Prometheus, and the latest values for percentiles.
class Latency {
 public:
    explicit Latency(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

    void add(double seconds);
    void print(std::string& out, const std::string& name, const std::string& labels) const;
    Json percentiles() const;  // {"p50", "p90", "p99", "mean", "count"}, of the last 2048; in milliseconds

 private:
    std::vector<double> bounds_;
    std::vector<uint64_t> counts_;  // per bucket, not summed up
    double sum_ = 0;
    uint64_t n_ = 0;
    std::deque<float> latest_;
};

struct ModelMetrics {
    mutable std::mutex mutex;
    uint64_t accepted = 0, completed = 0, failed = 0, cancelled = 0;
    uint64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
    uint64_t stops = 0, lengths = 0;  // of completed answers
    double decode_seconds = 0;        // summed over answers
    // From submission to the first step.
    Latency queued{{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160}};
    Latency first_token{
        {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}};
    Latency inter_token{
        {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5}};
    Latency whole{
        {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480}};
};

struct ServerMetrics {
    // Requests for answers: received = accepted + rejected, over all models that are or were loaded.
    std::atomic<uint64_t> received = 0, accepted = 0, rejected = 0;
    std::atomic<uint64_t> internal_errors = 0;
};

// One HELP and TYPE line, then a line per label set.
class MetricsText {
 public:
    void family(const std::string& name, const char* type, const char* help);
    void value(const std::string& labels, double v);
    void latency(const std::string& labels, const Latency& l) { l.print(text_, name_, labels); }
    std::string take() { return std::move(text_); }

 private:
    std::string text_, name_;
};

std::string model_label(const std::string& name);  // model_name="..." with Prometheus' escapes

}  // namespace smelt
