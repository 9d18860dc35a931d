// A request on its way through an engine, without a thread of its own: the engine's events become text on the
// I/O thread, where the listener is told.
#pragma once

#include <chrono>

#include "server/api_error.h"
#include "server/models/model_set.h"

namespace smelt {

struct JobSpec {
    ModelUse model;
    Prompt prompt;
    GenerateOptions options;
    int first_index = 0;          // of its first answer, where a client's request became several jobs
    bool drop_calls = false;      // the request has tools and wants none called
    bool tells_progress = false;  // of the prompt
    size_t answer_bytes = 0;      // that the answer takes for certain
    std::vector<std::string> warnings = {};  // for the client: what was asked for and left out
};

struct AnswerEnd {
    int index = 0;
    std::string reason;       // "stop", "tool_calls", "length", "cancelled", "error"
    std::string stop_string;  // the one that was met
    int n_thinking = 0;       // tokens of the answer up to the end of its thinking
    FinishEvent finish;
};

// Called on the I/O thread.
class JobListener {
 public:
    virtual ~JobListener() = default;
    // New tokens of an answer, and the text that became certain; either may be empty.
    virtual void piece(int index, TextDelta text, std::vector<TokenEvent> tokens) = 0;
    virtual void progress(int, const PromptProgress&) {}  // of the prompt of this answer
    virtual void ended(const AnswerEnd& end) = 0;         // once per answer
    virtual void broken() = 0;  // instead of what is missing: there is not even memory to say so
};

class Job : public std::enable_shared_from_this<Job> {
 public:
    using Post = std::function<void(std::function<void()>)>;  // runs work on the I/O thread

    // On the I/O thread; the listener hears nothing before it returns. Throws RequestError: the engine's
    // queue is full, or what it found wrong.
    static std::shared_ptr<Job> start(JobSpec spec, Post post, std::shared_ptr<JobListener> listener);

    void cancel();
    // Its client does not read: the engine goes on with others.
    void pause(bool stop);
    bool ended() const { return n_ended_ == answers_.size(); }

    Job(JobSpec spec, Post post, std::shared_ptr<JobListener> listener);

 private:
    using Clock = std::chrono::steady_clock;
    struct Arrived {
        Event event;
        Clock::time_point at;
    };
    struct Answer {
        TextStream stream;
        TextDelta text = {};
        bool has_calls = false;
        int n_tokens = 0, n_thinking = 0;
        std::vector<TokenEvent> tokens = {};
        Clock::time_point last = {};
    };

    void receive(Event event);  // on the engine's thread
    void enqueue(Event& event);
    void pump();
    void read(std::vector<Arrived>& events);
    void close();
    void take_text(Answer& a, TextDelta text);
    void take_token(TokenEvent token, Clock::time_point at);
    void take_end(FinishEvent finish);
    void flush(Answer& a, int index);
    void close_books();

    JobSpec spec_;
    Post post_;
    std::shared_ptr<JobListener> listener_;  // until the last answer ended
    Replica* replica_ = nullptr;
    int64_t work_ = 0;  // its share of the replica's
    RequestId id_ = 0;
    std::vector<Answer> answers_;
    size_t n_ended_ = 0;
    bool any_error_ = false, any_cancelled_ = false;
    Clock::time_point started_ = Clock::now();

    std::mutex mutex_;
    std::vector<Arrived> inbox_;
    bool scheduled_ = false;
    std::atomic<bool> lost_events_ = false;
};

}  // namespace smelt
