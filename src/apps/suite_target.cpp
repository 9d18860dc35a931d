// Models with a vocabulary are opened as `run` opens them; shapes have none and get an engine alone.
#include "apps/suite_target.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "apps/conversion_job.h"
#include "apps/hub_model.h"
#include "apps/shapes.h"
#include "base/error.h"
#include "lab/built_in_text.h"

namespace smelt {

namespace {

constexpr int max_answers = 32;

EngineOptions suite_engine() {
    EngineOptions o;
    o.scheduler.max_seqs = max_answers;
    return o;
}

Format named_format(const std::string& name) {
    const auto format = format_from_name(name);
    if (!format) throw Error("--formats: not a number format: {}", name);
    return *format;
}

// Matrices whose rows are no whole blocks stay in another format; a model of those would be measured under a
// wrong name.
void check_format(const ModelFile& file, Format format) {
    int64_t all = 0, with_it = 0;
    for (const TensorView& t : file.tensors) {
        if (t.shape.size() < 2) continue;
        all += t.n_elements();
        if (t.format == format) with_it += t.n_elements();
    }
    if (with_it * 2 >= all) return;
    throw Error("{}: only {} % of the weights can have it: rows of the others are no whole blocks",
                to_string(format), all > 0 ? 100 * with_it / all : 0);
}

}  // namespace

std::shared_ptr<const ModelFile> open_suite_model(const SuiteModel& m, int n_threads, WrittenFile& written) {
    if (m.is_shape) {
        const Shape shape = find_shape(m.name);
        return make_random_model(m.n_layers > 0 ? with_layers(shape, m.n_layers) : shape,
                                 named_format(m.format));
    }
    const std::string path = local_model(m.name);
    if (m.format.empty()) return open_model(path);
    written.path =
        std::filesystem::temp_directory_path() / fmt::format("smelt-suite-{}-{}.gguf", ::getpid(), m.format);
    ConversionJob job{.in = path,
                      .out = written.path.string(),
                      .format = named_format(m.format),
                      .n_threads = n_threads,
                      .force = true};
    write_model(*open_model(path), job);
    auto file = open_model(written.path);
    check_format(*file, *job.format);
    return file;
}

SuiteTarget::SuiteTarget(const SuiteModel& m, const DeviceOptions& device, KvFormats kv, int n_ctx)
    : name_(m.name),
      kv_(kv),
      file_(override_rope_scaling(open_suite_model(m, device.n_threads, written_), device.rope_scaling)) {
    const std::string* architecture = file_->metadata.get_string("general.architecture");
    const auto trained =
        file_->metadata.get_int(architecture == nullptr ? "" : *architecture + ".context_length");
    if (trained) n_ctx = static_cast<int>(std::min<int64_t>(n_ctx, *trained));
    const int64_t kv_tokens = std::max(n_ctx, max_answers * 160);
    if (!m.is_shape) {
        ChatModelOptions o;
        o.device = device.name();
        o.backend = device.backend();
        o.n_ctx = n_ctx;
        o.kv_tokens = kv_tokens;
        o.kv = kv;
        o.engine = suite_engine();
        chat_ = ChatModel::open(file_, o);
        return;
    }
    backend_ = device.open();
    model_ = load_model(file_, *backend_);
    auto runner = std::make_unique<DeviceRunner>(
        *model_, *backend_,
        DeviceRunnerOptions{
            .n_ctx = n_ctx,
            .n_blocks = static_cast<int>((kv_tokens + default_block_len - 1) / default_block_len),
            .kv = kv});
    runner_ = runner.get();
    engine_ = std::make_unique<Engine>(std::move(runner), suite_engine());
}

WrittenFile::~WrittenFile() {
    std::error_code gone;
    if (!path.empty()) std::filesystem::remove(path, gone);
}

std::vector<int32_t> SuiteTarget::some_text(int n) const {
    std::vector<int32_t> text, ids;
    if (chat_) text = chat_->tokenizer().encode(std::string(calibration_text()));
    for (int i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(i);
        ids.push_back(text.empty()
                          ? static_cast<int32_t>((int64_t{i} * 7919 + 11) % model().config().vocab_size)
                          : text[at % text.size()]);
    }
    return ids;
}

std::vector<int32_t> SuiteTarget::question(const std::string& text) const {
    if (!chat_->has_template()) return chat_->make_text_prompt(text).ids;
    return chat_->make_prompt(Json::array({{{"role", "user"}, {"content", text}}})).ids;
}

size_t SuiteTarget::kv_bytes(int n_tokens, int n_streams) const {
    const size_t per_block = kv_block_bytes(model().config(), default_block_len, kv_).all();
    return per_block * static_cast<size_t>(n_streams) *
           static_cast<size_t>((n_tokens + default_block_len - 1) / default_block_len);
}

Json SuiteTarget::describe() const {
    int64_t n = 0;
    for (const TensorView& t : file_->tensors) n += t.n_elements();
    return {{"name", name_},
            {"architecture", model().config().architecture},
            {"parameters", n},
            {"weight_bytes", model().weight_bytes()},
            {"context", runner().shape().n_ctx}};
}

SuiteRun run_requests(std::span<const SuiteRequest> requests) {
    // Engines write, this thread waits; shared, because a sink may outlive a failure here.
    struct Board {
        std::mutex mutex;
        std::condition_variable done;
        std::vector<SuiteAnswer> answers;
        size_t n_ended = 0;
    };
    const auto board = std::make_shared<Board>();
    board->answers.resize(requests.size());
    using Clock = std::chrono::steady_clock;
    LoadMeter meter;
    const auto began = Clock::now();
    const auto since = [began] { return std::chrono::duration<double>(Clock::now() - began).count(); };
    static std::atomic<uint64_t> salt = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
        Request request = requests[i].request;
        request.cache_salt =
            ++salt;  // no prompt is found in the cache, neither a run's own nor a neighbour's
        request.sink = [board, since, i](Event event) {
            const std::lock_guard lock(board->mutex);
            SuiteAnswer& a = board->answers[i];
            if (const auto* token = std::get_if<TokenEvent>(&event)) {
                a.ids.push_back(token->id);
                a.times.push_back(since());
                return;
            }
            a.finish = std::get<FinishEvent>(std::move(event));
            a.end = since();
            ++board->n_ended;
            board->done.notify_one();
        };
        const auto submitted = requests[i].target->engine().submit(std::move(request));
        if (const auto* refusal = std::get_if<Refusal>(&submitted)) throw Error("{}", refusal->text);
    }
    std::unique_lock lock(board->mutex);
    board->done.wait(lock, [&] { return board->n_ended == requests.size(); });
    SuiteRun run{.answers = std::move(board->answers), .load = meter.finish(), .seconds = 0};
    for (const SuiteAnswer& a : run.answers) {
        if (a.finish.reason == FinishReason::error) throw Error("{}", a.finish.error);
        run.seconds = std::max(run.seconds, a.end);
    }
    return run;
}

}  // namespace smelt
