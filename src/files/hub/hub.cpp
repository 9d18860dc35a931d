// Asks what a repository has, fetches it file by file, shows it when all of it is verified.
#include "files/hub/hub.h"

#include <algorithm>

#include "base/atomic_file.h"
#include "base/json.h"
#include "files/hub/hub_download.h"

namespace smelt {

namespace fs = std::filesystem;

namespace {

constexpr size_t max_listing_bytes = size_t{64} << 20;

std::string percent_encoded(std::string_view path) {
    std::string text;
    for (const char c : path) {
        const bool plain =
            std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '/' || c == '.' || c == '-' || c == '_';
        text += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return text;
}

// A slash in a branch's name is no separator here.
std::string revision_in_url(const std::string& revision) {
    std::string text;
    for (const char c : percent_encoded(revision)) text += c == '/' ? "%2F" : std::string(1, c);
    return text;
}

std::string fetch_text(const HubOptions& options, const std::string& url) {
    const std::atomic<bool> stop = false;
    HubHttp http(options, stop);
    std::string text;
    with_retries(
        options, stop, [] { return false; },
        [&] {
            text.clear();
            const auto keep = [&](std::span<const char> bytes) {
                if (text.size() + bytes.size() > max_listing_bytes)
                    throw Error("{}: the list of files is too long", url);
                text.append(bytes.data(), bytes.size());
            };
            try {
                http.get({.url = url, .on_data = keep});
            } catch (const HttpTrouble& e) {
                // Offline, as a rule: whoever mistyped a path must not wait for several tries.
                if (e.no_host) throw Error("{}", e.what());
                throw;
            }
        });
    return text;
}

HubFile read_file_entry(const Json& entry) {
    HubFile f{.name = entry.at("rfilename"),
              .size = entry.value("size", uint64_t{0}),
              .blob = entry.value("blobId", "")};
    if (const auto lfs = entry.find("lfs"); lfs != entry.end() && lfs->is_object()) {
        f.size = lfs->at("size");
        f.blob = lfs->at("sha256");
    }
    return f;
}

HubListing fetch_listing(const HubOptions& options, const HubId& id) {
    const std::string url = fmt::format("{}/api/models/{}/revision/{}?blobs=true", options.endpoint,
                                        percent_encoded(id.repo), revision_in_url(id.revision));
    const Json json = parse_json(fetch_text(options, url), url, {.max_bytes = max_listing_bytes});
    HubListing listing{.id = id, .commit = {}, .files = {}};
    try {
        listing.commit = json.at("sha");
        for (const Json& entry : json.at("siblings")) listing.files.push_back(read_file_entry(entry));
    } catch (const nlohmann::json::exception& e) {
        throw Error("{}: expected the hub's list of files: {}", url, e.what());
    }
    if (!is_commit(listing.commit))
        throw Error("{}: expected a commit, found {}", url, listing.commit.substr(0, 100));
    if (is_commit(id.revision) && listing.commit != id.revision)
        throw Error("{}: expected the commit {}, found {}", url, id.revision, listing.commit);
    return listing;
}

Download make_download(const HubOptions& options, const CachePaths& paths, const HubListing& listing,
                       const HubFile& file) {
    return {.url = fmt::format("{}/{}/resolve/{}/{}", options.endpoint, percent_encoded(listing.id.repo),
                               listing.commit, percent_encoded(file.name)),
            .file = file,
            .partial = paths.partial(file.blob),
            .blob = paths.blob(file.blob)};
}

bool is_here(const CachePaths& paths, const HubFile& file) {
    std::error_code error;
    return fs::file_size(paths.blob(file.blob), error) == file.size && !error;
}

void check_space(const fs::path& cache, uint64_t n_missing) {
    std::error_code error;
    const fs::space_info space = fs::space(cache, error);
    constexpr uint64_t reserve = uint64_t{64} << 20;  // a disk that is full to the last byte helps nobody
    if (error || space.available >= n_missing + reserve) return;
    throw Error("{}: {:.1f} GB are free, the files that are missing have {:.1f} GB", cache.string(),
                static_cast<double>(space.available) / 1e9, static_cast<double>(n_missing) / 1e9);
}

}  // namespace

PullPlan plan_pull(const HubOptions& options, const HubId& id) {
    if (options.offline) throw Error("{} is not here, and HF_HUB_OFFLINE forbids to pull it", id.text());
    PullPlan plan{.listing = fetch_listing(options, id), .files = {}};
    plan.files = choose_files(plan.listing);
    const CachePaths paths(options, id.repo);
    for (const HubFile& f : plan.files) {
        const bool is_git = f.blob.size() == 40 && is_commit(f.blob);
        if (!is_sha256(f.blob) && !is_git) throw Error("{}: the hub gives no hash for it", f.name);
        plan.n_bytes += f.size;
        if (!is_here(paths, f))
            plan.n_missing += f.size - bytes_so_far(options, make_download(options, paths, plan.listing, f));
    }
    return plan;
}

fs::path pull(const HubOptions& options, const PullPlan& plan) {
    const HubListing& listing = plan.listing;
    const CachePaths paths(options, listing.id.repo);
    fs::create_directories(paths.root / "blobs");
    check_space(options.cache, plan.n_missing);
    uint64_t before = 0;  // bytes of the files that are done
    for (const HubFile& f : plan.files) {
        if (!is_here(paths, f)) {
            const FileLock lock(paths.lock(f.blob), FileLock::Wait::forever, options.say);
            const auto progress = [&](uint64_t done, const char* doing) {
                if (options.progress)
                    options.progress({.done = before + done, .total = plan.n_bytes, .doing = doing});
            };
            // Whoever had the lock may have fetched it.
            if (!is_here(paths, f))
                run_download(options, make_download(options, paths, listing, f), progress);
        }
        before += f.size;
    }
    const FileLock lock(paths.locks / "snapshots.lock", FileLock::Wait::forever, {});
    for (const HubFile& f : plan.files) link_file(paths, listing.commit, f);
    if (listing.id.revision != listing.commit) {
        const fs::path ref = paths.ref(listing.id.revision);
        fs::create_directories(ref.parent_path());
        AtomicFile file(ref);
        file.write(listing.commit);
        file.commit();
    }
    const bool is_file = plan.files.front().name.ends_with(".gguf") || !listing.id.file.empty();
    return is_file ? paths.snapshot(listing.commit) / plan.files.front().name
                   : paths.snapshot(listing.commit);
}

}  // namespace smelt
