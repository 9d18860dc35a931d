// Building the tree from the sorted tokens.
#include "grammar/token_trie.h"

#include <algorithm>
#include <limits>

namespace smelt {

namespace {

constexpr size_t max_kept_sets = 128, max_kept_bytes = size_t{64} << 20;

}  // namespace

size_t grammar::PositionSet::bytes() const {
    size_t n = sizeof *this + bytes_held(bits) + bytes_held(ids) + bytes_held(by_turns) +
               bytes_held(bits_of_first) + bytes_held(exits);
    for (const auto& b : bits_of_first) n += bytes_held(b);
    for (const Exits& e : exits) n += bytes_held(e.of);
    return n;
}

TokenTrie::TokenTrie(std::span<const TokenText> tokens) : same_(tokens.size(), -1) {
    std::vector<int32_t> order;
    for (const TokenText& t : tokens) {
        const auto id = static_cast<int32_t>(bytes_.size());
        bytes_.emplace_back(t.bytes);
        if (t.bytes.empty()) continue;
        if (t.control) {
            bytes_.back() = grammar::control_mark + bytes_.back() + grammar::control_mark;
        } else if (t.bytes.find(grammar::control_mark) != std::string_view::npos) {
            bytes_.back().clear();  // never a part of UTF-8 text
            continue;
        }
        if (bytes_.back().size() > std::numeric_limits<uint16_t>::max()) continue;
        order.push_back(id);
        if (t.bytes.size() == 1 && !t.control) single_[static_cast<uint8_t>(t.bytes[0])] = true;
    }
    std::ranges::sort(order, {}, [&](int32_t id) { return std::pair(bytes(id), id); });

    nodes_.push_back({.end = 0, .token = -1, .depth = 0, .byte = 0});
    std::vector<int32_t> path = {0};  // nodes that are open, by depth
    const auto close = [&](size_t depth) {
        for (; path.size() > depth + 1; path.pop_back()) {
            nodes_[static_cast<size_t>(path.back())].end = static_cast<int32_t>(nodes_.size());
        }
    };
    std::string_view before;
    for (const int32_t id : order) {
        const std::string_view text = bytes(id);
        const auto common = static_cast<size_t>(std::ranges::mismatch(before, text).in1 - before.begin());
        close(common);
        for (size_t i = common; i < text.size(); ++i) {
            path.push_back(static_cast<int32_t>(nodes_.size()));
            nodes_.push_back({.end = 0,
                              .token = -1,
                              .depth = static_cast<uint16_t>(i + 1),
                              .byte = static_cast<uint8_t>(text[i])});
        }
        int32_t& token = nodes_[static_cast<size_t>(path.back())].token;
        same_[static_cast<size_t>(id)] = token;
        token = id;
        max_depth_ = std::max(max_depth_, static_cast<int>(text.size()));
        before = text;
    }
    close(0);
    nodes_[0].end = static_cast<int32_t>(nodes_.size());
}

bool TokenTrie::has_control_token(std::string_view name) const {
    const std::string marked = grammar::control_mark + std::string(name) + grammar::control_mark;
    return std::ranges::find(bytes_, marked) != bytes_.end();
}

std::shared_ptr<const grammar::PositionSet> TokenTrie::find_set(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    const auto it = sets_.find(key);
    return it == sets_.end() ? nullptr : it->second;
}

void TokenTrie::keep_set(const std::string& key, std::shared_ptr<const grammar::PositionSet> set) const {
    const size_t more = key.size() + set->bytes();
    if (more > max_kept_bytes) return;
    const std::lock_guard lock(mutex_);
    if (sets_.size() >= max_kept_sets || n_bytes_ + more > max_kept_bytes) {
        sets_.clear();
        n_bytes_ = 0;
    }
    if (sets_.try_emplace(key, std::move(set)).second) n_bytes_ += more;
}

std::shared_ptr<const TokenTrie> make_token_trie(std::span<const TokenText> tokens) {
    return std::make_shared<const TokenTrie>(tokens);
}

}  // namespace smelt
