// Paths of the hub's cache, and which names from the network may become parts of a path.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "files/hub/hub.h"

namespace smelt {

// Throw Error for what would leave the cache or surprise a file system.
void check_repo(std::string_view repo);          // ORG/NAME
void check_revision(std::string_view revision);  // a branch, a tag, a commit
void check_file_name(std::string_view name);     // with folders

bool is_commit(std::string_view text);
bool is_sha256(std::string_view blob);

struct CachePaths {
    CachePaths(const HubOptions& options, const std::string& repo);

    std::filesystem::path blob(const std::string& blob) const { return root / "blobs" / blob; }
    std::filesystem::path partial(const std::string& blob) const {
        return root / "blobs" / (blob + ".smelt-partial");
    }
    std::filesystem::path lock(const std::string& blob) const { return locks / (blob + ".lock"); }
    std::filesystem::path ref(const std::string& revision) const { return root / "refs" / revision; }
    std::filesystem::path snapshot(const std::string& commit) const { return root / "snapshots" / commit; }

    std::filesystem::path root, locks;
};

// Shows a blob as snapshots/COMMIT/NAME.
void link_file(const CachePaths& paths, const std::string& commit, const HubFile& file);

// While one lives, no other process of smelt or of Hugging Face's tools fetches this file.
class FileLock {
 public:
    enum class Wait { forever, never };
    // Creates the file. `say` hears once that another has it. Throws Error where `wait` is never and it is
    // taken.
    FileLock(const std::filesystem::path& path, Wait wait,
             const std::function<void(const std::string&)>& say);
    ~FileLock();
    FileLock(const FileLock&) = delete;
    FileLock& operator=(const FileLock&) = delete;

 private:
    int fd_ = -1;
};

}  // namespace smelt
