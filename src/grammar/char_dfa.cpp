// Subset construction, products, and the automata of "all but" and "until".
#include "grammar/char_dfa.h"

#include <algorithm>
#include <map>
#include <set>

#include "grammar/char_nfa.h"

namespace smelt::grammar {

namespace {

// The states that empty moves lead to.
void close(const CharNfa& nfa, std::vector<int32_t>& set, Budget& budget) {
    budget.spend(steps_per_node * (1 + set.size()));
    std::set<int32_t> seen(set.begin(), set.end());
    set.assign(seen.begin(), seen.end());
    for (size_t i = 0; i < set.size(); ++i) {
        for (const int32_t to : nfa.at(set[i]).skips) {
            budget.spend(steps_per_node);
            if (seen.insert(to).second) set.push_back(to);
        }
    }
    std::ranges::sort(set);
}

CharDfa determinize(const CharNfa& nfa, Budget& budget) {
    std::map<std::vector<int32_t>, int32_t> ids;
    std::vector<std::vector<int32_t>> sets;
    CharDfa result;
    const auto id_of = [&](std::vector<int32_t> set) {
        close(nfa, set, budget);
        const auto [it, fresh] = ids.try_emplace(set, static_cast<int32_t>(sets.size()));
        if (fresh) {
            if (sets.size() >= budget.limits().max_states)
                refuse("", "", "the pattern needs too many states");
            result.states.push_back({.final = std::ranges::binary_search(set, CharNfa::final)});
            sets.push_back(std::move(set));
        }
        return it->second;
    };
    id_of({CharNfa::start});
    for (size_t s = 0; s < sets.size(); ++s) {
        // A sweep over the ends of all ranges: between two of them the targets stay the same.
        std::map<char32_t, std::pair<std::vector<int32_t>, std::vector<int32_t>>> ends;
        for (const int32_t n : sets[s]) {
            for (const CharDfa::Edge& e : nfa.at(n).edges) {
                ends[e.lo].first.push_back(e.to);
                ends[e.hi + 1].second.push_back(e.to);
                budget.spend(2 * steps_per_node);
            }
        }
        std::multiset<int32_t> active;
        char32_t from = 0;
        for (const auto& [at, change] : ends) {
            if (!active.empty()) {
                budget.spend(steps_per_node * active.size());
                const int32_t to = id_of({active.begin(), active.end()});
                auto& edges = result.states[s].edges;
                if (!edges.empty() && edges.back().to == to && edges.back().hi + 1 == from) {
                    edges.back().hi = at - 1;
                } else {
                    edges.push_back({from, at - 1, to});
                }
            }
            for (const int32_t n : change.second) active.erase(active.find(n));
            for (const int32_t n : change.first) active.insert(n);
            from = at;
        }
    }
    return result;
}

int32_t checked_id(size_t n, const GrammarLimits& limits) {
    if (n >= limits.max_states) refuse("", "", "the pattern needs too many states");
    return static_cast<int32_t>(n);
}

// Characters that no edge of the state has go to `to`.
void fill_gaps(CharDfa::State& s, int32_t to, Budget& budget) {
    CharSet taken;
    for (const CharDfa::Edge& e : s.edges) {
        budget.spend(4 + taken.ranges().size());
        taken.add(e.lo, e.hi);
    }
    for (const auto& [lo, hi] : taken.complement().ranges()) s.edges.push_back({lo, hi, to});
    std::ranges::sort(s.edges, {}, &CharDfa::Edge::lo);
}

// The prefixes of some texts as a tree.
struct PrefixTree {
    struct Node {
        std::map<char32_t, int32_t> children = {};
        bool whole = false;
    };
    std::vector<Node> nodes = {{}};

    PrefixTree(std::span<const std::u32string> texts, Budget& budget) {
        for (const std::u32string& text : texts) {
            size_t at = 0;
            for (const char32_t c : text) {
                budget.spend(steps_per_node);
                const auto [it, fresh] =
                    nodes[at].children.try_emplace(c, checked_id(nodes.size(), budget.limits()));
                const auto next = static_cast<size_t>(it->second);
                if (fresh) nodes.emplace_back();
                at = next;
            }
            nodes[at].whole = true;
        }
    }
};

}  // namespace

bool CharDfa::accepts(std::u32string_view text) const {
    size_t at = 0;
    for (const char32_t c : text) {
        const auto& edges = states[at].edges;
        const auto e = std::ranges::lower_bound(edges, c, {}, &Edge::hi);
        if (e == edges.end() || c < e->lo) return false;
        at = static_cast<size_t>(e->to);
    }
    return states[at].final;
}

bool CharDfa::empty() const {
    return shortest() == unlimited;
}

uint32_t CharDfa::shortest() const {
    std::vector<int32_t> reached = {0};
    std::vector<uint32_t> length(states.size(), unlimited);
    length[0] = 0;
    for (size_t i = 0; i < reached.size(); ++i) {
        const auto at = static_cast<size_t>(reached[i]);
        if (states[at].final) return length[at];
        for (const Edge& e : states[at].edges) {
            uint32_t& to = length[static_cast<size_t>(e.to)];
            if (to != unlimited) continue;
            to = length[at] + 1;
            reached.push_back(e.to);
        }
    }
    return unlimited;
}

bool CharDfa::grows() const {
    const auto ends = [&](const Edge& e) { return states[static_cast<size_t>(e.to)].final; };
    return std::ranges::all_of(
        states, [&](const State& s) { return !s.final || std::ranges::any_of(s.edges, ends); });
}

CharDfa make_dfa(const Expr& e, Budget& budget) {
    return e.has_assertions ? make_asserted_dfa(e, budget) : determinize(CharNfa(e, budget), budget);
}

CharDfa intersection(const CharDfa& a, const CharDfa& b, Budget& budget) {
    std::map<std::pair<int32_t, int32_t>, int32_t> ids;
    std::vector<std::pair<int32_t, int32_t>> pairs;
    CharDfa result;
    size_t n_edges = 0;
    const auto id_of = [&](int32_t x, int32_t y) {
        const auto [it, fresh] = ids.try_emplace({x, y}, checked_id(pairs.size(), budget.limits()));
        if (fresh) {
            pairs.emplace_back(x, y);
            result.states.push_back(
                {.final = a.states[static_cast<size_t>(x)].final && b.states[static_cast<size_t>(y)].final});
        }
        return it->second;
    };
    id_of(0, 0);
    for (size_t i = 0; i < pairs.size(); ++i) {
        const auto& left = a.states[static_cast<size_t>(pairs[i].first)].edges;
        const auto& right = b.states[static_cast<size_t>(pairs[i].second)].edges;
        auto x = left.begin();
        auto y = right.begin();
        while (x != left.end() && y != right.end()) {
            const char32_t lo = std::max(x->lo, y->lo), hi = std::min(x->hi, y->hi);
            budget.spend();
            if (lo <= hi) {
                budget.spend(steps_per_node);
                const int32_t to = id_of(x->to, y->to);
                result.states[i].edges.push_back({lo, hi, to});
                if (++n_edges > budget.limits().max_edges)
                    refuse("", "", "the patterns need too many states together");
            }
            (x->hi < y->hi ? x : y)++;
        }
    }
    return result;
}

CharDfa complement(const CharDfa& a, Budget& budget) {
    CharDfa result = a;
    const auto sink = static_cast<int32_t>(result.states.size());
    result.states.emplace_back();
    for (CharDfa::State& s : result.states) {
        s.final = !s.final;
        fill_gaps(s, sink, budget);
    }
    return result;
}

CharDfa all_but(std::span<const std::u32string> texts, Budget& budget) {
    const PrefixTree tree(texts, budget);
    CharDfa result;
    for (const PrefixTree::Node& n : tree.nodes) {
        CharDfa::State& s = result.states.emplace_back();
        s.final = !n.whole;
        for (const auto& [c, child] : n.children) s.edges.push_back({c, c, child});
    }
    const auto sink = static_cast<int32_t>(result.states.size());
    result.states.push_back({.final = true});
    for (CharDfa::State& s : result.states) fill_gaps(s, sink, budget);
    return result;
}

CharDfa without(std::span<const std::u32string> texts, bool closed, Budget& budget) {
    const PrefixTree tree(texts, budget);
    CharSet known;
    for (const std::u32string& t : texts) {
        for (const char32_t c : t) known.add(c, c);
    }
    size_t n_known = 0;
    for (const auto& [lo, hi] : known.ranges()) n_known += hi - lo + 1;
    if (n_known * tree.nodes.size() > budget.limits().max_edges) refuse("", "", "too many texts to look for");

    // Aho and Corasick: next[node][character], breadth first, so that a node's fallback is done before it.
    std::vector<std::map<char32_t, int32_t>> next(tree.nodes.size());
    std::vector<int32_t> fallback(tree.nodes.size()), order = {0};
    std::vector<bool> found(tree.nodes.size());
    for (size_t i = 0; i < order.size(); ++i) {
        const auto node = static_cast<size_t>(order[i]);
        const auto back = static_cast<size_t>(fallback[node]);
        found[node] = tree.nodes[node].whole || (node != 0 && found[back]);
        if (node != 0) next[node] = next[back];
        budget.spend(steps_per_node * (1 + next[node].size()));
        for (const auto& [c, child] : tree.nodes[node].children) {
            const auto other = node == 0 ? next[back].end() : next[back].find(c);
            fallback[static_cast<size_t>(child)] = node == 0 || other == next[back].end() ? 0 : other->second;
            order.push_back(child);
        }
        for (const auto& [c, child] : tree.nodes[node].children) next[node][c] = child;
    }
    CharDfa result;
    for (size_t node = 0; node < tree.nodes.size(); ++node) {
        CharDfa::State& s = result.states.emplace_back();
        s.final = closed ? found[node] : !found[node];
        if (found[node]) continue;
        for (const auto& [c, to] : next[node]) {
            if (closed || !found[static_cast<size_t>(to)]) s.edges.push_back({c, c, to});
        }
        CharSet other = known.complement();
        for (const auto& [lo, hi] : known.ranges()) {
            for (char32_t c = lo; c <= hi; ++c) {
                budget.spend(steps_per_node + other.ranges().size());
                if (!next[node].contains(c)) other.add(c, c);
            }
        }
        for (const auto& [lo, hi] : other.ranges()) s.edges.push_back({lo, hi, 0});
        std::ranges::sort(s.edges, {}, &CharDfa::Edge::lo);
    }
    return result;
}

}  // namespace smelt::grammar
