// What moves between devices at the end of a phase, through the host's memory.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/placement.h"

namespace smelt {

class Moves {
 public:
    explicit Moves(const std::vector<std::unique_ptr<Backend>>& backends) : backends_(backends) {}
    void make(const Move& move, const StepCounts& counts) {
        std::visit([&](const auto& m) { make(m, counts); }, move);
    }

 private:
    int n() const { return static_cast<int>(backends_.size()); }
    void make(const Transfer& move, const StepCounts& counts);
    void make(const AllReduce& move, const StepCounts& counts);
    void make(const AllGather& move, const StepCounts& counts);
    static std::byte* room(std::vector<std::byte>& bytes, size_t n);
    void send(const Tensor& t, DeviceMask to, const std::byte* bytes);

    const std::vector<std::unique_ptr<Backend>>& backends_;
    std::vector<std::byte> whole_, part_;
};

// The rows that a step has, as they lie at the beginning of t.
Tensor rows_now(Tensor t, const StepCounts& counts);

}  // namespace smelt
