// The engine's thread, its inbox and what others may know of it.
#include "engine/engine.h"

#include <algorithm>
#include <future>
#include <random>

#include "base/log.h"
#include "engine/best_of.h"

namespace smelt {

namespace {

uint64_t random_seed() {
    std::random_device device;
    return (uint64_t{device()} << 32) | device();
}

}  // namespace

void EngineStats::add(const EngineStats& s) {
    n_queued += s.n_queued;
    n_preempted += s.n_preempted;
    n_running += s.n_running;
    n_paused += s.n_paused;
    n_blocks += s.n_blocks;
    n_used_blocks += s.n_used_blocks;
    n_cached_blocks += s.n_cached_blocks;
    n_steps += s.n_steps;
    n_prefilled += s.n_prefilled;
    n_cached_prompt += s.n_cached_prompt;
    n_generated += s.n_generated;
    n_preemptions += s.n_preemptions;
    n_failed_steps += s.n_failed_steps;
    n_constrained += s.n_constrained;
    n_drafts += s.n_drafts;
    n_drafted += s.n_drafted;
    n_draft_accepted += s.n_draft_accepted;
    if (s.n_running > 0) tokens_per_second += s.tokens_per_second;
    draining = draining || s.draining;
    step_seconds = std::max(step_seconds, s.step_seconds);
}

Engine::Engine(std::unique_ptr<ModelRunner> runner, const EngineOptions& options,
               std::unique_ptr<ModelRunner> draft)
    : runner_(std::move(runner)),
      draft_(std::move(draft)),
      loop_(*runner_, options.scheduler, options.drafts, draft_.get()),
      limits_(loop_.limits()),
      max_queue_(options.max_queue),
      prefixes_(options.prefixes),
      next_seed_(random_seed()) {
    if (options.max_queue < 1) throw Error("max_queue: expected 1 or more, found {}", options.max_queue);
    if (!prefixes_.path.empty() && runner_->block_bytes().all() == 0) {
        throw Error("prefixes cannot be kept on disk where layers are spread over devices");
    }
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
    auto shared = std::make_shared<const Request>(with_best_of(std::move(request)));

    const std::lock_guard lock(mutex_);
    if (stop_ || draining_) return Refusal{Refusal::Kind::stopped, "the engine takes no more requests"};
    const int room = shared->priority < 0 ? (max_queue_ + 1) / 2 : max_queue_;
    if (n_queued_ >= room) {
        return Refusal{
            Refusal::Kind::queue_full,
            fmt::format("queue: expected fewer than {} waiting requests, found {}", room, n_queued_)};
    }
    const int share = max_queue_ - max_queue_ / 4;
    if (shared->client != 0 && n_queued_of(shared->client) >= share) {
        return Refusal{Refusal::Kind::queue_full,
                       fmt::format("queue: expected fewer than {} waiting requests of one client", share)};
    }
    inbox_.push_back({.kind = Command::Kind::add,
                      .id = last_id_ + 1,
                      .request = std::move(shared),
                      .seed = seed ? *seed : next_seed_++,
                      .submitted = Sequence::Clock::now()});
    ++n_queued_;
    queued_clients_.push_back(inbox_.back().request->client);
    ++last_id_;
    wake_.notify_one();
    return last_id_;
}

int Engine::n_queued_of(uint64_t client) const {
    return static_cast<int>(std::ranges::count(queued_clients_, client));
}

void Engine::send(Command command) {
    const std::lock_guard lock(mutex_);
    if (stop_) return;
    inbox_.push_back(std::move(command));
    wake_.notify_one();
}

void Engine::cancel(RequestId id) {
    send({.kind = Command::Kind::cancel, .id = id});
}

void Engine::cancel_answer(RequestId id, int index) {
    send({.kind = Command::Kind::cancel, .id = id, .index = index});
}

void Engine::pause(RequestId id) {
    send({.kind = Command::Kind::pause, .id = id});
}

void Engine::resume(RequestId id) {
    send({.kind = Command::Kind::resume, .id = id});
}

void Engine::set_adapter(int number, std::shared_ptr<const Adapter> adapter) {
    const auto done = std::make_shared<std::promise<void>>();
    std::future<void> result = done->get_future();
    {
        const std::lock_guard lock(mutex_);
        if (stop_) throw Error("the engine has stopped");
        inbox_.push_back({.kind = Command::Kind::adapter, .id = 0, .work = [this, number, adapter, done] {
                              try {
                                  loop_.set_adapter(number, adapter.get());
                                  done->set_value();
                              } catch (...) {
                                  done->set_exception(std::current_exception());
                              }
                          }});
        wake_.notify_one();
    }
    result.get();
}

EngineStats Engine::stats() const {
    const std::lock_guard lock(mutex_);
    EngineStats s = stats_;
    s.n_queued = n_queued_;
    s.draining = draining_;
    if (const auto began = step_began_.load(); began != 0) {
        s.step_seconds = std::chrono::duration<double>(Sequence::Clock::now().time_since_epoch() -
                                                       Sequence::Clock::duration(began))
                             .count();
    }
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
    if (!prefixes_.path.empty()) loop_.load_prefixes(prefixes_);
    publish();
    while (take_commands()) {
        handle_commands();
        step_began_ = Sequence::Clock::now().time_since_epoch().count();
        try {
            loop_.step();
        } catch (const std::exception& e) {
            // Out of memory between steps; the loop's own books may be half written, so nothing goes on.
            spdlog::error("all answers end: {}", e.what());
            loop_.end_all(FinishReason::error, e.what(), Failure::memory);
        }
        step_began_ = 0;
        publish();
    }
    handle_commands();
    loop_.end_all(FinishReason::cancelled);
    publish();
    if (!prefixes_.path.empty()) loop_.save_prefixes(prefixes_);
    const std::lock_guard lock(mutex_);
    busy_ = false;
    idle_.notify_all();
}

// Waits for something to do; false: to stop.
bool Engine::take_commands() {
    std::unique_lock lock(mutex_);
    busy_ = !loop_.idle();
    const bool can_step = loop_.can_step();
    if (!busy_ && inbox_.empty()) idle_.notify_all();
    wake_.wait(lock, [&] { return stop_ || can_step || !inbox_.empty(); });
    if (!can_step) {
        rate_since_ = Sequence::Clock::now();
        rate_from_ = stats_.n_generated;
    }
    busy_ = true;
    std::swap(inbox_, commands_);
    return !stop_;
}

void Engine::handle_commands() {
    for (Command& c : commands_) {
        switch (c.kind) {
            case Command::Kind::add:
                add(c);
                break;
            case Command::Kind::cancel:
                loop_.cancel(c.id, c.index);
                break;
            case Command::Kind::pause:
                loop_.pause(c.id);
                break;
            case Command::Kind::resume:
                loop_.resume(c.id);
                break;
            case Command::Kind::adapter:
                c.work();
                break;
        }
    }
    commands_.clear();
}

void Engine::add(const Command& c) {
    try {
        return loop_.add(c.id, c.request, c.seed, c.submitted);
    } catch (const std::bad_alloc&) {
        spdlog::error("too little memory for a request");
    }
    for (int index = 0; index < c.request->n; ++index) {
        c.request->sink(FinishEvent{.request = c.id,
                                    .index = index,
                                    .error = "too little memory",
                                    .failure = Failure::memory,
                                    .n_prompt = static_cast<int>(c.request->tokens.size())});
    }
}

void Engine::publish() {
    const std::lock_guard lock(mutex_);
    static_cast<StepLoopStats&>(stats_) = loop_.stats();
    n_queued_ = stats_.n_queued;
    loop_.list_queued_clients(queued_clients_);
    for (const Command& c : inbox_) {
        if (c.kind != Command::Kind::add) continue;
        ++n_queued_;
        queued_clients_.push_back(c.request->client);
    }
    const auto now = Sequence::Clock::now();
    const double elapsed = std::chrono::duration<double>(now - rate_since_).count();
    if (elapsed < 1) return;
    stats_.tokens_per_second = static_cast<double>(stats_.n_generated - rate_from_) / elapsed;
    rate_since_ = now;
    rate_from_ = stats_.n_generated;
}

}  // namespace smelt
