// Keys, and the list of what is kept, the latest first. Grammars are compiled and freed outside of its lock.
#include "grammar/grammar_cache.h"

#include <algorithm>
#include <list>

namespace smelt {

namespace {

using GrammarPtr = std::shared_ptr<TokenGrammar>;

void put(std::string& key, uint64_t n) {
    key.append(reinterpret_cast<const char*>(&n), sizeof n);
}

void put(std::string& key, const std::string& text) {
    put(key, text.size());
    key += text;
}

// Each part says how long it is, so that what differs anywhere, be it in the order of a schema's members,
// has another key. MessagePack keeps all of a value: 1 is not 1.0, and bytes that are no UTF-8 stay.
void put(std::string& key, const GrammarSpec& s) {
    put(key, static_cast<uint64_t>(s.kind));
    put(key, s.value);
    Json::to_msgpack(s.schema, key);
    put(key, s.texts.size());
    for (const std::string& text : s.texts) put(key, text);
    put(key, s.parts.size());
    for (const GrammarSpec& part : s.parts) put(key, part);
    put(key, s.min);
    put(key, s.max);
    put(key, s.lenient);
}

// The vocabulary is the cache's own.
std::string key_of(const GrammarSpec& spec, const GrammarOptions& options) {
    const GrammarLimits& l = options.limits;
    std::string key;
    for (const uint64_t n : {uint64_t{options.compact}, uint64_t{l.max_bytes}, uint64_t{l.max_states},
                             uint64_t{l.max_edges}, uint64_t{l.max_combinations}, uint64_t(l.max_depth)}) {
        put(key, n);
    }
    put(key, spec);
    key.shrink_to_fit();
    return key;
}

}  // namespace

class GrammarCache::Kept {
 public:
    explicit Kept(const GrammarCacheLimits& limits) : limits_(limits) {}

    GrammarPtr find(const std::string& key, size_t hash) {
        const std::lock_guard lock(mutex_);
        GrammarPtr found = find_locked(key, hash);
        if (found != nullptr) ++n_hits_;
        return found;
    }
    void count_miss() {
        const std::lock_guard lock(mutex_);
        ++n_misses_;
    }

    // The one that is kept, which another thread may have added in the meantime.
    GrammarPtr add(std::string key, size_t hash, GrammarPtr grammar) {
        std::list<Entry> dropped;
        const std::lock_guard lock(mutex_);
        if (GrammarPtr found = find_locked(key, hash)) return found;
        entries_.push_front({std::move(key), hash, grammar});
        drop(dropped);
        return grammar;
    }

    void trim() noexcept {
        std::list<Entry> dropped;
        const std::lock_guard lock(mutex_);
        drop(dropped);
    }

    GrammarCacheStats stats() const {
        const std::lock_guard lock(mutex_);
        GrammarCacheStats s{.n_hits = n_hits_, .n_misses = n_misses_, .n_grammars = entries_.size()};
        for (const Entry& e : entries_) s.n_bytes += e.bytes();
        return s;
    }

 private:
    struct Entry {
        std::string key;
        size_t hash;
        GrammarPtr grammar;
        size_t bytes() const { return key.capacity() + grammar->bytes(); }
    };

    GrammarPtr find_locked(const std::string& key, size_t hash) {
        const auto is_it = [&](const Entry& e) { return e.hash == hash && e.key == key; };
        const auto it = std::ranges::find_if(entries_, is_it);
        if (it == entries_.end()) return nullptr;
        entries_.splice(entries_.begin(), entries_, it);
        return it->grammar;
    }

    // Takes out what does not fit behind those that came later. One that is larger than all may be goes
    // itself.
    void drop(std::list<Entry>& dropped) noexcept {
        size_t n = 0, bytes = 0;
        for (auto it = entries_.begin(); it != entries_.end();) {
            const auto here = it++;
            const size_t more = here->bytes();
            if (n < limits_.max_grammars && bytes + more <= limits_.max_bytes) {
                ++n;
                bytes += more;
            } else {
                dropped.splice(dropped.end(), entries_, here);
            }
        }
    }

    const GrammarCacheLimits limits_;
    mutable std::mutex mutex_;
    std::list<Entry> entries_;  // the latest first
    uint64_t n_hits_ = 0, n_misses_ = 0;
};

GrammarCache::GrammarCache(MakeTrie make_trie, const GrammarCacheLimits& limits)
    : make_trie_(std::move(make_trie)), kept_(std::make_shared<Kept>(limits)) {}

std::variant<GrammarPtr, GrammarError> GrammarCache::get(const GrammarSpec& spec,
                                                         const GrammarOptions& options) {
    std::string key = key_of(spec, options);
    const size_t hash = std::hash<std::string>()(key);
    GrammarPtr grammar = kept_->find(key, hash);
    if (grammar == nullptr) {
        kept_->count_miss();
        auto compiled = compile_grammar(spec, options);
        if (auto* error = std::get_if<GrammarError>(&compiled)) return std::move(*error);
        std::call_once(trie_made_, [&] { trie_ = make_trie_(); });
        auto made = TokenGrammar::make(std::get<Grammar>(std::move(compiled)), trie_);
        if (auto* error = std::get_if<GrammarError>(&made)) return std::move(*error);
        grammar = kept_->add(std::move(key), hash, std::get<GrammarPtr>(std::move(made)));
    }
    return lend(std::move(grammar));
}

GrammarPtr GrammarCache::find(const GrammarSpec& spec, const GrammarOptions& options) {
    const std::string key = key_of(spec, options);
    GrammarPtr grammar = kept_->find(key, std::hash<std::string>()(key));
    return grammar == nullptr ? nullptr : lend(std::move(grammar));
}

GrammarPtr GrammarCache::lend(GrammarPtr grammar) const {
    // It grew while it was used, and nobody may ask for a grammar for long: so it is looked at when it comes
    // back. By then the cache may be gone.
    TokenGrammar* const lent = grammar.get();
    return GrammarPtr(lent,
                      [grammar = std::move(grammar), cache = std::weak_ptr(kept_)](TokenGrammar*) mutable {
                          grammar.reset();
                          if (const auto kept = cache.lock()) kept->trim();
                      });
}

GrammarCacheStats GrammarCache::stats() const {
    return kept_->stats();
}

}  // namespace smelt
