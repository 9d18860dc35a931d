// One answer on its way: what the engine's thread gives, as text for the caller's.
#include "base/error.h"
#include "base/memory_error.h"
#include "chat/chat_model.h"

namespace smelt {

const char* finish_reason(FinishReason reason, bool met_stop_string) {
    if (met_stop_string) return "stop";
    switch (reason) {
        case FinishReason::stop_id:
        case FinishReason::complete:
            return "stop";
        case FinishReason::length:
        case FinishReason::context:
            return "length";
        case FinishReason::cancelled:
            return "cancelled";
        case FinishReason::error:
            break;
    }
    return "error";
}

Generation::Generation(ChatModel& model, const Prompt& prompt, const GenerateOptions& options)
    : model_(model), stream_(model.make_text_stream(prompt, options)), inbox_(std::make_shared<Inbox>()) {
    Request request = model.make_request(prompt, options);
    request.sink = [inbox = inbox_](Event event) {
        {
            const std::lock_guard lock(inbox->mutex);
            if (auto* token = std::get_if<TokenEvent>(&event)) {
                inbox->tokens.push_back(std::move(*token));
            } else {
                inbox->finish = std::get<FinishEvent>(std::move(event));
            }
        }
        inbox->arrived.notify_one();
    };
    const auto submitted = model.engine().submit(std::move(request));
    if (const auto* refusal = std::get_if<Refusal>(&submitted)) throw RefusedRequest(*refusal);
    id_ = std::get<RequestId>(submitted);
}

Generation::~Generation() {
    cancel();
}

void Generation::cancel() {
    model_.engine().cancel(id_);
}

std::optional<TextDelta> Generation::next() {
    if (flushed_) return std::nullopt;
    tokens_.clear();
    bool finished = false;
    {
        std::unique_lock lock(inbox_->mutex);
        inbox_->arrived.wait(lock, [&] { return !inbox_->tokens.empty() || inbox_->finish; });
        tokens_.swap(inbox_->tokens);
        finished = inbox_->finish.has_value();
    }
    TextDelta delta;
    size_t n_used = 0;
    for (; n_used < tokens_.size() && !stream_.stopped(); ++n_used) {
        if (!tokens_[n_used].of_prompt) delta.append(stream_.push(tokens_[n_used].id));
    }
    tokens_.resize(n_used);
    if (stream_.stopped()) cancel();
    if (finished) {
        delta.append(stream_.finish());
        flushed_ = true;
    }
    return delta;
}

const FinishEvent& Generation::finish() const {
    CHECK(flushed_);
    const FinishEvent& f = *inbox_->finish;
    if (f.failure == Failure::memory) throw MemoryError(f.error);
    if (f.reason == FinishReason::error) throw Error(f.error);
    return f;
}

std::string Generation::finish_reason() const {
    return smelt::finish_reason(stream_.stopped() ? FinishReason::cancelled : finish().reason,
                                stream_.stopped());
}

}  // namespace smelt
