// Starts, collects, ends.
#include "server/dialects/answer.h"

namespace smelt {

namespace {

ApiError ended_error(const char* message) {
    return {.status = 503, .code = "shutting_down", .message = message, .retry_after = 5};
}

}  // namespace

Answer::Answer(Setup setup)
    : server_(setup.server),
      exchange_(std::move(setup.exchange)),
      record_(std::move(setup.record)),
      specs_(std::move(setup.jobs)),
      stream_(setup.stream),
      errors_(setup.errors),
      use_(specs_.front().model),
      model_(use_.name()),
      n_(specs_.front().options.n),
      n_prompt_(static_cast<int>(specs_.front().prompt.ids.size())),
      warnings_(std::move(specs_.front().warnings)),
      choices_(specs_.size() * static_cast<size_t>(n_)) {}

size_t bytes_of(const std::vector<JobSpec>& jobs) {
    size_t n = 0;
    for (const JobSpec& j : jobs) {
        n += sizeof j + j.prompt.text.size() + 3 * sizeof(int32_t) * j.prompt.ids.size() + j.answer_bytes;
    }
    return n;
}

void Answer::submit_next() {
    JobSpec& spec = specs_[n_started_];
    spec.first_index = static_cast<int>(n_started_) * n_;
    const auto post = [exchange = exchange_](std::function<void()> work) { exchange->post(std::move(work)); };
    // A copy: where the queue is full, it is tried again.
    jobs_.push_back(Job::start(spec, post, shared_from_this()));
    spec = {};
    ++n_started_;
    n_running_ += static_cast<size_t>(n_);
    ++server_.metrics.received;
    ++server_.metrics.accepted;
    if (full_) jobs_.back()->pause(true);
}

void Answer::submit() {
    constexpr size_t max_running = 16;  // half of a batch of the default size: others have a seat too
    while (n_started_ < specs_.size() &&
           (n_running_ == 0 || n_running_ + static_cast<size_t>(n_) <= max_running)) {
        submit_next();
    }
}

// What is refused now may be taken when more of this request has ended.
void Answer::submit_more() {
    if (error_ || lost_ || shutdown_ || !wanted_) return;
    try {
        submit();
    } catch (const RequestError& e) {
        if (n_running_ == 0 || e.error.code != "server_overloaded") error_ = e.error;
    }
}

void Answer::start() {
    // Text of a stream that its client has yet to read; see HttpLimits::max_buffered_bytes.
    constexpr size_t stream_bytes = size_t{256} << 10;
    if (stream_) require(exchange_->hold(stream_bytes));
    try {
        submit();
    } catch (const RequestError& e) {
        // Some of it waits already, the rest can wait for that.
        if (n_running_ == 0 || e.error.code != "server_overloaded") {
            cancel_unheard();
            throw;
        }
    } catch (...) {
        cancel_unheard();
        throw;
    }
    exchange_->on_loss([weak = weak_from_this()](Loss loss) {
        if (const auto self = weak.lock()) self->lose(loss);
    });
    if (!stream_) return;
    exchange_->on_flow([weak = weak_from_this()](bool full) {
        const auto self = weak.lock();
        if (!self) return;
        self->full_ = full;
        for (const auto& job : self->jobs_) job->pause(full);
    });
    exchange_->begin_stream(head());
    begin();
}

void Answer::cancel_unheard() {
    lost_ = true;
    for (const auto& job : jobs_) job->cancel();
}

void Answer::cancel() {
    wanted_ = false;
    for (const auto& job : jobs_) job->cancel();
}

void Answer::lose(Loss loss) {
    (loss == Loss::shutdown ? shutdown_ : lost_) = true;
    for (const auto& job : jobs_) job->cancel();
}

void Answer::broken() {
    lost_ = true;
    exchange_->abandon();
}

// What is kept of a piece until the answer is whole, and what becomes of it then.
Held Answer::hold(const TextDelta& text, const std::vector<TokenEvent>& tokens) {
    size_t n = 2 * (text.thinking.size() + text.answer.size());
    for (const ToolCallDelta& d : text.tool_calls) n += 2 * (d.name.size() + d.arguments.size());
    if (keeps_tokens()) {
        for (const TokenEvent& t : tokens) n += sizeof t + (1 + t.top.size()) * logprob_bytes;
    }
    return n == 0 ? Held::yes : exchange_->hold(n);
}

void Answer::progress(int index, const PromptProgress& p) {
    if (p.n_done == p.n_prompt) {
        live_.n_prompt += p.n_prompt;
        live_.n_cached += p.n_cached;
        live_.prefill = std::max(live_.prefill, p.seconds);
    }
    if (stream_ && !lost_ && !error_) computed(index, p);
}

Usage Answer::live_usage() const {
    Usage u = live_;
    u.decode = std::chrono::duration<double>(std::chrono::steady_clock::now() - first_piece_).count();
    return u;
}

void Answer::piece(int index, TextDelta text, std::vector<TokenEvent> tokens) {
    if (lost_ || error_) return;
    if (const Held held = hold(text, tokens); held != Held::yes) {
        error_ = memory_error(held);
        for (const auto& job : jobs_) job->cancel();
        return;
    }
    if (first_piece_ == std::chrono::steady_clock::time_point())
        first_piece_ = std::chrono::steady_clock::now();
    live_.n_answer +=
        static_cast<int>(std::ranges::count_if(tokens, [](const TokenEvent& t) { return !t.of_prompt; }));
    Choice& c = choice(index);
    c.thinking += text.thinking;
    c.text += text.answer;
    for (const ToolCallDelta& d : text.tool_calls) c.calls.add(d);
    if (keeps_tokens()) {
        // A stream has sent the answer's; the prompt's are needed whole.
        std::ranges::copy_if(tokens, std::back_inserter(c.tokens),
                             [&](const TokenEvent& t) { return !stream_ || t.of_prompt; });
    }
    if (stream_) more(index, text, tokens);
}

void Answer::ended(const AnswerEnd& e) {
    usage_.add(e);
    choice(e.index).end = e;
    if (e.reason == "error" && !error_) error_ = failure_error(e.finish);
    if (e.reason == "cancelled" && wanted_ && !error_) {
        error_ = ended_error(shutdown_ ? "the server ends" : "the answer was ended");
    }
    ++n_ended_;
    --n_running_;
    submit_more();
    if (stream_ && !error_ && !lost_) one_ended(e.index);
    if (n_running_ == 0) finish();
}

void Answer::note() const {
    if (record_ == nullptr) return;
    AccessRecord& r = *record_;
    r.model = model_;
    r.why = use_.why;
    r.lost = r.lost || lost_;
    r.finish_reason = choices_.empty() ? "" : choices_.back().end.reason;
    if (error_) r.error = error_->code;
    r.n_prompt = usage_.n_prompt;
    r.n_cached = usage_.n_cached;
    r.n_answer = usage_.n_answer;
    r.queued = usage_.queued;
    r.prefill = usage_.prefill;
    r.decode = usage_.decode;
}

void Answer::finish() {
    jobs_.clear();
    note();
    if (lost_) return;
    // The server ends, and part of what was asked has not even begun.
    if (n_started_ < specs_.size() && !error_) error_ = ended_error("the server ends");
    if (stream_) {
        error_ ? fail(*error_) : end();
        return exchange_->end();
    }
    exchange_->send(error_ ? error_answer(*error_, errors_) : whole_answer());
}

}  // namespace smelt
