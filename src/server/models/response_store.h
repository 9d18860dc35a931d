// Answers of /v1/responses that a request asked to keep: the conversation up to and with each, by its id.
// Bounded in memory, and on disk where it has a folder; the oldest go first. From any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/json.h"

namespace smelt {

class ResponseStore {
 public:
    struct Options {
        size_t max_bytes = size_t{64} << 20;  // of memory, and again of disk; 0: nothing is kept
        std::filesystem::path folder = {};    // empty: in memory alone
    };
    struct Kept {
        Json conversation;  // items: what went in and what came out
        Json response;      // as the client got it
    };

    ResponseStore() = default;
    // Makes the folder, for its owner alone. Throws Error.
    explicit ResponseStore(Options options);

    // `key` is that of who asked: nobody else finds the answer. What is larger than the store is not kept.
    bool put(const std::string& id, const std::string& key, const Kept& kept);
    std::optional<Kept> get(const std::string& id, const std::string& key);
    bool erase(const std::string& id, const std::string& key);

 private:
    struct Entry {
        std::string id, text;
    };

    std::filesystem::path path_of(const std::string& id) const;
    std::optional<std::string> find(const std::string& id);
    void keep_in_memory(const std::string& id, const std::string& text);
    void drop_oldest_files();

    Options options_;
    std::mutex mutex_;
    std::list<Entry> entries_;  // the latest first
    std::unordered_map<std::string, std::list<Entry>::iterator> by_id_;
    size_t n_bytes_ = 0;
};

}  // namespace smelt
