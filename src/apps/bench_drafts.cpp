// The answers are given: whatever the model draws, the text goes on as it is written here, so that what is
// measured is the kind of text and not the model's talent. All work is done as for an answer of its own; one
// row is of such an answer.
#include "apps/bench_drafts.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <cmath>

#include "apps/series.h"
#include "engine/device_runner.h"
#include "engine/step_loop.h"

namespace smelt {

namespace {

constexpr const char* code = R"(#include <map>
#include <string>
#include <vector>

// Counts how often each word of a text occurs.
class WordCounter {
 public:
    void add(const std::string& text) {
        std::string word;
        for (const char c : text) {
            if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
                word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
            } else if (!word.empty()) {
                ++counts[word];
                word.clear();
            }
        }
        if (!word.empty()) ++counts[word];
    }

    int count_of(const std::string& word) const {
        const auto found = counts.find(word);
        return found == counts.end() ? 0 : found->second;
    }

    std::vector<std::string> words() const {
        std::vector<std::string> all;
        for (const auto& [word, count] : counts) all.push_back(word);
        return all;
    }

 private:
    std::map<std::string, int> counts;
};
)";

constexpr const char* prose =
    "The harbour lay quiet under a thin layer of fog when the first boats came back. Most of them had been "
    "out since midnight, and the crews were tired, cold and hungry. On the quay an old woman sold coffee "
    "from a tin pot, as she had done every morning for thirty years. She knew each sailor by name and asked "
    "them about the catch, the weather and their children. Nobody hurried. The gulls circled above the "
    "nets, and somewhere behind the warehouses a radio played a song that everyone knew but nobody could "
    "name. When the sun finally broke through, the water turned from grey to silver, and the town began to "
    "wake: shutters were opened, bread was carried from the bakery, a bus stopped with a long sigh. It was "
    "an ordinary day, and that was exactly what made it worth remembering. Years later, when the port had "
    "been closed and the boats were sold, people still spoke of those mornings as if they had been a gift.";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
        text.replace(at, from.size(), to);
    return text;
}

std::vector<int32_t> words_as_ids(const std::string& text, int64_t vocab_size) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < text.size();) {
        size_t end = i + 1;
        const auto is_word = [&](size_t at) {
            return std::isalnum(static_cast<unsigned char>(text[at])) != 0;
        };
        while (end < text.size() && is_word(i) && is_word(end)) ++end;
        uint64_t h = 0xcbf29ce484222325u;
        for (; i < end; ++i) h = (h ^ static_cast<unsigned char>(text[i])) * 0x100000001b3u;
        ids.push_back(static_cast<int32_t>(h % static_cast<uint64_t>(vocab_size)));
    }
    return ids;
}

struct Task {
    const char* kind;
    std::vector<int32_t> prompt, answer;  // none: the model's own
};

// What a device draws is replaced by what comes next in the given text.
class GivenAnswer final : public ModelRunner {
 public:
    explicit GivenAnswer(ModelRunner& runner) : runner_(runner) {}
    std::vector<int32_t> text;  // prompt and answer; empty: whatever is drawn

    const RunnerShape& shape() const override { return runner_.shape(); }
    void launch(const Batch& batch) override {
        batches_[n_launched_++ % 2] = &batch;
        runner_.launch(batch);
    }
    StepResult collect() override {
        StepResult result = runner_.collect();
        const Batch& b = *batches_[n_collected_++ % 2];
        tokens_.assign(result.tokens.begin(), result.tokens.end());
        for (size_t r = 0; r < tokens_.size(); ++r) {
            const auto next = static_cast<size_t>(b.positions[static_cast<size_t>(b.logits_rows[r])]) + 1;
            if (next < text.size()) tokens_[r] = text[next];
        }
        result.tokens = tokens_;
        return result;
    }
    void copy_blocks(std::span<const BlockCopy> copies) override { runner_.copy_blocks(copies); }

 private:
    ModelRunner& runner_;
    const Batch* batches_[2] = {};
    size_t n_launched_ = 0, n_collected_ = 0;
    std::vector<int32_t> tokens_;
};

struct Measured {
    Series plain, drafted, speed_up;
    int64_t n_tokens = 0, n_steps = 0, n_drafted = 0, n_accepted = 0;
};

class DraftBench {
 public:
    DraftBench(const Model& model, const Model* draft, Backend& backend, const DraftBenchOptions& o)
        : o_(o), runner_(model, backend, cache_of(model, backend, o)), given_(runner_) {
        if (draft != nullptr) draft_.emplace(*draft, backend, cache_of(*draft, backend, o));
        // A device with two steps under way would have drawn the token that the next one begins with.
        loop_.emplace(given_, SchedulerOptions{.max_seqs = 4}, o.drafts, draft_ ? &*draft_ : nullptr);
    }

    Measured measure(const Task& task) {
        Measured m;
        given_.text = task.prompt;
        given_.text.insert(given_.text.end(), task.answer.begin(), task.answer.end());
        if (task.answer.empty()) given_.text.clear();
        for (int run = 0; run <= o_.n_runs; ++run) {  // the first warms up
            const StepLoopStats before = loop_->stats();
            const FinishEvent drafted = answer(task, -1);
            const StepLoopStats after = loop_->stats();
            const FinishEvent plain = answer(task, 0);
            if (run == 0) continue;
            const auto rate = [](const FinishEvent& f) { return (f.n_generated - 1) / f.decode; };
            m.plain.values.push_back(rate(plain));
            m.drafted.values.push_back(rate(drafted));
            m.speed_up.values.push_back(plain.decode / drafted.decode);
            m.n_tokens += drafted.n_generated - 1;
            m.n_steps += after.n_steps - before.n_steps - 1;
            m.n_drafted += drafted.n_drafted;
            m.n_accepted += drafted.n_draft_accepted;
        }
        return m;
    }

 private:
    static constexpr int n_ctx = 1024;

    static DeviceRunnerOptions cache_of(const Model& model, const Backend& backend,
                                        const DraftBenchOptions& o) {
        const ModelConfig& c = model.config();
        const int parts =
            c.window == 0 ? 0 : window_parts_for(c.window, default_block_len, 4, max_steps_of(backend) * 512);
        return {.n_ctx = n_ctx, .kv = o.kv, .n_window_parts = parts};
    }

    FinishEvent answer(const Task& task, int max_drafts) {
        FinishEvent finish;
        const int n = task.answer.empty() ? 200 : static_cast<int>(task.answer.size());
        Request r{.tokens = task.prompt,
                  .sampling = {.temperature = 0},
                  .max_tokens = std::min(n, n_ctx - 1 - static_cast<int>(task.prompt.size())),
                  .ignore_eos = true,
                  .max_drafts = max_drafts};
        r.sink = [&](const Event& event) {
            if (const auto* f = std::get_if<FinishEvent>(&event)) finish = *f;
        };
        if (const std::string problem = check_request(r, loop_->limits()); !problem.empty())
            throw Error("{}", problem);
        loop_->add(++last_id_, std::make_shared<const Request>(std::move(r)), 0, Sequence::Clock::now());
        while (!loop_->idle()) loop_->step();
        loop_->flush();
        if (finish.reason == FinishReason::error) throw Error("{}", finish.error);
        return finish;
    }

    const DraftBenchOptions& o_;
    DeviceRunner runner_;
    GivenAnswer given_;
    std::optional<DeviceRunner> draft_;
    std::optional<StepLoop> loop_;
    RequestId last_id_ = 0;
};

std::array<Task, 4> make_tasks(const Model& model, const DraftBenchOptions& o) {
    const auto ids = [&](const std::string& text) {
        std::vector<int32_t> all = o.encode ? o.encode(text) : words_as_ids(text, model.config().vocab_size);
        constexpr size_t most = 480;  // question and answer fit
        all.resize(std::min(all.size(), most));
        return all;
    };
    const std::string edited =
        replaced(replaced(code, "count_of", "frequency"), "words() const", "sorted_words() const");
    return {
        Task{"editing", ids(std::string("Rename count_of to frequency and words to sorted_words:\n") + code),
             ids(edited)},
        Task{"code", ids("Write a class in C++ that counts words.\n"), ids(code)},
        Task{"prose", ids("Describe a morning in a harbour.\n"), ids(prose)},
        Task{"its own", ids("Describe a morning in a harbour.\n"), {}}};
}

}  // namespace

void bench_drafts(const std::string& name, const Model& model, const Model* draft, Backend& backend,
                  const DraftBenchOptions& o) {
    if (max_steps_of(backend) > 1) {
        // The texts given here are known to the host alone.
        throw Error(
            "bench: answers are given, and {} draws the next token before the host can give it; "
            "smelt serve --speculate has the counts in /metrics",
            backend.name());
    }
    DraftBench bench(model, draft, backend, o);
    Json rows = Json::array();
    if (!o.json) {
        fmt::print(
            "{}, {}: {}\none answer at a time, median of {} runs in alternation\n\n"
            "{:>8}  {:>13}  {:>15}  {:>24}  {:>13}  {}\n",
            name, backend.name(), backend.description(), o.n_runs, "text", "plain, tok/s", "drafted, tok/s",
            "speed-up (worst to best)", "tokens a step", "accepted of drafted");
    }
    for (const Task& task : make_tasks(model, o)) {
        const Measured m = bench.measure(task);
        const double per_step = static_cast<double>(m.n_tokens) / static_cast<double>(m.n_steps);
        if (o.json) {
            rows.push_back({{"text", task.kind},
                            {"plain_tokens_per_s", m.plain.json()},
                            {"drafted_tokens_per_s", m.drafted.json()},
                            {"speed_up", m.speed_up.json()},
                            {"tokens_per_step", per_step},
                            {"drafted", m.n_drafted},
                            {"accepted", m.n_accepted}});
            continue;
        }
        fmt::print(
            "{:>8}  {:>13.2f}  {:>15.2f}  {:>24}  {:>13.2f}  {}\n", task.kind, m.plain.median(),
            m.drafted.median(),
            fmt::format("{:.2f} ({:.2f} to {:.2f})", m.speed_up.median(), m.speed_up.min(), m.speed_up.max()),
            per_step,
            m.n_drafted == 0
                ? std::string("none drafted")
                : fmt::format("{:.0f} % of {}",
                              100.0 * static_cast<double>(m.n_accepted) / static_cast<double>(m.n_drafted),
                              m.n_drafted));
        std::fflush(stdout);
    }
    if (!o.json) return;
    const Json result = {{"model", name},
                         {"device", backend.name()},
                         {"device_description", backend.description()},
                         {"runs", o.n_runs},
                         {"drafts", rows}};
    fmt::print("{}\n", result.dump(2));
}

}  // namespace smelt
