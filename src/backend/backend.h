// THE SEAM between models and devices. A model appends ops to a record; a backend compiles the record once
// per shape class and runs it with the input of each step. A backend never sees an architecture, a model
// never sees a device.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/kv_storage.h"
#include "backend/record.h"

namespace smelt {

class Trace;

// A record in a device's own form. May be launched any number of times, with inputs of the record's shape.
class Program {
 public:
    virtual ~Program() = default;
};

// Fused forms that a device has kernels for; see fusion.h.
struct Fusions {
    bool add_rms_norm = false, prepare_heads = false, gated_matmul = false;
};

// What its callers have to know of a device to use it well.
struct Capabilities {
    Fusions fusions = {};
    // Steps that may be under way at once. 2: the next one may be launched before this one is collected, so
    // that the device does not wait for the host. 1: the host's own threads compute, or must move data.
    int max_steps = 1;
    // Tokens of prompts are computed by other kernels than those of answers, with other last bits (see
    // StepCounts::n_generated), so that a token must be computed again in the role that it had.
    bool two_classes = false;
};

class Backend {
 public:
    virtual ~Backend() = default;
    virtual std::string_view name() const = 0;
    // For people: "16 threads, AVX-512".
    virtual std::string description() const = 0;
    virtual Capabilities describe() const { return {}; }

    // Bytes of the device that are free now.
    virtual uint64_t available_memory() const = 0;

    // A mapped file that weights will be loaded from. Whoever keeps it mapped keeps the result: a device may
    // let those weights alias it. May be null.
    virtual std::unique_ptr<Storage> map_file(std::span<const std::byte>) { return nullptr; }
    // Takes a weight into the device: may alias the bytes (which must then outlive the Weight), upload or
    // repack them.
    virtual Weight load(const WeightView& view, const WeightRole& role) = 0;
    // Zeroed. Throws Error naming the size when there is not enough memory.
    virtual std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) = 0;

    // May be slow; whoever runs steps keeps programs by shape class. Makes room in the workspace. Weights and
    // KV storage that the record names must outlive the program. Where several steps may be under way, it may
    // be called while one is.
    virtual std::unique_ptr<Program> compile(const Record& record) = 0;
    // Starts a step and returns at once where the device can; the input stays as it is until the step is
    // collected. At most describe().max_steps are under way. They run one after the other in the order of
    // their launch, and copies of KV blocks come in between as they were asked for.
    virtual void launch(Program& program, const StepInput& input) = 0;
    // Waits for the first step that is under way. Its results are valid until the next collect() or, where
    // one step is under way at a time, launch(). Throws what went wrong on the device; the KV slots of the
    // step are then undefined.
    virtual StepResult collect() = 0;

    // Dense tensors of the workspace, while no step is under way: for tests, and for what moves between
    // devices.
    virtual void write(const Tensor& t, const void* bytes) = 0;
    virtual void read(const Tensor& t, void* bytes) = 0;

    // From now on, steps are timed op by op into `trace`, which several devices may share; null: not. Devices
    // that cannot time their ops add nothing to it.
    virtual void set_trace(Trace* trace) { (void)trace; }
};

struct BackendOptions {
    int n_threads = 0;              // 0: one per physical core
    std::string isa = {};           // cpu only, cpu/isa.cpp: "avx2", "portable", ...; "" is the best there is
    bool repack = true;             // cpu only: weights in the kernels' own layout; the bits are the same
    int tensor_parallel = 1;        // partners that share the work on every weight that may be cut
    Trace* trace = nullptr;         // what set_trace() gets
    std::string cache_folder = {};  // where a device may keep kernels that it compiled; "": nowhere
};

// A device that smelt knows, and whether it is here.
struct BackendInfo {
    std::string name;         // "cpu"
    std::string description;  // of the device found, or what it would be
    std::string missing;      // why it cannot be used; empty when it can
};

// The one list of backends, best first.
std::vector<BackendInfo> list_backends();
// `name` from the list, "auto" for the first usable one, or a map of layers to several of them, see
// device_map.h. Throws Error naming those that are usable.
std::unique_ptr<Backend> make_backend(std::string_view name, const BackendOptions& options = {});

// Scalar, double accumulation, never optimised: what every other backend is compared with.
std::unique_ptr<Backend> make_reference_backend();

}  // namespace smelt
