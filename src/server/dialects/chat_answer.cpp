// Starts, collects, ends.
#include "server/dialects/chat_answer.h"

namespace smelt {

ChatAnswer::ChatAnswer(Setup setup)
    : server_(setup.server),
      exchange_(std::move(setup.exchange)),
      spec_(std::move(setup.job)),
      stream_(setup.stream),
      errors_(setup.errors),
      use_(spec_->model),
      model_(use_.name()),
      n_prompt_(static_cast<int>(spec_->prompt.ids.size())) {}

void ChatAnswer::start() {
    const auto post = [exchange = exchange_](std::function<void()> work) { exchange->post(std::move(work)); };
    job_ = Job::start(*std::exchange(spec_, std::nullopt), post, shared_from_this());
    ++server_.metrics.received;
    ++server_.metrics.accepted;
    exchange_->on_loss([weak = weak_from_this()](Loss loss) {
        if (const auto self = weak.lock()) self->lose(loss);
    });
    if (!stream_) return;
    exchange_->on_flow([weak = weak_from_this()](bool full) {
        const auto self = weak.lock();
        if (self && self->job_) self->job_->pause(full);
    });
    exchange_->begin_stream(head());
    begin();
}

void ChatAnswer::lose(Loss loss) {
    (loss == Loss::shutdown ? shutdown_ : lost_) = true;
    if (job_) job_->cancel();
}

void ChatAnswer::broken() {
    lost_ = true;
    exchange_->abandon();
}

void ChatAnswer::piece(int, TextDelta text, std::vector<TokenEvent>) {
    if (lost_ || text.empty()) return;
    thinking_ += text.thinking;
    text_ += text.answer;
    for (const ToolCallDelta& d : text.tool_calls) calls_.add(d);
    if (stream_) more(text);
}

int ChatAnswer::n_thinking_tokens() const {
    return static_cast<int>(use_.chat().tokenizer().encode(thinking_, {}).size());
}

void ChatAnswer::ended(const AnswerEnd& e) {
    job_.reset();
    if (lost_) return;
    std::optional<ApiError> error;
    if (e.reason == "error") error = failure_error(e.finish);
    if (e.reason == "cancelled") {
        error = ApiError{.status = 503,
                         .code = "shutting_down",
                         .message = shutdown_ ? "the server ends" : "the answer was ended",
                         .retry_after = 5};
    }
    if (stream_) {
        error ? fail(*error) : end(e);
        return exchange_->end();
    }
    exchange_->send(error ? error_answer(*error, errors_) : HttpAnswer{.body = to_string(whole(e))});
}

}  // namespace smelt
