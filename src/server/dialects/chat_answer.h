// One answer to one chat request, in a dialect of which only the words differ: what is common is the job's
// life, its text so far, a client that is gone, and errors.
#pragma once

#include "server/dialects/read_request.h"
#include "server/routes.h"

namespace smelt {

class ChatAnswer : public JobListener, public std::enable_shared_from_this<ChatAnswer> {
 public:
    struct Setup {
        ServerContext& server;
        std::shared_ptr<Exchange> exchange;
        JobSpec job;
        bool stream = false;
        ErrorStyle errors = ErrorStyle::openai;
    };
    explicit ChatAnswer(Setup setup);

    // On the I/O thread; the rest happens by itself. Throws RequestError.
    void start();

    void piece(int index, TextDelta text, std::vector<TokenEvent> tokens) final;
    void ended(const AnswerEnd& end) final;
    void broken() final;

 protected:
    // Of a stream.
    virtual HttpAnswer head() const { return sse_head(); }
    virtual void begin() {}
    virtual void more(const TextDelta& text) = 0;  // already part of text(), calls() and so on
    virtual void end(const AnswerEnd& end) = 0;
    virtual void fail(const ApiError& error) = 0;
    // Otherwise.
    virtual Json whole(const AnswerEnd& end) = 0;

    void write(std::string bytes) { exchange_->write(std::move(bytes)); }
    const ServerContext& server() const { return server_; }
    const std::string& model() const { return model_; }
    int n_prompt() const { return n_prompt_; }
    int n_thinking_tokens() const;
    const std::string& thinking() const { return thinking_; }
    const std::string& text() const { return text_; }
    const ToolCallTexts& calls() const { return calls_; }

 private:
    void lose(Loss loss);

    ServerContext& server_;
    std::shared_ptr<Exchange> exchange_;
    std::optional<JobSpec> spec_;  // until it started
    bool stream_;
    ErrorStyle errors_;
    ModelUse use_;
    std::string model_;
    int n_prompt_;
    std::shared_ptr<Job> job_;
    std::string thinking_, text_;
    ToolCallTexts calls_;
    bool lost_ = false, shutdown_ = false;
};

// From a worker: makes the answer, which starts on the I/O thread.
template <class Answer, class... Args>
void start_chat_answer(const Call& call, JobSpec job, bool stream, ErrorStyle errors, Args... args) {
    ChatAnswer::Setup setup{call.server, call.exchange, std::move(job), stream, errors};
    const auto answer = std::make_shared<Answer>(std::move(setup), std::move(args)...);
    call.exchange->post([&server = call.server, exchange = call.exchange, answer, errors] {
        answer_errors(
            server, *exchange, true, [&] { answer->start(); }, errors);
    });
}

}  // namespace smelt
