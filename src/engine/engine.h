// Many requests on one device: a thread that owns the step loop. Token ids in, token events out; never text.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

#include "engine/step_loop.h"

namespace smelt {

struct EngineOptions {
    SchedulerOptions scheduler;
    // Requests that wait for their first step; more are refused. Those of priority below 0 may fill half of
    // it, a client three quarters.
    int max_queue = 256;
    PrefixFile prefixes = {};  // read at the beginning, written by stop()
    DraftOptions drafts = {};
};

// Why a request was not taken.
struct Refusal {
    enum class Kind {
        bad_request,  // the request can never run; `text` names field, expected and found
        queue_full,   // later it may
        stopped,      // the engine takes no more requests
    };
    Kind kind;
    std::string text;
};

struct EngineStats : StepLoopStats {
    double tokens_per_second = 0;  // generated, over the last second or more of work
    bool draining = false;
    double step_seconds = 0;  // since the step began that is running; 0: none is

    // Those of another engine that serves the same model: counts are summed, the longest step counts.
    void add(const EngineStats& other);
};

// All functions may be called from any thread, but drain(), stop() and the destructor not from a sink.
class Engine {
 public:
    // Throws Error when the options contradict each other. `draft` is of a smaller model with the same
    // vocabulary, whose tokens the large one verifies; null: none.
    explicit Engine(std::unique_ptr<ModelRunner> runner, const EngineOptions& options = {},
                    std::unique_ptr<ModelRunner> draft = nullptr);
    ~Engine();

    std::variant<RequestId, Refusal> submit(Request request);
    // All answers of the request end with `cancelled` after the step that is under way; nothing happens when
    // they have ended.
    void cancel(RequestId id);
    void cancel_answer(RequestId id, int index);  // once it has a token; the request's others go on
    // Paused requests keep their place and, as long as nobody else needs it, what is computed of them.
    void pause(RequestId id);
    void resume(RequestId id);

    // The adapter of a number; null: none, and its memory is free. Returns once it is in place, which takes a
    // step. Throws Error where it does not fit or the engine has stopped.
    void set_adapter(int number, std::shared_ptr<const Adapter> adapter);

    EngineStats stats() const;
    RequestLimits limits() const { return limits_; }

    // Takes no more requests; returns when those that it has are finished.
    void drain();
    // Takes no more requests, cancels those that it has and ends the thread.
    void stop();

 private:
    struct Command {
        enum class Kind { add, cancel, pause, resume, adapter };
        Kind kind;
        RequestId id;
        int index = -1;                               // of cancel; -1: all
        std::shared_ptr<const Request> request = {};  // of add, with what follows
        uint64_t seed = 0;
        Sequence::Clock::time_point submitted = {};
        std::function<void()> work = {};  // of adapter
    };

    void send(Command command);

    void work();
    bool take_commands();
    void handle_commands();
    void add(const Command& command);
    void publish();
    int n_queued_of(uint64_t client) const;

    std::unique_ptr<ModelRunner> runner_, draft_;
    StepLoop loop_;  // of the thread alone
    const RequestLimits limits_;
    const int max_queue_;
    const PrefixFile prefixes_;

    mutable std::mutex mutex_;
    std::condition_variable wake_, idle_;
    // Guarded by mutex_.
    std::vector<Command> inbox_;
    EngineStats stats_;
    RequestId last_id_ = 0;
    uint64_t next_seed_;                    // for requests without one
    int n_queued_ = 0;                      // requests in inbox_ or waiting for their first step
    std::vector<uint64_t> queued_clients_;  // whose these are
    bool stop_ = false, draining_ = false, busy_ = false;

    // Of the thread alone.
    std::vector<Command> commands_;
    Sequence::Clock::time_point rate_since_;
    int64_t rate_from_ = 0;  // tokens generated until then

    std::atomic<Sequence::Clock::rep> step_began_ = 0;  // 0: no step is running

    std::mutex join_mutex_;
    std::thread thread_;  // the last member: it uses the others
};

}  // namespace smelt
