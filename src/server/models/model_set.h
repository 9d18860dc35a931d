// The models that are served, by name, and the choice among them. From any thread.
#pragma once

#include <atomic>
#include <ctime>
#include <map>
#include <mutex>
#include <unordered_map>

#include "chat/chat_model.h"
#include "server/models/metrics.h"

namespace smelt {

struct ModelSpec {
    std::string name;
    std::vector<std::string> aliases = {};  // more names of it
    std::filesystem::path path;
    ChatModelOptions open = {};
    int replicas = 1;                     // engines with a KV cache each; they share the mapped file
    std::chrono::seconds idle_unload{0};  // without a request; 0: never
    bool best = false;                    // for priority quality
    bool fast = false;                    // priority speed looks at these only, where there are any
    std::vector<std::string> keys = {};   // API keys that may use it; none: all
};

struct Replica {
    std::unique_ptr<ChatModel> chat;
    int64_t work = 0;  // tokens to compute or draw for requests under way; of the I/O thread
};

// The part of a model that takes memory. Whoever uses it holds it.
class LoadedModel {
 public:
    explicit LoadedModel(std::vector<std::unique_ptr<Replica>> replicas);

    ChatModel& chat() const { return *replicas_.front()->chat; }  // tokenizer and template are all the same
    // The one with the least work outstanding, where tokens of the prompt that it has seen need no work. On
    // the I/O thread.
    Replica& choose_replica(std::span<const int32_t> ids, uint64_t salt);
    AdapterSet& adapters() { return adapters_; }
    int n_replicas() const { return static_cast<int>(replicas_.size()); }

    EngineStats stats() const;  // of all replicas together
    size_t weight_bytes() const { return chat().weight_bytes(); }
    size_t kv_bytes() const;

    // A device that failed, or a file that was cut short, answers nothing any more.
    void fail(const std::string& text);
    // Ends the engines' threads; requests under way end as cancelled.
    void stop();
    bool has_failed() const { return failed_; }
    bool file_is_damaged() const;

 private:
    std::vector<std::unique_ptr<Replica>> replicas_;
    AdapterSet adapters_;
    std::atomic<bool> failed_ = false;
    // Which replicas have seen a beginning of so many whole blocks: bit i for replica i, by a hash that
    // chains.
    std::unordered_map<uint64_t, uint64_t> seen_;
};

// A name, for as long as it is served: what is counted outlives unloading.
struct ServedModel {
    explicit ServedModel(ModelSpec s) : spec(std::move(s)), name(spec.name), adapters_(spec.open.adapters) {}

    const ModelSpec spec;
    const std::string& name;
    ModelMetrics metrics;
    std::atomic<std::time_t> load_time = 0;
    std::atomic<int> outstanding = 0;           // requests under way
    std::atomic<double> tokens_per_second = 0;  // of one answer: measured when loaded, then by every answer
    std::atomic<int64_t> step_bytes = 0, weight_bytes = 0;
    std::atomic<bool> takes_pictures = false;
    std::atomic<std::chrono::steady_clock::rep> last_used = 0;

    std::shared_ptr<LoadedModel> loaded() const;  // null: idle, and loaded again by the next request
    void set_loaded(std::shared_ptr<LoadedModel> m);
    // Adapters, those too that came since: of a model that rests they are loaded with it.
    std::vector<AdapterSpec> adapters() const;
    void set_adapters(std::vector<AdapterSpec> adapters);
    bool has_adapter(const std::string& adapter) const;
    void touch() { last_used = std::chrono::steady_clock::now().time_since_epoch().count(); }

 private:
    mutable std::mutex mutex_;
    std::shared_ptr<LoadedModel> loaded_;
    std::vector<AdapterSpec> adapters_;
};

// What a request works with.
struct ModelUse {
    std::shared_ptr<ServedModel> served;
    std::shared_ptr<LoadedModel> loaded;
    const char* why = "";      // this one was chosen, for the access log
    std::string adapter = {};  // as the request named it: "adapter" or "model:adapter"; empty: none
    std::vector<AdapterUse> adapters = {};

    const std::string& name() const { return adapter.empty() ? served->name : adapter; }
    ChatModel& chat() const { return loaded->chat(); }
};

struct ModelChoice {
    std::string name = {};      // empty: the only model, or auto
    std::string priority = {};  // speed, quality, balanced or empty
    int max_tokens = -1;
    std::string key = {};       // of who asks
    bool has_pictures = false;  // auto takes a model that sees them, where one is served
};

class ModelSet {
 public:
    struct Options {
        ChatModelOptions open = {};  // of models that name no options of their own
        size_t memory_budget = 0;    // bytes over weights and KV caches; 0: what the machine has
        int long_answer = 200;       // tokens; beyond, auto takes the most efficient model
        std::string best = {};       // name; empty: the one marked so, or with most weights
        int max_waiting = 3;         // requests that wait for a model to be loaded again; more get 503
        bool any_name = false;       // a name that no model has is as good as none
        double step_timeout = 120;   // seconds; an engine that is twice as long in a step hangs
    };

    explicit ModelSet(Options options) : options_(std::move(options)) {}
    // Ends the engines of all models, those too that requests under way still hold: what they would call may
    // go next.
    ~ModelSet();

    // Opens a model, measures its speed, adds it. Throws Error: a bad file, a name in use, beyond the budget.
    std::shared_ptr<ServedModel> load(ModelSpec spec);
    // As models without options of their own.
    std::shared_ptr<ServedModel> load(const std::string& name, const std::filesystem::path& path);
    // Requests under way keep the model until they end. False: no such model.
    bool unload(const std::string& name);
    // Gives back the memory and keeps the name: the next request loads the model again. False: no such model.
    bool rest(const std::string& name);
    // Gives back the memory of models that nobody used for their time.
    void unload_idle();

    // Loads an idle one, so not on the I/O thread. Throws RequestError: 404 where there is no such model, 403
    // for a key that may not use it, 503 for one that has failed.
    ModelUse choose(const ModelChoice& choice);
    // By the name of a model or of an adapter, "adapter" or "model:adapter".
    struct Named {
        std::shared_ptr<ServedModel> model;  // null: none
        std::string adapter = {};
    };
    Named find_named(const std::string& name) const;
    // Loads and unloads an adapter of a model. Throw Error; false: no such adapter.
    void load_adapter(ServedModel& m, const AdapterSpec& adapter);
    bool unload_adapter(ServedModel& m, const std::string& adapter);
    // Throws the same.
    std::shared_ptr<ServedModel> find_or_throw(const std::string& name) const;
    std::shared_ptr<ServedModel> find(const std::string& name) const;  // by any of its names; null: none
    std::vector<std::shared_ptr<ServedModel>> all() const;             // in the order of loading

    // "ok", "idle", "failed", "hung"
    const char* state(const ServedModel& m) const;

 private:
    struct Pick {
        std::shared_ptr<ServedModel> model;
        const char* why;
        std::string adapter = {};
    };
    Pick pick(const ModelChoice& choice) const;
    std::shared_ptr<LoadedModel> open(ServedModel& m);
    std::shared_ptr<LoadedModel> wake(ServedModel& m);
    void check_budget(const std::filesystem::path& path, size_t wanted) const;
    size_t used_bytes() const;

    Options options_;
    mutable std::mutex mutex_;
    std::vector<std::shared_ptr<ServedModel>> models_;
    std::vector<std::weak_ptr<LoadedModel>> opened_;  // of models unloaded since, too
    std::mutex loading_;                              // one at a time, so that each sees what the others left
    std::atomic<int> n_waiting_ = 0;
};

}  // namespace smelt
