// One wake-up of the I/O thread for all events that came meanwhile.
#include "server/models/job.h"

#include <thread>

#include "base/log.h"

namespace smelt {

namespace {

constexpr int64_t usual_answer = 256;  // tokens, for the balance of replicas, where a request has no limit

[[noreturn]] void refuse(const Refusal& r) {
    switch (r.kind) {
        case Refusal::Kind::bad_request: {
            const size_t end = r.text.find_first_of(":[ ");
            throw bad_request("invalid_value", r.text.substr(0, end), "{}", r.text);
        }
        case Refusal::Kind::queue_full:
            throw RequestError({.status = 503,
                                .code = "server_overloaded",
                                .message = "too many requests are waiting",
                                .retry_after = 1});
        case Refusal::Kind::stopped:
            break;
    }
    throw RequestError({.status = 503,
                        .code = "shutting_down",
                        .message = "the model takes no more requests",
                        .retry_after = 5});
}

}  // namespace

Job::Job(JobSpec spec, Post post, std::shared_ptr<JobListener> listener)
    : spec_(std::move(spec)), post_(std::move(post)), listener_(std::move(listener)) {
    for (int i = 0; i < spec_.options.n; ++i) {
        answers_.push_back({spec_.model.chat().make_text_stream(spec_.prompt, spec_.options)});
    }
}

std::shared_ptr<Job> Job::start(JobSpec spec, Post post, std::shared_ptr<JobListener> listener) {
    const auto job = std::make_shared<Job>(std::move(spec), std::move(post), std::move(listener));
    ServedModel& model = *job->spec_.model.served;
    const GenerateOptions& options = job->spec_.options;
    Replica& replica = job->spec_.model.loaded->choose_replica(job->spec_.prompt.ids, options.cache_salt);
    Request request = replica.chat->make_request(job->spec_.prompt, options);
    request.sink = [job](Event event) { job->receive(std::move(event)); };
    if (job->spec_.tells_progress) {
        request.progress = [job](const PromptProgress& p) {
            job->post_([job, p] {
                if (job->listener_) job->listener_->progress(job->spec_.first_index, p);
            });
        };
    }
    const auto submitted = replica.chat->engine().submit(std::move(request));
    if (const auto* refusal = std::get_if<Refusal>(&submitted)) refuse(*refusal);
    job->id_ = std::get<RequestId>(submitted);
    job->replica_ = &replica;
    job->work_ = static_cast<int64_t>(job->spec_.prompt.ids.size()) +
                 int64_t{options.n} * (options.max_tokens < 0 ? usual_answer : options.max_tokens);
    replica.work += job->work_;
    ++model.outstanding;
    const std::lock_guard lock(model.metrics.mutex);
    ++model.metrics.accepted;
    return job;
}

void Job::cancel() {
    if (replica_ != nullptr) replica_->chat->engine().cancel(id_);
}

void Job::pause(bool stop) {
    if (replica_ == nullptr) return;
    Engine& engine = replica_->chat->engine();
    stop ? engine.pause(id_) : engine.resume(id_);
}

// Where memory is short, a token may be lost, and the answer's end says so; the end itself must not be.
void Job::receive(Event event) {
    constexpr int max_tries = 1000;
    for (int i = 0; i < max_tries; ++i) {
        try {
            return enqueue(event);
        } catch (const std::bad_alloc&) {
            lost_events_ = true;
            if (std::holds_alternative<TokenEvent>(event)) return;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }
    spdlog::error("an answer has no end: too little memory for it");
}

void Job::enqueue(Event& event) {
    const std::lock_guard lock(mutex_);
    if (inbox_.size() == inbox_.capacity()) inbox_.reserve(2 * inbox_.size() + 8);
    if (!scheduled_) {
        post_([self = shared_from_this()] { self->pump(); });
        scheduled_ = true;
    }
    inbox_.push_back({std::move(event), Clock::now()});
}

void Job::pump() {
    std::vector<Arrived> events;
    {
        const std::lock_guard lock(mutex_);
        events.swap(inbox_);
        scheduled_ = false;
    }
    if (!listener_) return;
    try {
        read(events);
    } catch (const std::bad_alloc&) {
        spdlog::error("an answer is given up: too little memory");
        cancel();
        any_error_ = true;
        listener_->broken();
        return close();
    }
    if (ended()) close();
}

void Job::read(std::vector<Arrived>& events) {
    for (Arrived& e : events) {
        if (auto* token = std::get_if<TokenEvent>(&e.event)) {
            take_token(std::move(*token), e.at);
        } else {
            take_end(std::get<FinishEvent>(std::move(e.event)));
        }
    }
    for (size_t i = 0; i < answers_.size(); ++i) flush(answers_[i], static_cast<int>(i));
}

void Job::close() {
    close_books();
    listener_.reset();
    // Here and not on the engine's thread, which could not wait for its own end.
    answers_.clear();
    n_ended_ = 0;
    replica_->work -= work_;
    replica_ = nullptr;
    --spec_.model.served->outstanding;
    spec_.model = {};
}

void Job::take_text(Answer& a, TextDelta text) {
    if (spec_.drop_calls) text.tool_calls.clear();
    a.has_calls |= !text.tool_calls.empty();
    a.text.append(std::move(text));
}

void Job::take_token(TokenEvent token, Clock::time_point at) {
    Answer& a = answers_[static_cast<size_t>(token.index)];
    if (token.of_prompt) return a.tokens.push_back(std::move(token));
    if (a.stream.stopped()) return;
    TextDelta text = a.stream.push(token.id);
    ++a.n_tokens;
    if (!text.thinking.empty()) a.n_thinking = a.n_tokens;
    take_text(a, std::move(text));
    {
        ModelMetrics& m = spec_.model.served->metrics;
        const std::lock_guard lock(m.mutex);
        ++m.generated_tokens;
        const double since =
            std::chrono::duration<double>(at - (a.last == Clock::time_point() ? started_ : a.last)).count();
        (a.last == Clock::time_point() ? m.first_token : m.inter_token).add(since);
    }
    a.last = at;
    const int index = token.index;
    a.tokens.push_back(std::move(token));
    if (a.stream.stopped()) replica_->chat->engine().cancel_answer(id_, index);
}

void Job::take_end(FinishEvent finish) {
    Answer& a = answers_[static_cast<size_t>(finish.index)];
    if (lost_events_) {
        finish.reason = FinishReason::error;
        finish.failure = Failure::memory;
        finish.error = "too little memory";
    }
    take_text(a, a.stream.finish());
    flush(a, finish.index);
    AnswerEnd end{.index = spec_.first_index + finish.index,
                  .reason = finish_reason(finish.reason, a.stream.stopped()),
                  .stop_string = a.stream.stop_string(),
                  .n_thinking = a.n_thinking,
                  .finish = std::move(finish)};
    if (end.reason == "stop" && a.has_calls) end.reason = "tool_calls";
    any_error_ |= end.reason == "error";
    any_cancelled_ |= end.reason == "cancelled";
    if (end.finish.failure == Failure::device) spec_.model.loaded->fail(end.finish.error);
    ++n_ended_;
    {
        ModelMetrics& m = spec_.model.served->metrics;
        const std::lock_guard lock(m.mutex);
        m.stops += end.reason == "stop" || end.reason == "tool_calls";
        m.lengths += end.reason == "length";
        m.decode_seconds += end.finish.decode;
        if (end.finish.index == 0) {
            m.queued.add(end.finish.queued);
            m.prompt_tokens += static_cast<uint64_t>(end.finish.n_prompt);
            m.cached_tokens += static_cast<uint64_t>(end.finish.n_cached_prompt);
        }
    }
    constexpr int enough = 8;  // tokens, for a rate that says something
    if (end.finish.n_generated > enough && end.finish.decode > 0) {
        std::atomic<double>& speed = spec_.model.served->tokens_per_second;
        speed = 0.9 * speed + 0.1 * (end.finish.n_generated - 1) / end.finish.decode;
    }
    listener_->ended(end);
}

void Job::flush(Answer& a, int index) {
    if (a.tokens.empty() && a.text.empty()) return;
    listener_->piece(spec_.first_index + index, std::exchange(a.text, {}), std::exchange(a.tokens, {}));
}

void Job::close_books() {
    spec_.model.served->touch();
    ModelMetrics& m = spec_.model.served->metrics;
    const std::lock_guard lock(m.mutex);
    ++(any_error_ ? m.failed : any_cancelled_ ? m.cancelled : m.completed);
    m.whole.add(std::chrono::duration<double>(Clock::now() - started_).count());
}

}  // namespace smelt
