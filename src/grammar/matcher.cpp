// A grammar over tokens, and where one answer stands in it.
#include <fmt/format.h>

#include <algorithm>

#include "grammar/machine.h"
#include "grammar/token_grammar.h"
#include "grammar/token_sets.h"

namespace smelt {

using grammar::Machine;
using grammar::PositionSet;

namespace {

constexpr size_t max_states = 4096;  // of a machine before it drops what the answer has passed
constexpr size_t max_kept = 4;       // sets that a matcher keeps: inside of strings states come again

void set_bit(std::vector<uint64_t>& bits, int32_t id) {
    bits[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
}

void add_all(const PositionSet& set, std::vector<uint64_t>& bits) {
    for (size_t i = 0; i < set.bits.size(); ++i) bits[i] |= set.bits[i];
    for (const int32_t id : set.ids) set_bit(bits, id);
}

// The tokens that need at most so many turns of a counter.
void add_up_to(const PositionSet& set, uint32_t turns, std::vector<uint64_t>& bits) {
    const auto end = std::ranges::upper_bound(set.by_turns, turns, {}, &PositionSet::Turns::needed);
    if (end == set.by_turns.end()) return add_all(set, bits);
    const size_t n = std::min(static_cast<size_t>(end - set.by_turns.begin()) / PositionSet::stride,
                              set.bits_of_first.size());
    if (n > 0) {
        for (size_t i = 0; i < bits.size(); ++i) bits[i] |= set.bits_of_first[n - 1][i];
    }
    for (auto t = set.by_turns.begin() + static_cast<ptrdiff_t>(n * PositionSet::stride); t != end; ++t)
        set_bit(bits, t->id);
}

// The tokens of a subtree whose first byte led to `state`.
void add_subtree(Machine& machine, const TokenTrie& trie, int32_t root, int32_t state,
                 std::vector<int32_t>& path, std::vector<uint64_t>& bits) {
    const auto& nodes = trie.nodes();
    const auto end = static_cast<size_t>(nodes[static_cast<size_t>(root)].end);
    path[nodes[static_cast<size_t>(root)].depth] = state;
    for (auto i = static_cast<size_t>(root); i < end;) {
        const TokenTrie::Node& node = nodes[i];
        if (i != static_cast<size_t>(root)) path[node.depth] = machine.next(path[node.depth - 1u], node.byte);
        if (path[node.depth] == Machine::dead) {
            i = static_cast<size_t>(node.end);
            continue;
        }
        for (int32_t id = node.token; id >= 0; id = trie.next_same(id)) set_bit(bits, id);
        ++i;
    }
    machine.work(1);
}

}  // namespace

TokenGrammar::TokenGrammar(Grammar grammar, std::shared_ptr<const TokenTrie> trie)
    : grammar_(std::move(grammar)),
      trie_(std::move(trie)),
      sets_(std::make_unique<grammar::TokenSets>(*grammar_, *trie_)) {}

TokenGrammar::~TokenGrammar() = default;

std::variant<std::shared_ptr<TokenGrammar>, GrammarError> TokenGrammar::make(
    Grammar grammar, std::shared_ptr<const TokenTrie> trie) {
    for (const std::string& name : grammar->control_tokens) {
        if (!trie->has_control_token(name)) {
            return GrammarError{"", "", fmt::format("the vocabulary has no control token {}", name)};
        }
    }
    for (size_t b = 0; b < 256; ++b) {
        const auto byte = static_cast<uint8_t>(b);
        if (!grammar->used[b] || byte == static_cast<uint8_t>(grammar::control_mark)) continue;
        if (!trie->has_byte(byte)) {
            return GrammarError{"", "",
                                fmt::format("the vocabulary has no token for byte 0x{:02x} alone", b)};
        }
    }
    std::shared_ptr<TokenGrammar> bound(new TokenGrammar(std::move(grammar), std::move(trie)));
    bound->sets_->prepare();
    return bound;
}

int TokenGrammar::n_tokens() const {
    return trie_->n_tokens();
}

size_t TokenGrammar::bytes() const {
    return grammar_->bytes() + sets_->bytes();
}

size_t TokenGrammar::min_tokens() const {
    const auto longest = static_cast<uint64_t>(std::max(trie_->max_depth(), 1));
    return static_cast<size_t>((grammar_->shortest + longest - 1) / longest);
}

const std::vector<std::string>& TokenGrammar::warnings() const {
    return grammar_->warnings;
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<TokenGrammar> g)
    : grammar_(std::move(g)), machine_(std::make_unique<Machine>(*grammar_->grammar_)) {
    state_ = machine_->begin();
}

GrammarMatcher::GrammarMatcher(const GrammarMatcher& other)
    : grammar_(other.grammar_), machine_(std::make_unique<Machine>(*other.machine_)), state_(other.state_) {}

GrammarMatcher::~GrammarMatcher() = default;

std::span<const uint64_t> GrammarMatcher::allowed() {
    for (const Kept& k : kept_) {
        if (k.state == state_) return k.bits;
    }
    return compute();
}

std::span<const uint64_t> GrammarMatcher::compute() {
    Machine& m = *machine_;
    const TokenTrie& trie = *grammar_->trie_;
    if (kept_.size() < max_kept) {
        next_kept_ = kept_.size();
        kept_.emplace_back();
    } else {
        next_kept_ = (next_kept_ + 1) % max_kept;
    }
    Kept& kept = kept_[next_kept_];
    kept.state = -1;
    kept.bits.assign(trie.n_words(), 0);
    std::vector<int32_t> path(static_cast<size_t>(trie.max_depth()) + 1);

    // The tokens of a set, and those that leave its rule for what stands around in `context`.
    const auto add = [&](const grammar::TokenSets::Found& found, int32_t context) {
        if (found.max_turns == UINT32_MAX) {
            add_all(*found.set, kept.bits);
        } else {
            add_up_to(*found.set, found.max_turns, kept.bits);
        }
        if (found.set->exits.empty()) return;
        const int32_t after = m.returned(context);
        for (const PositionSet::Exits& exits : found.set->exits) {
            const int32_t next = m.next(after, exits.byte);
            if (next == Machine::dead) continue;
            for (const grammar::Exit& e : exits.of) {
                if (e.turns < found.min_turns || e.turns > found.max_turns) continue;
                add_subtree(m, trie, e.node, next, path, kept.bits);
            }
        }
    };
    m.begin_step();
    // Copies, because the machine's own move as it grows.
    const auto copy = [](std::span<const grammar::Item> items) {
        return std::vector<grammar::Item>(items.begin(), items.end());
    };
    for (const grammar::Item& item : copy(m.items(state_))) {
        const auto found = grammar_->sets_->at(item);
        m.work(found.work);
        if (found.set->exhausted || m.exhausted()) return {};
        bool by_caller = found.set->many_exits && item.context > Machine::open;
        if (by_caller) {
            for (const grammar::Item& caller : copy(m.callers(item.context))) {
                const auto with_caller = grammar_->sets_->at(item, caller);
                m.work(with_caller.work);
                if (m.exhausted()) return {};
                by_caller = by_caller && with_caller.set != nullptr && !with_caller.set->exhausted;
                if (by_caller) add(with_caller, caller.context);
            }
        }
        if (!by_caller) add(found, item.context);
        if (m.exhausted()) return {};
    }
    kept.state = state_;
    return kept.bits;
}

bool GrammarMatcher::look_ahead(int32_t id) {
    if (id < 0 || id >= grammar_->n_tokens() || grammar_->trie_->bytes(id).empty()) return false;
    machine_->begin_step();
    int32_t state = state_;
    for (const char c : grammar_->trie_->bytes(id)) state = machine_->next(state, static_cast<uint8_t>(c));
    if (state == Machine::dead || machine_->exhausted()) return false;
    state_ = state;
    return true;
}

bool GrammarMatcher::accept(int32_t id) {
    if (!look_ahead(id)) return false;
    if (machine_->n_states() > max_states) {
        state_ = machine_->compact(state_);
        kept_.clear();
        next_kept_ = 0;
    }
    return true;
}

bool GrammarMatcher::may_end() const {
    return machine_->accepts(state_);
}

bool GrammarMatcher::must_end() const {
    return machine_->stuck(state_);
}

}  // namespace smelt
