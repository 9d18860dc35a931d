// A list in the order of use, and a file an answer.
#include "server/models/response_store.h"

#include <openssl/sha.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

// Ids come from requests: only those that we make may become file names.
bool is_id(const std::string& id) {
    return id.starts_with("resp_") && id.size() < 64 &&
           id.find_first_not_of("0123456789abcdef", 5) == std::string::npos;
}

// Keys are secrets; who an answer belongs to is kept as a hash.
std::string owner_of(const std::string& key) {
    unsigned char hash[SHA256_DIGEST_LENGTH];
    SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), hash);
    std::string hex;
    for (const unsigned char byte : hash) hex += fmt::format("{:02x}", byte);
    return hex;
}

}  // namespace

ResponseStore::ResponseStore(Options options) : options_(std::move(options)) {
    if (options_.folder.empty()) return;
    if (::mkdir(options_.folder.c_str(), 0700) != 0 && errno != EEXIST) {
        throw Error("{}: {}", options_.folder.string(), std::strerror(errno));
    }
    drop_oldest_files();
}

fs::path ResponseStore::path_of(const std::string& id) const {
    return options_.folder / (id + ".json");
}

bool ResponseStore::put(const std::string& id, const std::string& key, const Kept& kept) {
    const std::string text = to_string(
        Json{{"owner", owner_of(key)}, {"conversation", kept.conversation}, {"response", kept.response}});
    if (!is_id(id) || text.size() > options_.max_bytes) return false;
    const std::lock_guard lock(mutex_);
    keep_in_memory(id, text);
    if (options_.folder.empty()) return true;
    AtomicFile file(path_of(id), AtomicFile::Readers::nobody);
    file.write(text);
    file.commit();
    drop_oldest_files();
    return true;
}

void ResponseStore::keep_in_memory(const std::string& id, const std::string& text) {
    if (const auto known = by_id_.find(id); known != by_id_.end()) {
        n_bytes_ -= known->second->text.size();
        entries_.erase(known->second);
        by_id_.erase(known);
    }
    entries_.push_front({id, text});
    by_id_[id] = entries_.begin();
    n_bytes_ += text.size();
    while (n_bytes_ > options_.max_bytes) {
        n_bytes_ -= entries_.back().text.size();
        by_id_.erase(entries_.back().id);
        entries_.pop_back();
    }
}

void ResponseStore::drop_oldest_files() {
    struct File {
        fs::file_time_type time;
        fs::path path;
        uintmax_t size;
    };
    std::vector<File> files;
    uintmax_t total = 0;
    std::error_code error;  // a file that goes meanwhile is no loss
    for (const auto& entry : fs::directory_iterator(options_.folder, error)) {
        if (!is_id(entry.path().stem().string())) continue;
        files.push_back({entry.last_write_time(error), entry.path(), entry.file_size(error)});
        total += files.back().size;
    }
    std::ranges::sort(files, {}, &File::time);
    for (const File& f : files) {
        if (total <= options_.max_bytes) break;
        total -= f.size;
        fs::remove(f.path, error);
    }
}

std::optional<std::string> ResponseStore::find(const std::string& id) {
    if (!is_id(id)) return std::nullopt;
    if (const auto known = by_id_.find(id); known != by_id_.end()) {
        entries_.splice(entries_.begin(), entries_, known->second);
        return known->second->text;
    }
    std::error_code error;
    if (options_.folder.empty() || !fs::exists(path_of(id), error)) return std::nullopt;
    std::string text(MappedFile(path_of(id)).text());
    keep_in_memory(id, text);
    return text;
}

std::optional<ResponseStore::Kept> ResponseStore::get(const std::string& id, const std::string& key) {
    std::optional<std::string> text;
    {
        const std::lock_guard lock(mutex_);
        text = find(id);
    }
    if (!text) return std::nullopt;
    Json json = parse_json(*text, id);
    if (json.at("owner") != owner_of(key)) return std::nullopt;
    return Kept{std::move(json["conversation"]), std::move(json["response"])};
}

bool ResponseStore::erase(const std::string& id, const std::string& key) {
    if (!get(id, key)) return false;
    const std::lock_guard lock(mutex_);
    if (const auto known = by_id_.find(id); known != by_id_.end()) {
        n_bytes_ -= known->second->text.size();
        entries_.erase(known->second);
        by_id_.erase(known);
    }
    std::error_code error;
    if (!options_.folder.empty()) fs::remove(path_of(id), error);
    return true;
}

}  // namespace smelt
