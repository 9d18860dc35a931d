// One wake-up of the I/O thread for all events that came meanwhile.
#include "server/job.h"

namespace smelt {

namespace {

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
        answers_.push_back({spec_.model->chat->make_text_stream(spec_.prompt, spec_.options)});
    }
}

std::shared_ptr<Job> Job::start(JobSpec spec, Post post, std::shared_ptr<JobListener> listener) {
    const auto job = std::make_shared<Job>(std::move(spec), std::move(post), std::move(listener));
    ServedModel& model = *job->spec_.model;
    Request request = model.chat->make_request(job->spec_.prompt, job->spec_.options);
    request.sink = [job](Event event) { job->receive(std::move(event)); };
    const auto submitted = model.chat->engine().submit(std::move(request));
    if (const auto* refusal = std::get_if<Refusal>(&submitted)) refuse(*refusal);
    job->id_ = std::get<RequestId>(submitted);
    ++model.outstanding;
    const std::lock_guard lock(model.metrics.mutex);
    ++model.metrics.accepted;
    return job;
}

void Job::cancel() {
    if (spec_.model) spec_.model->chat->engine().cancel(id_);
}

void Job::receive(Event event) {
    {
        const std::lock_guard lock(mutex_);
        inbox_.push_back({std::move(event), Clock::now()});
        if (scheduled_) return;
        scheduled_ = true;
    }
    post_([self = shared_from_this()] { self->pump(); });
}

void Job::pump() {
    std::vector<Arrived> events;
    {
        const std::lock_guard lock(mutex_);
        events.swap(inbox_);
        scheduled_ = false;
    }
    for (Arrived& e : events) {
        if (auto* token = std::get_if<TokenEvent>(&e.event)) {
            take_token(std::move(*token), e.at);
        } else {
            take_end(std::get<FinishEvent>(std::move(e.event)));
        }
    }
    for (size_t i = 0; i < answers_.size(); ++i) flush(answers_[i], static_cast<int>(i));
    if (!ended() || !listener_) return;
    close_books();
    listener_.reset();
    // Here and not on the engine's thread, which could not wait for its own end.
    answers_.clear();
    n_ended_ = 0;
    --spec_.model->outstanding;
    spec_.model.reset();
}

void Job::take_token(TokenEvent token, Clock::time_point at) {
    Answer& a = answers_[static_cast<size_t>(token.index)];
    if (a.stream.stopped()) return;
    a.text.append(a.stream.push(token.id));
    {
        ModelMetrics& m = spec_.model->metrics;
        const std::lock_guard lock(m.mutex);
        ++m.generated_tokens;
        const double since =
            std::chrono::duration<double>(at - (a.last == Clock::time_point() ? started_ : a.last)).count();
        (a.last == Clock::time_point() ? m.first_token : m.inter_token).add(since);
    }
    a.last = at;
    a.tokens.push_back(std::move(token));
    // The engine ends all answers of a request at once; the others may still go on.
    if (a.stream.stopped() && ++n_stopped_ + n_ended_ == answers_.size()) cancel();
}

void Job::take_end(FinishEvent finish) {
    Answer& a = answers_[static_cast<size_t>(finish.index)];
    a.text.append(a.stream.finish());
    flush(a, finish.index);
    AnswerEnd end{.index = spec_.first_index + finish.index,
                  .reason = finish_reason(finish.reason, a.stream.stopped()),
                  .finish = std::move(finish)};
    any_error_ |= end.reason == "error";
    any_cancelled_ |= end.reason == "cancelled";
    ++n_ended_;
    {
        ModelMetrics& m = spec_.model->metrics;
        const std::lock_guard lock(m.mutex);
        m.stops += end.reason == "stop";
        m.lengths += end.reason == "length";
        m.decode_seconds += end.finish.decode;
        if (end.finish.index == 0) {
            m.prompt_tokens += static_cast<uint64_t>(end.finish.n_prompt);
            m.cached_tokens += static_cast<uint64_t>(end.finish.n_cached_prompt);
        }
    }
    constexpr int enough = 8;  // tokens, for a rate that says something
    if (end.finish.n_generated > enough && end.finish.decode > 0) {
        std::atomic<double>& speed = spec_.model->tokens_per_second;
        speed = 0.9 * speed + 0.1 * (end.finish.n_generated - 1) / end.finish.decode;
    }
    listener_->ended(end);
}

void Job::flush(Answer& a, int index) {
    if (a.tokens.empty() && a.text.answer.empty() && a.text.thinking.empty()) return;
    listener_->piece(spec_.first_index + index, std::exchange(a.text, {}), std::exchange(a.tokens, {}));
}

void Job::close_books() {
    if (any_error_) {
        ++spec_.model->failures_in_a_row;
    } else if (!any_cancelled_) {
        spec_.model->failures_in_a_row = 0;
    }
    ModelMetrics& m = spec_.model->metrics;
    const std::lock_guard lock(m.mutex);
    ++(any_error_ ? m.failed : any_cancelled_ ? m.cancelled : m.completed);
    m.whole.add(std::chrono::duration<double>(Clock::now() - started_).count());
}

}  // namespace smelt
