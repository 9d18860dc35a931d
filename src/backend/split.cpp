// Ops are handed on to the device that has their weights or their KV layer; others go where most of their
// input is. A tensor has room on every device, which is taken when it is first used there; which devices hold
// what is in it is kept by ranges of bytes. A device's record runs when another needs what it wrote, or at
// the end.
#include "backend/split.h"

#include <algorithm>
#include <array>
#include <map>
#include <unordered_map>

#include "backend/device_map.h"

namespace smelt {

namespace {

constexpr int max_devices = 32;  // bits of a mask
using Mask = uint32_t;

struct SplitStorage : Storage {
    explicit SplitStorage(size_t bytes) : n_bytes(bytes) {}
    struct Piece {
        size_t end;
        Mask valid;  // devices that hold these bytes
    };
    size_t n_bytes;
    std::array<std::unique_ptr<Storage>, max_devices> parts;
    std::map<size_t, Piece> pieces;  // by first byte; what is in none was never written
    int kv_device = -1;              // of a KV layer: it never moves

    // Pieces begin and end at this byte.
    void cut(size_t at) {
        auto it = pieces.upper_bound(at);
        if (it == pieces.begin()) return;
        --it;
        if (it->first == at || it->second.end <= at) return;
        pieces.emplace(at, it->second);
        it->second.end = at;
    }
};

struct SplitFile : Storage {
    std::vector<std::unique_ptr<Storage>> parts;
};

template <class View>
SplitStorage& storage_of(const View& v) {
    CHECK(v.storage != nullptr);
    return *static_cast<SplitStorage*>(v.storage);
}

size_t end_of(const Tensor& t) {
    if (t.n_rows() == 0) return t.offset;
    const int64_t n = (t.n_rows() - 1) * t.row_stride + t.row_len();
    return t.offset + static_cast<size_t>(n) * dtype_bytes(t.dtype);
}

class SplitBackend : public Backend {
 public:
    SplitBackend(const DeviceMap& map, const BackendOptions& options) : map_(map) {
        rest_ = device_named(map.rest, options);
        for (const DeviceMap::Entry& e : map.entries) {
            targets_.push_back({device_named(e.device, options), false});
        }
    }

    std::string_view name() const override { return "split"; }
    std::string description() const override {
        std::string text;
        for (const Device& d : devices_) {
            text += fmt::format("{}{} ({})", text.empty() ? "" : " and ", d.backend->name(),
                                d.backend->description());
        }
        return text;
    }
    // Of the device that has least: how the KV cache will be spread is known when it is used.
    uint64_t available_memory() const override {
        uint64_t least = UINT64_MAX;
        for (const Device& d : devices_) least = std::min(least, d.backend->available_memory());
        return least;
    }

    std::unique_ptr<Storage> map_file(std::span<const std::byte> bytes) override {
        auto files = std::make_unique<SplitFile>();
        for (Device& d : devices_) files->parts.push_back(d.backend->map_file(bytes));
        return files;
    }
    Weight load(const WeightView& view, WeightUse use) override {
        const int d = choose(view);
        Weight w = at(d).load(view, use);
        weights_.insert_or_assign(w.storage.get(), d);
        return w;
    }
    std::unique_ptr<Storage> allocate(size_t bytes) override {
        // The weights are in.
        for (size_t i = 0; i < targets_.size(); ++i) {
            if (targets_[i].used) continue;
            throw Error("--device-map: {}: the model has no such {}", map_.entries[i].text,
                        map_.entries[i].experts ? "weights" : "layers");
        }
        return std::make_unique<SplitStorage>(bytes);
    }

    void write(const Tensor& t, const void* bytes) override {
        const int d = rest_;
        const Tensor to = written(t, d);
        if (open_) record(d);
        at(d).write(to, bytes);
    }
    void read(const Tensor& t, void* bytes) override {
        const int d = home({t});
        at(d).read(held(t, d), bytes);
    }

    void begin() override {
        for (Device& d : devices_) d.recording = false;
        open_ = true;
    }
    void submit_and_wait() override {
        CHECK(open_, "no step is being recorded");
        for (int d = 0; d < n_devices(); ++d) flush(d);
        open_ = false;
    }

    void embed(Tensor out, const Weight& table, Tensor ids) override {
        const int d = device_of(table);
        ids = held(ids, d);
        record(d).embed(written(out, d), table, ids);
    }
    void matmul(std::span<const MatmulOut> outs, Tensor x) override {
        for (const Mask pending = devices_with(outs); const int d : each(pending)) {
            const Tensor in = held(x, d);
            std::vector<MatmulOut> own;
            for (const MatmulOut& m : outs) {
                if (device_of(*m.w) == d) own.push_back({written(m.out, d), m.w, m.bias});
            }
            record(d).matmul(own, in);
        }
    }
    void rms_norm(Tensor out, Tensor x, const Weight& w, float eps) override {
        const int d = device_of(w);
        x = held(x, d);
        record(d).rms_norm(written(out, d), x, w, eps);
    }
    void layer_norm(Tensor out, Tensor x, const Weight& w, const Weight& bias, float eps) override {
        const int d = device_of(w);
        x = held(x, d);
        record(d).layer_norm(written(out, d), x, w, bias, eps);
    }
    void add_rms_norm(Tensor out, Tensor residual, Tensor x, const Weight& w, float eps) override {
        const int d = device_of(w);
        x = held(x, d);
        residual = changed(residual, d);
        record(d).add_rms_norm(written(out, d), residual, x, w, eps);
    }
    void rope_table(Tensor table, Tensor positions, const Weight& inv_freq, float scale) override {
        const int d = device_of(inv_freq);
        positions = held(positions, d);
        record(d).rope_table(written(table, d), positions, inv_freq, scale);
    }
    void rope(Tensor x, Tensor table, RopePairing pairing, int64_t first) override {
        const int d = home({x});
        table = held(table, d);
        record(d).rope(changed(x, d), table, pairing, first);
    }
    void store_kv(const KvLayer& kv, Tensor k, Tensor v, const BatchView& batch) override {
        const int owner = storage_of(kv.k).kv_device, d = owner >= 0 ? owner : home({k});
        storage_of(kv.k).kv_device = storage_of(kv.v).kv_device = d;
        k = held(k, d);
        if (!kv.v_in_k()) v = held(v, d);
        const BatchView own = held(batch, d);
        record(d).store_kv(layer_part(kv, d), k, v, own);
    }
    void attention(Tensor out, Tensor q, const KvLayer& kv, const BatchView& batch,
                   const AttentionParams& p) override {
        const int d = storage_of(kv.k).kv_device;
        CHECK(d >= 0, "attention to a KV layer that holds nothing");
        q = held(q, d);
        const BatchView own = held(batch, d);
        record(d).attention(written(out, d), q, layer_part(kv, d), own, p);
    }
    void prepare_attention(const KvLayer& kv, Tensor q, Tensor k, Tensor v, const BatchView& batch,
                           const PrepareParams& p) override {
        const int d = storage_of(kv.k).kv_device;
        const bool elsewhere = (p.q_norm != nullptr && device_of(*p.q_norm) != d) ||
                               (p.k_norm != nullptr && device_of(*p.k_norm) != d);
        if (d < 0 || elsewhere) return Backend::prepare_attention(kv, q, k, v, batch, p);
        PrepareParams own = p;
        if (p.angles.rank > 0) own.angles = held(p.angles, d);
        if (q.rank > 0) q = changed(q, d);
        k = changed(k, d);
        if (!kv.v_in_k()) v = held(v, d);
        const BatchView own_batch = held(batch, d);
        record(d).prepare_attention(layer_part(kv, d), q, k, v, own_batch, own);
    }
    void add(Tensor x, Tensor y) override {
        const int d = home({x, y});
        y = held(y, d);
        record(d).add(changed(x, d), y);
    }
    void silu_mul(Tensor out, Tensor gate, Tensor up) override {
        const int d = home({gate, up});
        gate = held(gate, d);
        up = held(up, d);
        record(d).silu_mul(written(out, d), gate, up);
    }
    void clamped_silu_mul(Tensor out, Tensor gate, Tensor up, float alpha, float limit) override {
        const int d = home({gate, up});
        gate = held(gate, d);
        up = held(up, d);
        record(d).clamped_silu_mul(written(out, d), gate, up, alpha, limit);
    }
    void gelu(Tensor out, Tensor x) override {
        const int d = home({x});
        x = held(x, d);
        record(d).gelu(written(out, d), x);
    }
    void copy(Tensor out, Tensor x) override {
        const int d = home({x});
        x = held(x, d);
        record(d).copy(written(out, d), x);
    }
    void gather_rows(Tensor out, Tensor x, Tensor rows) override {
        const int d = home({x});
        x = held(x, d);
        rows = held(rows, d);
        record(d).gather_rows(written(out, d), x, rows);
    }
    void top_k(Tensor values, Tensor ids, Tensor x) override {
        const int d = home({x});
        x = held(x, d);
        ids = written(ids, d);
        record(d).top_k(written(values, d), ids, x);
    }
    void copy_kv_blocks(const KvLayer& kv, std::span<const int32_t> from,
                        std::span<const int32_t> to) override {
        const int d = storage_of(kv.k).kv_device;
        if (d >= 0) record(d).copy_kv_blocks(layer_part(kv, d), from, to);
    }
    void route(Tensor expert_ids, Tensor expert_weights, Tensor logits, const RouteParams& p) override {
        const int d = p.selection_bias != nullptr ? device_of(*p.selection_bias) : home({logits});
        logits = held(logits, d);
        expert_ids = written(expert_ids, d);
        record(d).route(expert_ids, written(expert_weights, d), logits, p);
    }
    void matmul_experts(std::span<const ExpertsOut> outs, Tensor x, Tensor expert_ids) override {
        for (const Mask pending = devices_with(outs); const int d : each(pending)) {
            const Tensor in = held(x, d), ids = held(expert_ids, d);
            std::vector<ExpertsOut> own;
            for (const ExpertsOut& m : outs) {
                if (device_of(m.experts.front()) == d) own.push_back({written(m.out, d), m.experts, m.bias});
            }
            record(d).matmul_experts(own, in, ids);
        }
    }
    void add_experts(Tensor x, Tensor y, Tensor expert_weights) override {
        const int d = home({x, y});
        y = held(y, d);
        expert_weights = held(expert_weights, d);
        record(d).add_experts(changed(x, d), y, expert_weights);
    }

 private:
    struct Device {
        std::string name;
        std::unique_ptr<Backend> backend;
        bool recording = false;
    };
    struct Target {
        int device;
        bool used;
    };

    int n_devices() const { return static_cast<int>(devices_.size()); }
    Backend& at(int d) { return *devices_[static_cast<size_t>(d)].backend; }

    int device_named(const std::string& name, const BackendOptions& options) {
        for (int d = 0; d < n_devices(); ++d) {
            if (devices_[static_cast<size_t>(d)].name == name) return d;
        }
        CHECK(n_devices() < max_devices);
        devices_.push_back({name, make_backend(name, options)});
        return n_devices() - 1;
    }

    // Experts before layers.
    int choose(const WeightView& view) {
        for (const bool experts : {true, false}) {
            for (size_t i = 0; i < targets_.size(); ++i) {
                const DeviceMap::Entry& e = map_.entries[i];
                const bool fits =
                    experts ? view.expert : view.layer >= e.first_layer && view.layer <= e.last_layer;
                if (e.experts != experts || !fits) continue;
                targets_[i].used = true;
                return targets_[i].device;
            }
        }
        return rest_;
    }
    int device_of(const Weight& w) const { return weights_.at(w.storage.get()); }

    static const Weight& weight_of(const MatmulOut& m) { return *m.w; }
    static const Weight& weight_of(const ExpertsOut& m) { return m.experts.front(); }
    template <class Out>
    Mask devices_with(std::span<const Out> outs) const {
        Mask mask = 0;
        for (const Out& m : outs) mask |= Mask{1} << device_of(weight_of(m));
        return mask;
    }
    static std::vector<int> each(Mask mask) {
        std::vector<int> list;
        for (int d = 0; d < max_devices; ++d) {
            if (mask >> d & 1) list.push_back(d);
        }
        return list;
    }

    // The device, recording.
    Backend& record(int d) {
        CHECK(open_, "no step is being recorded");
        Device& device = devices_[static_cast<size_t>(d)];
        if (!device.recording) device.backend->begin();
        device.recording = true;
        return *device.backend;
    }
    void flush(int d) {
        Device& device = devices_[static_cast<size_t>(d)];
        if (device.recording) device.backend->submit_and_wait();
        device.recording = false;
    }

    // Where most of the tensors' bytes are; the first tensor's device among equals.
    int home(std::initializer_list<Tensor> tensors) const {
        std::array<size_t, max_devices> bytes{};
        int first = -1;
        for (const Tensor& t : tensors) {
            const SplitStorage& s = storage_of(t);
            for (auto it = s.pieces.begin(); it != s.pieces.end() && it->first < end_of(t); ++it) {
                const size_t begin = std::max(it->first, t.offset), end = std::min(it->second.end, end_of(t));
                if (begin >= end) continue;
                for (const int d : each(it->second.valid)) {
                    if (first < 0) first = d;
                    bytes[static_cast<size_t>(d)] += end - begin;
                }
            }
        }
        if (first < 0) return rest_;
        const auto most = std::ranges::max_element(bytes);
        return *most > bytes[static_cast<size_t>(first)] ? static_cast<int>(most - bytes.begin()) : first;
    }

    template <class View>
    View part(View v, int d) {
        SplitStorage& s = storage_of(v);
        auto& own = s.parts[static_cast<size_t>(d)];
        if (own == nullptr) own = at(d).allocate(s.n_bytes);
        v.storage = own.get();
        return v;
    }
    KvLayer layer_part(KvLayer kv, int d) {
        kv.k = part(kv.k, d);
        kv.v = part(kv.v, d);
        return kv;
    }

    // The tensor on the device, with what was written to it anywhere.
    Tensor held(const Tensor& t, int d) {
        const Tensor result = part(t, d);
        SplitStorage& s = storage_of(t);
        auto it = s.pieces.upper_bound(t.offset);
        if (it != s.pieces.begin()) --it;
        for (; it != s.pieces.end() && it->first < end_of(t); ++it) {
            if (it->second.end <= t.offset || (it->second.valid >> d & 1)) continue;
            move(s, it->first, it->second.end, each(it->second.valid).front(), d);
            it->second.valid |= Mask{1} << d;
        }
        return result;
    }
    BatchView held(BatchView b, int d) {
        for (Tensor* t : {&b.ids, &b.positions, &b.slots, &b.seq_start, &b.block_table}) *t = held(*t, d);
        return b;
    }
    // ... of which the device will be the only one to hold what an op writes.
    Tensor written(const Tensor& t, int d) {
        const Tensor result = t.dense() ? part(t, d) : held(t, d);  // between its rows are others'
        SplitStorage& s = storage_of(t);
        const size_t end = end_of(t);
        s.cut(t.offset);
        s.cut(end);
        s.pieces.erase(s.pieces.lower_bound(t.offset), s.pieces.lower_bound(end));
        if (end > t.offset) s.pieces.emplace(t.offset, SplitStorage::Piece{end, Mask{1} << d});
        return result;
    }
    Tensor changed(const Tensor& t, int d) {
        (void)held(t, d);
        return written(t, d);
    }

    void move(SplitStorage& s, size_t begin, size_t end, int from, int to) {
        constexpr size_t element = dtype_bytes(DType::F16);
        const auto n = static_cast<int64_t>((end - begin) / element);
        Tensor t{.storage = &s,
                 .offset = begin,
                 .dtype = DType::F16,
                 .rank = 1,
                 .shape = {n, 0, 0, 0},
                 .row_stride = 1};
        host_.resize(end - begin);
        flush(from);
        at(from).read(part(t, from), host_.data());
        if (open_) record(to);
        at(to).write(part(t, to), host_.data());
    }

    DeviceMap map_;
    std::vector<Device> devices_;
    std::vector<Target> targets_;  // one an entry
    int rest_ = 0;
    bool open_ = false;
    std::unordered_map<const Storage*, int> weights_;
    std::vector<std::byte> host_;  // what is being copied
};

}  // namespace

std::unique_ptr<Backend> make_split_backend(std::string_view map, const BackendOptions& options) {
    return std::make_unique<SplitBackend>(parse_device_map(map), options);
}

}  // namespace smelt
