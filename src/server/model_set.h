// The models that are served, by name, and the choice among them. From any thread.
#pragma once

#include <atomic>
#include <ctime>
#include <map>
#include <mutex>

#include "chat/chat_model.h"
#include "server/metrics.h"

namespace smelt {

struct ServedModel {
    std::string name;
    std::filesystem::path path;
    std::unique_ptr<ChatModel> chat;
    std::time_t loaded = 0;
    ModelMetrics metrics;
    std::atomic<int> outstanding = 0;           // requests under way
    std::atomic<double> tokens_per_second = 0;  // of one answer: measured when loaded, then by every answer
    std::atomic<int> failures_in_a_row = 0;     // requests that the device or the numbers ended

    size_t weight_bytes() const { return chat->model().weight_bytes(); }
    size_t kv_bytes() const;
};

struct ModelChoice {
    std::string name = {};      // empty: the only model, or auto
    std::string priority = {};  // speed, quality, balanced or empty
    int max_tokens = -1;
};

class ModelSet {
 public:
    struct Options {
        ChatModelOptions open = {};
        size_t memory_budget = 0;  // bytes over weights and KV caches; 0: what the machine has
        int long_answer = 200;     // tokens; beyond, auto takes the most efficient model
        std::string best = {};     // name; empty: the one with most weights
    };

    explicit ModelSet(Options options) : options_(std::move(options)) {}

    // Opens a model, measures its speed, adds it. Throws Error: a bad file, a name in use, beyond the budget.
    std::shared_ptr<ServedModel> load(const std::string& name, const std::filesystem::path& path);
    // Requests under way keep the model until they end. False: no such model.
    bool unload(const std::string& name);

    // Throws RequestError 404 where there is no such model.
    std::shared_ptr<ServedModel> choose(const ModelChoice& choice) const;
    std::shared_ptr<ServedModel> find(const std::string& name) const;  // null: none
    std::vector<std::shared_ptr<ServedModel>> all() const;             // in the order of loading

 private:
    void check_budget(const std::filesystem::path& path) const;

    Options options_;
    mutable std::mutex mutex_;
    std::vector<std::shared_ptr<ServedModel>> models_;
    std::mutex loading_;  // one at a time, so that each sees what the others left
};

}  // namespace smelt
