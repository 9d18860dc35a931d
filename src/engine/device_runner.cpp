// Allocates the KV cache, keeps a compiled program for each shape class, packs batches into inputs.
#include "engine/device_runner.h"

#include <algorithm>
#include <limits>

#include "backend/fusion.h"

namespace smelt {

namespace {

// Programs that are kept: more shape classes than a server's steps go through in a minute.
constexpr size_t max_programs = 64;

KvShape kv_shape(const ModelConfig& c, int64_t layer, int64_t n_blocks, int64_t block_len,
                 const KvFormats& kv) {
    // A row of floats for each block.
    if (c.recurrent_at(layer)) {
        const int64_t n = c.recurrent->state_floats();
        return {.k_format = Format::F32,
                .v_format = Format::F32,
                .n_blocks = n_blocks,
                .block_len = 1,
                .n_heads = 1,
                .k_dim = n,
                .v_dim = n,
                .v_in_k = true,
                .layer = layer};
    }
    return {.k_format = kv.k,
            .v_format = kv.v,
            .n_blocks = n_blocks,
            .block_len = block_len,
            .n_heads = c.n_kv_heads,
            .k_dim = c.head_dim,
            .v_dim = c.latent ? c.latent->kv_rank : c.head_dim,
            .v_in_k = c.latent.has_value(),
            .layer = layer,
            .cut_by_head = !c.latent};
}

// One, where all axes of every token agree: the step of most answers.
int rope_axes_of(const Batch& b) {
    const auto agree = [](const std::array<int32_t, 3>& p) { return p[0] == p[1] && p[0] == p[2]; };
    return b.rope_positions.empty() ? 0 : std::ranges::all_of(b.rope_positions, agree) ? 1 : 3;
}

void pack_pictures(const Batch& b, StepInput& input) {
    const InputTensors& in = input.tensors();
    for (size_t axis = 0; axis < static_cast<size_t>(input.shape().rope_axes); ++axis) {
        const auto to = input.of(in.rope_positions[axis]);
        for (size_t t = 0; t < b.ids.size(); ++t) {
            to[t] = t < b.rope_positions.size() ? b.rope_positions[t][axis] : b.positions[t];
        }
    }
    if (!in.features) return;
    const std::span<float> features = input.of<float>(in.features);
    std::fill_n(features.begin(), b.feature_len, 0.0f);
    std::ranges::copy(b.features, features.begin() + b.feature_len);
    const auto n_rows = static_cast<int32_t>(in.features.n_rows());
    for (size_t t = 0; t < b.ids.size(); ++t) {
        const int32_t row = t < b.feature_rows.size() ? b.feature_rows[t] : -1;
        input.of(in.feature_rows)[t] = row + 1;
        input.of(in.merged_rows)[t] = row >= 0 ? row + 1 : n_rows + static_cast<int32_t>(t);
    }
}

void pack_adapters(const Batch& b, StepInput& input) {
    const InputTensors& in = input.tensors();
    if (!in.adapters) return;
    const auto n = static_cast<size_t>(input.shape().n_adapters);
    const auto numbers = input.of(in.adapters);
    const auto scales = input.of<float>(in.adapter_scales);
    std::ranges::fill(numbers, 0);
    std::ranges::fill(scales, 0.0f);
    for (const Batch::TokenAdapter& a : b.adapters) {
        for (int32_t t = a.first; t < a.end; ++t) {
            const size_t at = static_cast<size_t>(t) * n + static_cast<size_t>(a.i);
            numbers[at] = a.number;
            scales[at] = a.scale;
        }
    }
    if (!in.logits_adapters) return;
    for (size_t row = 0; row < b.logits_rows.size(); ++row) {
        const size_t from = static_cast<size_t>(b.logits_rows[row]) * n;
        std::ranges::copy(numbers.subspan(from, n),
                          input.of(in.logits_adapters).begin() + static_cast<ptrdiff_t>(row * n));
        std::ranges::copy(scales.subspan(from, n),
                          input.of<float>(in.logits_scales).begin() + static_cast<ptrdiff_t>(row * n));
    }
}

RunnerShape shape_of(const ModelConfig& config, const DeviceRunnerOptions& o) {
    constexpr int64_t max_int = std::numeric_limits<int32_t>::max();
    if (o.n_ctx < 0) throw Error("context: expected 1 token or more (0: as trained), found {}", o.n_ctx);
    if (o.block_len < 1) throw Error("KV block length: expected 1 token or more, found {}", o.block_len);
    if (o.n_blocks < 0) throw Error("KV blocks: expected 1 or more, found {}", o.n_blocks);
    check_kv_formats(config, o.kv);
    const int64_t n_ctx = o.n_ctx > 0 ? o.n_ctx : config.n_ctx_train;
    if (config.n_positions > 0 && n_ctx > config.n_positions) {
        throw Error("context: {} has {} learned positions, expected at most as many tokens, found {}",
                    config.architecture, config.n_positions, n_ctx);
    }
    const int64_t n_blocks = o.n_blocks > 0 ? o.n_blocks : (n_ctx + o.block_len - 1) / o.block_len;
    // Slots are int32 on the device.
    if (n_ctx > max_int || n_blocks * o.block_len > max_int) {
        throw Error("KV cache: expected at most {} tokens, found {} blocks of {}", max_int, n_blocks,
                    o.block_len);
    }
    RunnerShape shape{.n_blocks = static_cast<int>(n_blocks),
                      .block_len = o.block_len,
                      .vocab_size = static_cast<int>(config.vocab_size),
                      .n_ctx = static_cast<int>(n_ctx),
                      .dim = static_cast<int>(config.dim)};
    if (config.window > 0 && o.n_window_parts < n_blocks) shape.windows = {config.window, o.n_window_parts};
    return shape;
}

}  // namespace

int max_steps_of(const Backend& backend) {
    return std::min(backend.describe().max_steps, 2);
}

KvBlockBytes kv_block_bytes(const ModelConfig& config, int block_len, const KvFormats& kv) {
    check_kv_formats(config, kv);
    KvBlockBytes bytes;
    for (int64_t layer = 0; layer < config.n_layers; ++layer) {
        (config.window_of(layer) > 0 ? bytes.windowed : bytes.full) +=
            kv_shape(config, layer, 1, block_len, kv).block_bytes();
    }
    return bytes;
}

DeviceRunner::DeviceRunner(const Model& model, Backend& backend, const DeviceRunnerOptions& options)
    : model_(model),
      backend_(backend),
      adapters_(model, backend, options.n_adapters, options.adapter_rank),
      shape_(shape_of(model.config(), options)),
      fuse_(options.fuse) {
    shape_.max_steps = max_steps_of(backend);
    shape_.n_adapters = options.n_adapters;
    shape_.two_classes = backend.describe().two_classes;
    shape_.keeps_states = model.config().recurrent.has_value();
    inputs_.resize(static_cast<size_t>(shape_.max_steps));
    const ModelConfig& config = model.config();
    std::vector<KvShape> shapes;
    for (int64_t layer = 0; layer < config.n_layers; ++layer) {
        const bool apart = config.window_of(layer) > 0 && shape_.windows.n_parts > 0;
        shapes.push_back(kv_shape(config, layer, apart ? shape_.windows.n_parts : shape_.n_blocks,
                                  shape_.block_len, options.kv));
        kv_bytes_ += shapes.back().n_bytes();
    }
    // The system would promise the memory and end the process once it is used.
    const uint64_t needed = kv_bytes_, free = backend.available_memory();
    if (needed > free) {
        throw Error(
            "KV cache of {} tokens: {:.2f} GB are needed, {:.2f} GB of memory are free; a smaller context "
            "fits",
            int64_t{shape_.n_blocks} * shape_.block_len, static_cast<double>(needed) / 1e9,
            static_cast<double>(free) / 1e9);
    }
    for (const KvShape& s : shapes) kv_.push_back(backend.allocate_kv(s));
    if (model.vision() != nullptr) vision_.emplace(*model.vision(), backend);
}

std::shared_ptr<const Features> DeviceRunner::features(const Patches& patches) {
    return vision_ ? vision_->features(patches) : ModelRunner::features(patches);
}

Record DeviceRunner::record(const StepShape& shape) const {
    Record record(shape);
    Step step(record, kv_, shape_.block_len, shape_.n_ctx, &adapters_.products());
    model_.forward(step);
    return fuse_ == Fuse::nothing ? record : fuse(std::move(record), backend_.describe().fusions);
}

void DeviceRunner::set_adapter(int number, const Adapter* adapter) {
    // Their records name weights that may go.
    std::erase_if(programs_, [](const auto& entry) { return entry.first.n_adapters > 0; });
    adapters_.clear(number);
    if (adapter == nullptr) return;
    adapters_.set(number, *adapter);
    const StepShape shape{
        .n_tokens = 1, .n_seqs = 1, .n_logits = 1, .max_blocks = 1, .all_logits = true, .n_adapters = 1};
    const std::string missing = adapters_.missing_in(record(shape), number);
    if (missing.empty()) return;
    adapters_.clear(number);
    throw Error("{}: {}: cannot be adapted while the model runs; smelt convert --lora merges it",
                adapter->path.string(), missing);
}

Program& DeviceRunner::program_for(const StepShape& shape) {
    const auto known = programs_.find(shape);
    if (known != programs_.end()) {
        known->second.last_used = n_launches_;
        return *known->second.program;
    }
    if (programs_.size() >= max_programs) {
        programs_.erase(std::ranges::min_element(programs_, {},
                                                 [](const auto& entry) { return entry.second.last_used; }));
    }
    const Record made = record(shape);
    activation_bytes_ = std::max(activation_bytes_, made.workspace_bytes());
    Compiled compiled{backend_.compile(made), n_launches_};
    return *programs_.emplace(shape, std::move(compiled)).first->second.program;
}

// The batch into the one input of its shape class.
void DeviceRunner::pack(const Batch& b, StepInput& input) {
    StepShape shape{
        .n_tokens = b.n_tokens(),
        .n_seqs = b.n_seqs(),
        .n_logits = static_cast<int>(b.logits_rows.size()),
        .every_logit = b.logits_rows.size() == b.ids.size(),
        .n_hidden = static_cast<int>(b.hidden_rows.size()),
        .max_blocks = b.max_blocks(),
        .windows = !b.window_slots.empty(),
        .draws = !b.draws.empty(),
        .all_logits = b.all_logits,
        .n_top = b.n_top,
        .n_edits = static_cast<int>(b.edits.size()),
        .mask_words = b.masks.empty() ? 0 : b.mask_words,
        .n_features = b.feature_rows.empty() ? 0 : static_cast<int>(b.features.size()) / b.feature_len,
        .feature_len = b.feature_len,
        .n_adapters = b.n_adapters(),
        .rope_axes = rope_axes_of(b)};
    input.reset(shape.bounds());
    const InputTensors& in = input.tensors();
    input.counts() = {.n_tokens = b.n_tokens(),
                      .n_seqs = b.n_seqs(),
                      .n_logits = shape.n_logits,
                      .n_hidden = shape.n_hidden,
                      .max_kv_len = b.max_kv_len,
                      .n_generated = b.n_generated};
    const auto put = [&]<class T>(const Tensor& t, const std::vector<T>& values) {
        if (!values.empty()) std::ranges::copy(values, input.of<T>(t).begin());
    };
    put(in.ids, b.ids);
    put(in.positions, b.positions);
    put(in.slots, b.slots);
    put(in.seq_start, b.seq_start);
    put(in.logits_rows, b.logits_rows);
    put(in.hidden_rows, b.hidden_rows);
    put(in.draw_rows, b.draws);
    put(in.edits, b.edits);
    put(in.masks, b.masks);
    pack_pictures(b, input);
    pack_adapters(b, input);
    if (shape.windows) put(in.window_slots, b.window_slots);
    const auto width = static_cast<size_t>(input.shape().max_blocks);
    for (int s = 0; s < b.n_seqs(); ++s) {
        const size_t row = static_cast<size_t>(s) * width;
        std::ranges::copy(b.blocks_of(s), input.of(in.block_table).subspan(row).begin());
        if (shape.windows)
            std::ranges::copy(b.window_blocks_of(s), input.of(in.window_table).subspan(row).begin());
    }
}

void DeviceRunner::launch(const Batch& batch) {
    CHECK(batch.n_tokens() > 0 && batch.seq_start.back() == batch.n_tokens());
    StepInput& input = inputs_[n_launches_++ % inputs_.size()];
    pack(batch, input);
    backend_.launch(program_for(input.shape()), input);
}

void DeviceRunner::copy_blocks(std::span<const BlockCopy> copies) {
    for (size_t layer = 0; layer < kv_.size(); ++layer) {
        pairs_.clear();
        for (const BlockCopy& c : copies) {
            pairs_.push_back(in_pool(layer) ? BlockPair{c.part_from, c.part_to} : BlockPair{c.from, c.to});
        }
        kv_[layer]->copy_blocks(pairs_);
    }
}

bool DeviceRunner::in_pool(size_t layer) const {
    return shape_.windows.n_parts > 0 && model_.config().window_of(static_cast<int64_t>(layer)) > 0;
}

KvBlockBytes DeviceRunner::block_bytes() const {
    KvBlockBytes n;
    for (size_t layer = 0; layer < kv_.size(); ++layer) {
        (in_pool(layer) ? n.windowed : n.full) += kv_[layer]->shape().block_bytes();
    }
    return n;
}

template <class F>
void DeviceRunner::each_layer_of(int32_t block, int32_t part, F f) const {
    for (const bool apart : {false, true}) {
        const int32_t b = apart ? part : block;
        for (size_t layer = 0; layer < kv_.size(); ++layer) {
            if (in_pool(layer) == apart && b != WindowBlocks::none) f(*kv_[layer], b);
        }
    }
}

void DeviceRunner::read_block(int32_t block, int32_t part, std::span<std::byte> bytes) {
    each_layer_of(block, part, [&](KvStorage& kv, int32_t b) {
        const size_t n = kv.shape().block_bytes();
        kv.read_block(b, bytes.first(n));
        bytes = bytes.subspan(n);
    });
}

void DeviceRunner::write_block(int32_t block, int32_t part, std::span<const std::byte> bytes) {
    each_layer_of(block, part, [&](KvStorage& kv, int32_t b) {
        const size_t n = kv.shape().block_bytes();
        kv.write_block(b, bytes.first(n));
        bytes = bytes.subspan(n);
    });
}

}  // namespace smelt
