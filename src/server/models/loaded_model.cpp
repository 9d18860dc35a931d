// Replicas: engines over one mapped file.
#include <algorithm>

#include "base/log.h"
#include "base/truncation.h"
#include "server/models/model_set.h"

namespace smelt {

namespace {

std::vector<ChatModel*> models_of(const std::vector<std::unique_ptr<Replica>>& replicas) {
    std::vector<ChatModel*> models;
    for (const auto& r : replicas) models.push_back(r->chat.get());
    return models;
}

}  // namespace

LoadedModel::LoadedModel(std::vector<std::unique_ptr<Replica>> replicas)
    : replicas_(std::move(replicas)), adapters_(models_of(replicas_)) {}

Replica& LoadedModel::choose_replica(std::span<const int32_t> ids, uint64_t salt) {
    if (replicas_.size() == 1) return *replicas_.front();
    constexpr size_t max_known = size_t{1} << 16;  // beginnings; about 4 MB
    const auto len = static_cast<size_t>(default_block_len);
    std::vector<uint64_t> chain;
    std::vector<int64_t> n_seen(replicas_.size());
    uint64_t hash = random_bits(salt, 0, 0);
    for (size_t end = len; end <= ids.size(); end += len) {
        for (const int32_t id : ids.subspan(end - len, len)) {
            hash = random_bits(hash, static_cast<uint64_t>(id), 0);
        }
        chain.push_back(hash);
        const auto known = seen_.find(hash);
        if (known == seen_.end()) continue;
        for (size_t r = 0; r < replicas_.size(); ++r) {
            if ((known->second >> r & 1) != 0) n_seen[r] = static_cast<int64_t>(end);
        }
    }
    size_t best = 0;
    for (size_t r = 1; r < replicas_.size(); ++r) {
        if (replicas_[r]->work - n_seen[r] < replicas_[best]->work - n_seen[best]) best = r;
    }
    if (seen_.size() > max_known) seen_.clear();
    for (const uint64_t h : chain) seen_[h] |= uint64_t{1} << best;
    return *replicas_[best];
}

EngineStats LoadedModel::stats() const {
    EngineStats sum;
    for (const auto& replica : replicas_) sum.add(replica->chat->engine().stats());
    return sum;
}

size_t LoadedModel::kv_bytes() const {
    size_t n = 0;
    for (const auto& replica : replicas_) n += replica->chat->kv_bytes();
    return n;
}

void LoadedModel::fail(const std::string& text) {
    if (failed_.exchange(true)) return;
    spdlog::error("a model answers nothing any more: {}", text);
}

void LoadedModel::stop() {
    for (const auto& r : replicas_) r->chat->engine().stop();
}

bool LoadedModel::file_is_damaged() const {
    return std::ranges::any_of(chat().file().mappings, [](const auto& m) { return is_damaged(*m); });
}

}  // namespace smelt
