// The LoRA adapters of a model that runs, by name: loaded and unloaded while requests run. Knows no protocol.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"

namespace smelt {

class ChatModel;
struct ModelFile;

struct AdapterSpec {
    std::string name;
    std::filesystem::path path;
    float scale = 1;        // where a request chooses it by name
    bool is_usual = false;  // requests that choose none have it
};

// "NAME=PATH", or a path whose last part is the name and which is usual; PATH may end in :SCALE. Throws
// Error.
AdapterSpec parse_adapter(const std::string& text);
// The same of several texts, each a list between commas.
std::vector<AdapterSpec> parse_adapters(const std::vector<std::string>& texts);
// Of all their matrices, at least `least`. Throws what read_adapter() throws.
int64_t highest_rank(const std::vector<AdapterSpec>& specs, const ModelFile& file, int64_t least);
// Loads them for the model's whole life: all of them, each with its scale.
std::vector<AdapterUse> load_adapters(ChatModel& model, const std::vector<AdapterSpec>& specs);

// From any thread; loading takes as long as its files.
class AdapterSet {
 public:
    // Engines over the same file. Borrows them.
    explicit AdapterSet(std::vector<ChatModel*> models) : models_(std::move(models)) {}

    // Throws Error: the name is in use, there is no room, the adapter does not fit.
    void load(const AdapterSpec& spec);
    // Requests that have it keep it; its memory is free once they have ended and another one comes or goes.
    // False: no such adapter.
    bool unload(const std::string& name);
    void set_usual(const std::vector<std::pair<int, float>>& scales);  // by id; others get none

    struct Listed {
        AdapterSpec spec;
        int id = 0;  // llama.cpp's: a small number that it keeps
    };
    std::vector<Listed> list() const;  // by id
    std::optional<AdapterUse> find(const std::string& name) const;
    std::optional<AdapterUse> find(int id, float scale) const;
    std::vector<AdapterUse> usual() const;

 private:
    struct Entry {
        AdapterSpec spec;
        std::shared_ptr<const AdapterHold> hold;
    };
    void free_unused();

    std::vector<ChatModel*> models_;
    std::mutex loading_;  // one at a time
    mutable std::mutex mutex_;
    std::vector<Entry> entries_;
    std::vector<std::weak_ptr<const AdapterHold>> held_;  // by number - 1
    std::vector<bool> in_engines_;
};

}  // namespace smelt
