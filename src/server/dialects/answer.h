// The life of the answers to one request: jobs, what came of them so far, a client that does not read or is
// gone, errors. Dialects add the words.
#pragma once

#include "server/dialects/answer_parts.h"
#include "server/routes.h"

namespace smelt {

class Answer : public JobListener, public std::enable_shared_from_this<Answer> {
 public:
    struct Setup {
        ServerContext& server;
        std::shared_ptr<Exchange> exchange;
        std::vector<JobSpec>
            jobs;  // one a prompt, each with the same n; they run in their order, some at a time
        bool stream = false;
        ErrorStyle errors = ErrorStyle::openai;
        std::shared_ptr<AccessRecord> record = {};
    };
    explicit Answer(Setup setup);

    // On the I/O thread; the rest happens by itself. Throws RequestError.
    void start();
    // At the client's wish: what there is so far is the answer.
    void cancel();

    void piece(int index, TextDelta text, std::vector<TokenEvent> tokens) final;
    void progress(int index, const PromptProgress& p) final;
    void ended(const AnswerEnd& end) final;
    void broken() final;

 protected:
    // One of the answers: n for each prompt.
    struct Choice {
        std::string thinking = {}, text = {};
        ToolCallTexts calls = {};
        std::vector<TokenEvent> tokens = {};  // where keeps_tokens()
        AnswerEnd end = {};
    };

    virtual bool keeps_tokens() const { return false; }
    // Of a stream.
    virtual HttpAnswer head() const { return sse_head(); }
    virtual void begin() {}
    // The text is already part of the choice; tokens of the prompt come before those of the first answer.
    virtual void more(int index, const TextDelta& text, const std::vector<TokenEvent>& tokens) = 0;
    virtual void computed(int, const PromptProgress&) {}  // a part of the prompt
    virtual void one_ended(int) {}
    virtual void end() = 0;
    virtual void fail(const ApiError& error) = 0;
    // Otherwise.
    virtual Json whole() = 0;
    virtual std::string whole_text() { return to_string(whole()); }
    virtual HttpAnswer whole_answer() { return {.body = whole_text()}; }

    void write(std::string bytes) {
        if (!lost_) exchange_->write(std::move(bytes));
    }
    const ServerContext& server() const { return server_; }
    const ChatModel& chat() const { return use_.chat(); }
    const std::string& model() const { return model_; }
    int n_prompt() const { return n_prompt_; }  // tokens of the first prompt
    size_t n_choices() const { return choices_.size(); }
    Choice& choice(int index) { return choices_[static_cast<size_t>(index)]; }
    const Choice& choice(int index) const { return choices_[static_cast<size_t>(index)]; }
    size_t prompt_of(int index) const { return static_cast<size_t>(index / n_); }
    const Usage& usage() const { return usage_; }
    // Of what has come so far; prompts count where their jobs tell how far they are.
    Usage live_usage() const;
    bool all_ended() const { return n_ended_ == choices_.size(); }
    // "warnings" of a body, where there are any.
    void add_warnings(Json& body) const {
        if (!warnings_.empty()) body["warnings"] = warnings_;
    }

 private:
    // As many prompts as one request may have under way, so that a long list does not fill the queue.
    void submit();
    void submit_next();
    void submit_more();
    void cancel_unheard();
    Held hold(const TextDelta& text, const std::vector<TokenEvent>& tokens);
    void lose(Loss loss);
    void finish();
    void note() const;  // in the access log

    ServerContext& server_;
    std::shared_ptr<Exchange> exchange_;
    std::shared_ptr<AccessRecord> record_;
    std::vector<JobSpec> specs_;  // moved from as they start
    size_t n_started_ = 0;
    bool stream_;
    ErrorStyle errors_;
    ModelUse use_;
    std::string model_;
    int n_, n_prompt_;
    std::vector<std::string> warnings_;
    std::vector<std::shared_ptr<Job>> jobs_;
    std::vector<Choice> choices_;
    Usage usage_, live_;
    std::chrono::steady_clock::time_point first_piece_ = {};
    size_t n_ended_ = 0, n_running_ = 0;  // answers
    std::optional<ApiError> error_;
    bool full_ = false;  // the client does not read
    bool lost_ = false, shutdown_ = false, wanted_ = true;
};

// One answer to one prompt.
class ChatAnswer : public Answer {
 public:
    using Answer::Answer;

 protected:
    virtual void more(const TextDelta& text) = 0;
    void more(int, const TextDelta& text, const std::vector<TokenEvent>&) final {
        if (!text.empty()) more(text);
    }
    const std::string& thinking() const { return choice(0).thinking; }
    const std::string& text() const { return choice(0).text; }
    const ToolCallTexts& calls() const { return choice(0).calls; }
    const AnswerEnd& ending() const { return choice(0).end; }
};

size_t bytes_of(const std::vector<JobSpec>& jobs);

// From a worker: makes the answer, which starts on the I/O thread.
template <class A, class... Args>
void start_answer(const Call& call, std::vector<JobSpec> jobs, bool stream, ErrorStyle errors, Args... args) {
    // The request itself is done with.
    require(call.exchange->hold_only(bytes_of(jobs)));
    Answer::Setup setup{call.server, call.exchange, std::move(jobs), stream, errors, call.record};
    const auto answer = std::make_shared<A>(std::move(setup), std::move(args)...);
    call.exchange->post([&server = call.server, exchange = call.exchange, answer, errors] {
        answer_errors(
            server, *exchange, true, [&] { answer->start(); }, errors);
    });
}

inline std::vector<JobSpec> one_job(JobSpec job) {
    std::vector<JobSpec> jobs;
    jobs.push_back(std::move(job));
    return jobs;
}

}  // namespace smelt
