// What is in the cache, and how it is removed.
#include "files/hub/hub_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "base/error.h"

namespace smelt {

namespace fs = std::filesystem;

namespace {

bool is_plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

void check_segments(std::string_view text, const char* what, std::string_view also) {
    size_t start = 0;
    while (start <= text.size()) {
        const size_t end = std::min(text.find('/', start), text.size());
        const std::string_view segment = text.substr(start, end - start);
        const bool plain =
            std::ranges::all_of(segment, [&](char c) { return is_plain(c) || also.find(c) != also.npos; });
        if (segment.empty() || segment.size() > 240 || segment == "." || segment == ".." || !plain) {
            throw Error("{}: expected {}, each part of letters, digits, '.', '_' and '-'",
                        text.substr(0, 200), what);
        }
        start = end + 1;
    }
}

bool is_hex(std::string_view text, size_t n) {
    return text.size() == n &&
           std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

uint64_t size_on_disk(const fs::path& path) {
    struct stat s {};
    if (::lstat(path.c_str(), &s) != 0) return 0;
    return static_cast<uint64_t>(s.st_blocks) * 512;  // partial ones have holes
}

std::string repo_of(const std::string& folder) {
    constexpr std::string_view prefix = "models--";
    if (!folder.starts_with(prefix)) return "";
    const std::string repo = folder.substr(prefix.size());
    const size_t dashes = repo.find("--");
    return dashes == std::string::npos ? repo : repo.substr(0, dashes) + '/' + repo.substr(dashes + 2);
}

std::vector<fs::path> children(const fs::path& folder) {
    std::vector<fs::path> list;
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(folder, missing)) list.push_back(entry.path());
    std::ranges::sort(list);
    return list;
}

// Files below `folder`, with folders in the name.
std::vector<std::string> files_below(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (auto it = fs::recursive_directory_iterator(folder, error);
         !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
        if (!it->is_directory()) names.push_back(it->path().lexically_relative(folder).generic_string());
    }
    std::ranges::sort(names);
    return names;
}

std::string read_line(const fs::path& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

// Branches and tags, by the commit that they name.
std::map<std::string, std::vector<std::string>> names_of_commits(const CachePaths& paths) {
    std::map<std::string, std::vector<std::string>> names;
    for (const std::string& name : files_below(paths.root / "refs"))
        names[read_line(paths.root / "refs" / name)].push_back(name);
    return names;
}

// The commit that is here for a revision; empty: none.
std::string local_commit(const CachePaths& paths, const std::string& revision) {
    std::error_code error;
    if (fs::is_directory(paths.snapshot(revision), error)) return revision;
    const std::string commit = read_line(paths.ref(revision));
    return is_commit(commit) ? commit : "";
}

// choose_files() over what is here; a model of several files must be here whole.
std::optional<fs::path> complete_model(const fs::path& snapshot, const HubId& id, const std::string& commit) {
    HubListing here{.id = id, .commit = commit, .files = {}};
    std::error_code error;
    for (const std::string& name : files_below(snapshot)) {
        if (fs::exists(snapshot / name, error)) here.files.push_back({.name = name});  // the blob is there
    }
    std::vector<HubFile> files;
    try {
        files = choose_files(here);
    } catch (const Error&) {
        return std::nullopt;
    }
    return files.front().name.ends_with(".gguf") || !id.file.empty() ? snapshot / files.front().name
                                                                     : snapshot;
}

}  // namespace

void check_repo(std::string_view repo) {
    check_segments(repo, "ORG/NAME", "");
    if (std::ranges::count(repo, '/') != 1) throw Error("{}: expected ORG/NAME", repo);
}

void check_revision(std::string_view revision) {
    check_segments(revision, "a branch, a tag or a commit", "+");
}

void check_file_name(std::string_view name) {
    check_segments(name, "a file name that is safe to create", " +=,@()[]");
}

bool is_commit(std::string_view text) {
    return is_hex(text, 40);
}

bool is_sha256(std::string_view blob) {
    return is_hex(blob, 64);
}

CachePaths::CachePaths(const HubOptions& options, const std::string& repo) {
    const size_t slash = repo.find('/');
    const std::string folder = fmt::format("models--{}--{}", repo.substr(0, slash), repo.substr(slash + 1));
    root = options.cache / folder;
    locks = options.cache / ".locks" / folder;
}

void link_file(const CachePaths& paths, const std::string& commit, const HubFile& file) {
    const fs::path link = paths.snapshot(commit) / file.name;
    fs::create_directories(link.parent_path());
    const fs::path target = paths.blob(file.blob).lexically_relative(link.parent_path());
    static std::atomic<unsigned> n_links = 0;
    fs::path temporary = link;
    temporary += fmt::format(".smelt-{}-{}", ::getpid(), n_links++);
    std::error_code ignored;
    fs::remove(temporary, ignored);
    fs::create_symlink(target, temporary);
    fs::rename(temporary, link);
}

FileLock::FileLock(const fs::path& path, Wait wait, const std::function<void(const std::string&)>& say) {
    fs::create_directories(path.parent_path());
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) throw Error("{}: cannot create: {}", path.string(), std::strerror(errno));
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
    if (wait == Wait::never) {
        ::close(fd_);
        throw Error("another process is pulling this model; try again when it is done");
    }
    if (say) say("another process is pulling this file: waiting for it");
    while (::flock(fd_, LOCK_EX) != 0) {
        if (errno != EINTR) throw Error("{}: cannot lock: {}", path.string(), std::strerror(errno));
    }
}

FileLock::~FileLock() {
    ::close(fd_);
}

std::optional<fs::path> find_cached(const HubOptions& options, const HubId& id) {
    const CachePaths paths(options, id.repo);
    const std::string commit = local_commit(paths, id.revision);
    if (commit.empty()) return std::nullopt;
    return complete_model(paths.snapshot(commit), id, commit);
}

std::vector<CachedModel> list_cached(const HubOptions& options) {
    std::vector<CachedModel> models;
    for (const fs::path& folder : children(options.cache)) {
        CachedModel m{
            .repo = repo_of(folder.filename().string()), .revisions = {}, .files = {}, .path = folder};
        if (m.repo.empty() || !fs::is_directory(folder)) continue;
        for (const fs::path& blob : children(folder / "blobs")) {
            const uint64_t n = size_on_disk(blob);
            m.n_bytes += n;
            const std::string name = blob.filename().string();
            if (name.find('.') != std::string::npos) m.n_partial += n;  // .smelt-partial, .incomplete
        }
        auto names = names_of_commits(CachePaths(options, m.repo));
        std::set<std::string> files;
        for (const fs::path& snapshot : children(folder / "snapshots")) {
            const std::string commit = snapshot.filename().string();
            const auto known = names.find(commit);
            if (known == names.end())
                m.revisions.push_back(commit);
            else
                m.revisions.insert(m.revisions.end(), known->second.begin(), known->second.end());
            for (const std::string& name : files_below(snapshot)) files.insert(name);
        }
        m.files.assign(files.begin(), files.end());
        models.push_back(std::move(m));
    }
    return models;
}

namespace {

// Blobs that some snapshot shows.
std::set<fs::path> blobs_in_use(const CachePaths& paths) {
    std::set<fs::path> used;
    for (const std::string& name : files_below(paths.root / "snapshots")) {
        std::error_code error;
        used.insert(fs::weakly_canonical(paths.root / "snapshots" / name, error));
    }
    return used;
}

void remove_links(const CachePaths& paths, const HubId& id) {
    bool found = false;
    for (const fs::path& snapshot : children(paths.root / "snapshots")) {
        HubListing here{.id = id, .commit = snapshot.filename().string(), .files = {}};
        for (const std::string& name : files_below(snapshot)) here.files.push_back({.name = name});
        try {
            for (const HubFile& file : choose_files(here)) found = fs::remove(snapshot / file.name) || found;
        } catch (const Error&) {
            // this snapshot does not have it
        }
    }
    if (!found) throw Error("{} is not in {}", id.text(), paths.root.parent_path().string());
}

}  // namespace

uint64_t remove_cached(const HubOptions& options, const HubId& id) {
    const CachePaths paths(options, id.repo);
    if (!fs::is_directory(paths.root)) throw Error("{} is not in {}", id.repo, options.cache.string());
    for (const fs::path& lock : children(paths.locks)) FileLock(lock, FileLock::Wait::never, {});
    uint64_t freed = 0;
    if (id.file.empty()) {
        for (const fs::path& blob : children(paths.root / "blobs")) freed += size_on_disk(blob);
        fs::remove_all(paths.root);
        fs::remove_all(paths.locks);
        return freed;
    }
    remove_links(paths, id);
    const std::set<fs::path> used = blobs_in_use(paths);
    for (const fs::path& blob : children(paths.root / "blobs")) {
        if (used.contains(fs::weakly_canonical(blob))) continue;
        freed += size_on_disk(blob);
        fs::remove(blob);
    }
    return freed;
}

}  // namespace smelt
