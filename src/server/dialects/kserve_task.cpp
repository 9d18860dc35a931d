// The life of an answer is Answer's; here its words are tensors, and its place is a caller's functions.
#include "server/dialects/kserve_task.h"

#include "server/dialects/answer.h"
#include "server/dialects/make_job.h"

namespace smelt {

class KserveTask::Place final : public Exchange {
 public:
    explicit Place(KserveCaller caller) : caller_(std::move(caller)) {}

    void send(HttpAnswer) override {}
    void begin_stream(HttpAnswer) override {}
    void write(std::string) override {}
    void end() override { close(); }
    void abandon() override { fail(memory_error(Held::later)); }
    void on_loss(std::function<void(Loss)> handler) override { on_loss_ = std::move(handler); }
    void on_flow(std::function<void(bool)>) override {}
    void post(std::function<void()> work) override { caller_.post(std::move(work)); }
    Held hold(size_t) override { return Held::yes; }
    Held hold_only(size_t) override { return Held::yes; }

    void respond(KserveResponse response) {
        if (is_open_) caller_.respond(std::move(response));
    }
    void fail(const ApiError& error) {
        if (is_open_) caller_.fail(error);
        close();
    }
    void lose() {
        close();
        if (const auto handler = std::exchange(on_loss_, nullptr)) handler(Loss::gone);
    }

 private:
    // What the caller's functions hold goes with them, on the thread that they are called on.
    void close() {
        is_open_ = false;
        caller_.respond = nullptr;
        caller_.fail = nullptr;
    }

    KserveCaller caller_;
    bool is_open_ = true;
    std::function<void(Loss)> on_loss_;
};

namespace {

template <class Place>
class TensorsAnswer final : public Answer {
 public:
    TensorsAnswer(Setup setup, std::shared_ptr<Place> place, KserveQuestion question, bool streams)
        : Answer(std::move(setup)),
          place_(std::move(place)),
          question_(std::move(question)),
          streams_(streams) {}

 private:
    void more(int index, const TextDelta& text, const std::vector<TokenEvent>& tokens) override {
        n_sent_ += static_cast<int>(tokens.size());
        if (!streams_) return;
        const std::string piece = kserve_text(question_, text.thinking, text.answer);
        if (piece.empty()) return;
        const KserveRow row{.text = take_prefix(static_cast<size_t>(index)) + piece,
                            .n_input = n_prompt(),
                            .n_output = n_sent_};
        respond({&row, 1}, false);
    }
    void end() override {
        std::vector<KserveRow> rows;
        for (size_t i = 0; i < n_choices(); ++i) {
            const Choice& c = choice(static_cast<int>(i));
            const std::string text = streams_ ? "" : kserve_text(question_, c.thinking, c.text);
            rows.push_back({.text = take_prefix(i) + text,
                            .finish_reason = c.end.reason,
                            .n_input = c.end.finish.n_prompt,
                            .n_output = c.end.finish.n_generated});
        }
        respond(rows, true);
    }
    void fail(const ApiError& error) override { place_->fail(error); }
    Json whole() override { return {}; }  // it always streams

    // The input, before the first piece.
    std::string take_prefix(size_t row) {
        if (!question_.repeats_input || (streams_ && was_begun_)) return "";
        was_begun_ = true;
        return question_.texts[row];
    }
    void respond(std::span<const KserveRow> rows, bool is_last) {
        KserveResponse r{.outputs = {}, .is_last = is_last};
        for (const KserveQuestion::Output& o : question_.outputs)
            r.outputs.push_back(kserve_output(o.name, question_.shape, rows));
        place_->respond(std::move(r));
    }

    std::shared_ptr<Place> place_;
    const KserveQuestion question_;
    const bool streams_;
    bool was_begun_ = false;
    int n_sent_ = 0;
};

}  // namespace

std::vector<JobSpec> kserve_jobs(ServerContext& server, const KserveQuestion& q, const std::string& key,
                                 const WorkerTurn& turn) {
    if (!q.uses_template) {
        const std::vector<PlainPrompt> prompts(q.texts.begin(), q.texts.end());
        return make_jobs(server, q.request, prompts, prompts.size() > 1, key, turn);
    }
    std::vector<JobSpec> jobs;
    for (size_t i = 0; i < q.texts.size(); ++i) {
        jobs.push_back(make_job(server, kserve_chat_request(q, i), key, turn));
        jobs.back().options.batch = q.texts.size() > 1;
    }
    return jobs;
}

KserveTask::KserveTask(ServerContext& server, KserveQuestion question, Options options, KserveCaller caller)
    : place_(std::make_shared<Place>(std::move(caller))) {
    const bool streams = question.streams.value_or(options.streams);
    if (streams && question.texts.size() > 1) {
        throw bad_request("not_supported", "stream", "stream: expected one text, found {}",
                          question.texts.size());
    }
    std::vector<JobSpec> jobs = kserve_jobs(server, question, options.key, options.turn);
    Answer::Setup setup{server, place_, std::move(jobs), true, ErrorStyle::kserve, options.record};
    const auto answer =
        std::make_shared<TensorsAnswer<Place>>(std::move(setup), place_, std::move(question), streams);
    place_->post([&server, place = place_, answer] {
        try {
            answer->start();
        } catch (...) {
            ++server.metrics.received;
            ++server.metrics.rejected;
            place->fail(current_error(server));
        }
    });
}

void KserveTask::cancel() {
    place_->lose();
}

}  // namespace smelt
