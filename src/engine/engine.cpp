// The engine's thread, its inbox and what others may know of it.
#include "engine/engine.h"

#include <random>

#include "base/log.h"

namespace smelt {

namespace {

uint64_t random_seed() {
    std::random_device device;
    return (uint64_t{device()} << 32) | device();
}

}  // namespace

Engine::Engine(std::unique_ptr<ModelRunner> runner, const EngineOptions& options)
    : runner_(std::move(runner)),
      loop_(*runner_, options.scheduler),
      limits_(loop_.limits()),
      max_queue_(options.max_queue),
      next_seed_(random_seed()) {
    if (options.max_queue < 1) throw Error("max_queue: expected 1 or more, found {}", options.max_queue);
    publish();
    thread_ = std::thread([this] { work(); });
}

Engine::~Engine() {
    stop();
}

std::variant<RequestId, Refusal> Engine::submit(Request request) {
    std::string problem = check_request(request, limits_);
    if (!problem.empty()) return Refusal{Refusal::Kind::bad_request, std::move(problem)};
    const auto seed = request.sampling.seed;
    auto shared = std::make_shared<const Request>(std::move(request));

    const std::lock_guard lock(mutex_);
    if (stop_ || draining_) return Refusal{Refusal::Kind::stopped, "the engine takes no more requests"};
    if (n_queued_ >= max_queue_) {
        return Refusal{
            Refusal::Kind::queue_full,
            fmt::format("queue: expected fewer than {} waiting requests, found {}", max_queue_, n_queued_)};
    }
    ++n_queued_;
    ++last_id_;
    inbox_.push_back({last_id_, std::move(shared), seed ? *seed : next_seed_++, Sequence::Clock::now()});
    wake_.notify_one();
    return last_id_;
}

void Engine::cancel(RequestId id) {
    const std::lock_guard lock(mutex_);
    if (stop_) return;
    inbox_.push_back({id, nullptr, 0, {}});
    wake_.notify_one();
}

EngineStats Engine::stats() const {
    const std::lock_guard lock(mutex_);
    EngineStats s = stats_;
    s.n_queued = n_queued_;
    s.draining = draining_;
    return s;
}

void Engine::drain() {
    std::unique_lock lock(mutex_);
    draining_ = true;
    idle_.wait(lock, [&] { return inbox_.empty() && !busy_; });
}

void Engine::stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_one();
    const std::lock_guard lock(join_mutex_);
    if (thread_.joinable()) thread_.join();
}

void Engine::work() {
    while (take_commands()) {
        handle_commands();
        try {
            loop_.step();
        } catch (const std::exception& e) {
            // Out of memory between steps; the loop's own books may be half written, so nothing goes on.
            spdlog::error("all answers end: {}", e.what());
            loop_.end_all(FinishReason::error, e.what());
        }
        publish();
    }
    handle_commands();
    loop_.end_all(FinishReason::cancelled, "");
    publish();
    const std::lock_guard lock(mutex_);
    busy_ = false;
    idle_.notify_all();
}

// Waits for something to do; false: to stop.
bool Engine::take_commands() {
    std::unique_lock lock(mutex_);
    busy_ = !loop_.idle();
    if (!busy_ && inbox_.empty()) idle_.notify_all();
    wake_.wait(lock, [&] { return stop_ || busy_ || !inbox_.empty(); });
    if (!busy_) {
        rate_since_ = Sequence::Clock::now();
        rate_from_ = stats_.n_generated;
    }
    busy_ = true;
    std::swap(inbox_, commands_);
    return !stop_;
}

void Engine::handle_commands() {
    for (Command& c : commands_) {
        if (c.request == nullptr) {
            loop_.cancel(c.id);
        } else {
            loop_.add(c.id, std::move(c.request), c.seed, c.submitted);
        }
    }
    commands_.clear();
}

void Engine::publish() {
    const std::lock_guard lock(mutex_);
    static_cast<StepLoopStats&>(stats_) = loop_.stats();
    n_queued_ = stats_.n_queued;
    for (const Command& c : inbox_) n_queued_ += c.request != nullptr;
    const auto now = Sequence::Clock::now();
    const double elapsed = std::chrono::duration<double>(now - rate_since_).count();
    if (elapsed < 1) return;
    stats_.tokens_per_second = static_cast<double>(stats_.n_generated - rate_from_) / elapsed;
    rate_since_ = now;
    rate_from_ = stats_.n_generated;
}

}  // namespace smelt
