// A backend that remembers which tensor of a file each of its weights came from; all else it passes on.
#pragma once

#include <string>
#include <unordered_map>

#include "backend/backend.h"
#include "files/model_file.h"

namespace smelt {

// A matrix of a tensor: the whole of it, or one of a stack of experts.
struct TensorPart {
    const TensorView* tensor = nullptr;
    int64_t first_row = 0;
};

class NamedBackend final : public Backend {
 public:
    // Borrows both; `file` is what models are loaded from.
    NamedBackend(Backend& backend, const ModelFile& file) : backend_(backend), file_(file) {}

    // Nothing for weights that are computed while loading.
    TensorPart part_of(const Weight& weight) const;

    std::string_view name() const override { return backend_.name(); }
    std::string description() const override { return backend_.description(); }
    Capabilities describe() const override { return backend_.describe(); }
    uint64_t available_memory() const override { return backend_.available_memory(); }
    std::unique_ptr<Storage> map_file(std::span<const std::byte> bytes) override {
        return backend_.map_file(bytes);
    }
    Weight load(const WeightView& view, const WeightRole& role) override;
    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        return backend_.allocate_kv(shape);
    }
    std::unique_ptr<Program> compile(const Record& record) override { return backend_.compile(record); }
    void launch(Program& program, const StepInput& input) override { backend_.launch(program, input); }
    StepResult collect() override { return backend_.collect(); }
    void write(const Tensor& t, const void* bytes) override { backend_.write(t, bytes); }
    void read(const Tensor& t, void* bytes) override { backend_.read(t, bytes); }
    void set_trace(Trace* trace) override { backend_.set_trace(trace); }

 private:
    Backend& backend_;
    const ModelFile& file_;
    std::unordered_map<const Storage*, TensorPart> parts_;
};

}  // namespace smelt
