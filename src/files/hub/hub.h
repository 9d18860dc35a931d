// Models of the Hugging Face hub: what an id means, what the cache has, and how it gets there. The cache is
// laid out as Hugging Face's own tools lay it out (blobs, refs, snapshots), so that they and smelt share
// files. The network is behind hub_http.h. Reads no environment: HubOptions says it all.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

// ORG/NAME[@REVISION][:FILE]
struct HubId {
    std::string repo = {}, revision = "main";
    std::string file = {};  // a file's name, or a quantization such as Q4_K_M; empty: the model's own choice

    std::string text() const;
};

// nullopt: it is a path. `text` may begin with hf: or the hub's address; without them it must look like an
// id, and not like a path whose first folder exists. Throws Error for an id that no hub could have.
std::optional<HubId> parse_hub_id(std::string_view text);

struct HubProgress {
    uint64_t done = 0, total = 0;  // bytes
    const char* doing = "pulling";
};

struct HubOptions {
    std::string endpoint = "https://huggingface.co";
    std::string token = {};
    std::filesystem::path cache = {};
    std::filesystem::path ca_bundle = {};  // PEM; empty: the system's
    bool offline = false;
    int n_connections = 4;
    uint64_t part_bytes = uint64_t{32} << 20;   // what one connection fetches at a time
    std::chrono::milliseconds retry_wait{500};  // doubled with every failure in a row
    int max_failures = 6;                       // in a row, without a byte between them
    std::chrono::seconds stall_timeout{60};     // without a byte
    std::function<void(const HubProgress&)> progress = {};
    std::function<void(const std::string&)> say = {};  // what a person should know meanwhile
};

struct HubFile {
    std::string name = {};  // with folders
    uint64_t size = 0;
    std::string blob = {};  // sha256 of the content for large files, else git's sha1 of it
};

struct HubListing {
    HubId id;
    std::string commit;
    std::vector<HubFile> files;
};

// The files of `id` that a model needs; the first is the one to open where it is a GGUF. Throws Error that
// lists the choices where none or several fit.
std::vector<HubFile> choose_files(const HubListing& listing);

// What the model's files are on disk: a folder, or a GGUF file. nullopt: not there, or not complete.
std::optional<std::filesystem::path> find_cached(const HubOptions& options, const HubId& id);

struct PullPlan {
    HubListing listing;
    std::vector<HubFile> files;
    uint64_t n_bytes = 0;    // of all files
    uint64_t n_missing = 0;  // of them, not here yet
};

// Asks the hub what there is. Throws Error.
PullPlan plan_pull(const HubOptions& options, const HubId& id);
// Fetches what is missing, verifies it, and only then shows it under snapshots/. What was fetched before a
// failure or a kill is not fetched again. Returns what find_cached() would. Throws Error.
std::filesystem::path pull(const HubOptions& options, const PullPlan& plan);

struct CachedModel {
    std::string repo;
    std::vector<std::string> revisions;  // with a name or as a commit
    std::vector<std::string> files;      // of the snapshots
    uint64_t n_bytes = 0;                // on disk
    uint64_t n_partial = 0;              // of them, of pulls that did not end
    std::filesystem::path path;          // of the whole
};

std::vector<CachedModel> list_cached(const HubOptions& options);
// Removes the model, or with a file named in `id` what that alone needs; returns the bytes that became free.
// Throws Error when it is not there, or another process is pulling it.
uint64_t remove_cached(const HubOptions& options, const HubId& id);

}  // namespace smelt
