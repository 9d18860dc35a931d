// Patterns with assertions (anchors, word edges, look-ahead, look-behind) as automata. What stands behind a
// place is what automata over the text so far say, which run beside; what is to come is a duty that a way
// takes with it: an automaton that has to accept the rest of the text.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "grammar/char_nfa.h"
#include "grammar/regex.h"

namespace smelt::grammar {

namespace {

using Kind = Expr::Assertion;

struct Duty {
    int32_t look, state;
    auto operator<=>(const Duty&) const = default;
};

// One way through the pattern, and what has to hold for the rest.
struct Way {
    int32_t state;
    std::vector<Duty> duties = {};
    // Not <=>, which vectors of libc++ 16 do not have.
    bool operator<(const Way& w) const { return std::tie(state, duties) < std::tie(w.state, w.duties); }
};

// What the text so far is, as far as an assertion asks.
struct Before {
    char32_t kind = 0;                 // of the last character: 0 none, 1 another, 2 of a word, 3 a line end
    std::vector<int32_t> behind = {};  // state of each look-behind; -1: matches nothing any more
    bool operator<(const Before& b) const { return std::tie(kind, behind) < std::tie(b.kind, b.behind); }
};

// An automaton of duties. From a state that is `free` every text is accepted, from one that is `dead` none.
struct Look {
    CharDfa dfa;
    std::vector<bool> free, dead;
};

// By state: whether a way leads to one of `ends`.
std::vector<bool> leads_to(const CharDfa& d, std::vector<bool> ends, Budget& budget) {
    std::vector<std::vector<int32_t>> back(d.states.size());
    std::vector<int32_t> todo;
    for (size_t i = 0; i < d.states.size(); ++i) {
        budget.spend(4 + d.states[i].edges.size());
        for (const CharDfa::Edge& e : d.states[i].edges)
            back[static_cast<size_t>(e.to)].push_back(static_cast<int32_t>(i));
        if (ends[i]) todo.push_back(static_cast<int32_t>(i));
    }
    while (!todo.empty()) {
        const auto at = static_cast<size_t>(todo.back());
        todo.pop_back();
        for (const int32_t from : back[at]) {
            if (ends[static_cast<size_t>(from)]) continue;
            ends[static_cast<size_t>(from)] = true;
            todo.push_back(from);
        }
    }
    return ends;
}

bool takes_all(const CharDfa::State& s) {
    CharSet taken;
    for (const CharDfa::Edge& e : s.edges) taken.add(e.lo, e.hi);
    return taken.intersection(CharSet::all()) == CharSet::all();
}

Look make_look(CharDfa d, Budget& budget) {
    std::vector<bool> refuses, accepts;
    for (const CharDfa::State& s : d.states) {
        budget.spend(10 + 4 * s.edges.size());
        refuses.push_back(!s.final || !takes_all(s));
        accepts.push_back(s.final);
    }
    Look look{.dfa = std::move(d), .free = leads_to(look.dfa, refuses, budget), .dead = {}};
    look.dead = leads_to(look.dfa, accepts, budget);
    look.free.flip();
    look.dead.flip();
    return look;
}

int32_t step(const CharDfa& d, int32_t state, char32_t c) {
    const auto& edges = d.states[static_cast<size_t>(state)].edges;
    const auto e = std::ranges::lower_bound(edges, c, {}, &CharDfa::Edge::hi);
    return e == edges.end() || c < e->lo ? -1 : e->to;
}

// The characters at which something changes for these edges.
template <class Edges>
void add_cuts(const Edges& edges, std::vector<char32_t>& cuts, Budget& budget) {
    budget.spend(2 * edges.size());
    for (const auto& e : edges) {
        cuts.push_back(e.lo);
        cuts.push_back(e.hi + 1);
    }
}

class Maker {
 public:
    explicit Maker(Budget& budget) : budget_(budget) {}

    CharDfa make(const Expr& e) {
        find_behind(e);
        return run(e, {.behind = std::vector<int32_t>(behind_.size(), 0)});
    }

 private:
    // Numbers the look-behinds, of all parts. Each is an automaton of "any text, then this".
    void find_behind(const Expr& e) {
        if (!e.has_assertions) return;
        const bool is = e.kind == Expr::Kind::assertion;
        uses_before_ = uses_before_ || (is && e.assertion != Kind::end && e.parts.empty());
        for (const ExprPtr& p : e.parts) find_behind(*p);
        if (!is || (e.assertion != Kind::behind && e.assertion != Kind::not_behind)) return;
        uses_before_ = true;
        if (looks_ahead(*e.parts[0])) refuse("", "pattern", "look-ahead within look-behind is not supported");
        const ExprPtr whole = sequence({repeat(chars(CharSet::all()), 0), e.parts[0]});
        Maker alone(budget_);
        behind_ids_[&e] = static_cast<int32_t>(behind_.size());
        behind_.push_back(whole->has_assertions ? alone.make(*whole) : make_dfa(*whole, budget_));
    }

    static bool looks_ahead(const Expr& e) {
        const bool is = e.kind == Expr::Kind::assertion && e.assertion != Kind::begin &&
                        e.assertion != Kind::line_begin && e.assertion != Kind::behind &&
                        e.assertion != Kind::not_behind;
        return is || std::ranges::any_of(e.parts, [](const ExprPtr& p) { return looks_ahead(*p); });
    }

    CharDfa run(const Expr& e, const Before& first) {
        if (++depth_ > most_nested) refuse("", "pattern", "assertions are nested too deeply");
        const CharNfa nfa(e, budget_);
        std::map<std::pair<Before, std::vector<Way>>, int32_t> ids;
        std::vector<std::pair<Before, std::vector<Way>>> sets;
        CharDfa result;
        const auto id_of = [&](Before before, std::vector<Way> ways) {
            close(nfa, before, ways);
            if (ways.empty()) return -1;
            auto key = std::pair(std::move(before), std::move(ways));
            const auto [it, fresh] = ids.try_emplace(std::move(key), static_cast<int32_t>(sets.size()));
            if (fresh) {
                if (sets.size() >= budget_.limits().max_states)
                    refuse("", "", "the pattern needs too many states");
                result.states.push_back(
                    {.final = std::ranges::any_of(it->first.second, [&](const Way& w) { return ends(w); })});
                sets.push_back(it->first);
            }
            return it->second;
        };
        if (id_of(first, {{CharNfa::start}}) < 0) result.states.emplace_back();
        for (size_t s = 0; s < sets.size(); ++s) {
            const std::vector<char32_t> cuts = cuts_of(nfa, sets[s].first, sets[s].second);
            for (size_t i = 0; i + 1 < cuts.size(); ++i) {
                // The set as it is: it moves when others are added.
                const auto [before, ways] = sets[s];
                const int32_t to = id_of(after(before, cuts[i]), moved(nfa, ways, cuts[i]));
                if (to < 0) continue;
                auto& edges = result.states[s].edges;
                if (!edges.empty() && edges.back().to == to && edges.back().hi + 1 == cuts[i]) {
                    edges.back().hi = cuts[i + 1] - 1;
                } else {
                    edges.push_back({cuts[i], cuts[i + 1] - 1, to});
                }
            }
        }
        --depth_;
        return result;
    }

    bool ends(const Way& w) const {
        return w.state == CharNfa::final && std::ranges::all_of(w.duties, [&](const Duty& d) {
                   return looks_[static_cast<size_t>(d.look)].dfa.states[static_cast<size_t>(d.state)].final;
               });
    }

    std::vector<char32_t> cuts_of(const CharNfa& nfa, const Before& before, const std::vector<Way>& ways) {
        std::vector<char32_t> cuts;
        for (const Way& w : ways) {
            add_cuts(nfa.at(w.state).edges, cuts, budget_);
            for (const Duty& d : w.duties) {
                add_cuts(looks_[static_cast<size_t>(d.look)].dfa.states[static_cast<size_t>(d.state)].edges,
                         cuts, budget_);
            }
        }
        if (uses_before_) {
            add_cuts(regex_word_chars().ranges(), cuts, budget_);
            add_cuts(regex_line_ends().ranges(), cuts, budget_);
        }
        for (size_t i = 0; i < behind_.size(); ++i) {
            if (before.behind[i] >= 0)
                add_cuts(behind_[i].states[static_cast<size_t>(before.behind[i])].edges, cuts, budget_);
        }
        std::ranges::sort(cuts);
        cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
        budget_.spend(5 * cuts.size());
        return cuts;
    }

    Before after(Before b, char32_t c) {
        if (!uses_before_) return b;
        b.kind = regex_word_chars().contains(c) ? 2 : regex_line_ends().contains(c) ? 3 : 1;
        for (size_t i = 0; i < b.behind.size(); ++i) {
            budget_.spend(5);
            if (b.behind[i] >= 0) b.behind[i] = step(behind_[i], b.behind[i], c);
        }
        return b;
    }

    std::vector<Way> moved(const CharNfa& nfa, const std::vector<Way>& ways, char32_t c) {
        std::vector<Way> to;
        for (const Way& w : ways) {
            budget_.spend(2 + nfa.at(w.state).edges.size() + 5 * w.duties.size());
            std::vector<Duty> duties;
            bool alive = true;
            for (const Duty& d : w.duties) {
                alive = alive &&
                        add_duty(duties, d.look, step(looks_[static_cast<size_t>(d.look)].dfa, d.state, c));
            }
            if (!alive) continue;
            std::ranges::sort(duties);
            duties.erase(std::unique(duties.begin(), duties.end()), duties.end());
            for (const CharDfa::Edge& e : nfa.at(w.state).edges) {
                if (e.lo > c || c > e.hi) continue;
                budget_.spend(steps_per_node);
                to.push_back({e.to, duties});
            }
        }
        return to;
    }

    // False: it cannot be met.
    bool add_duty(std::vector<Duty>& duties, int32_t look, int32_t state) {
        if (state < 0) return false;
        const Look& l = looks_[static_cast<size_t>(look)];
        if (l.dead[static_cast<size_t>(state)]) return false;
        if (!l.free[static_cast<size_t>(state)]) duties.push_back({look, state});
        return true;
    }

    // All ways that empty moves lead to, without those that ask for more than another one of the same state.
    void close(const CharNfa& nfa, const Before& before, std::vector<Way>& ways) {
        std::vector<Way> todo = std::move(ways);
        std::set<Way> seen(todo.begin(), todo.end());
        todo.assign(seen.begin(), seen.end());
        for (size_t i = 0; i < todo.size(); ++i) {
            const Way from = todo[i];
            const auto go = [&](Way to) {
                budget_.spend(2 * steps_per_node + to.duties.size());
                if (seen.insert(to).second) todo.push_back(std::move(to));
            };
            for (const int32_t to : nfa.at(from.state).skips) go({to, from.duties});
            for (const CharNfa::Guarded& g : nfa.at(from.state).guarded) {
                Way to{g.to, from.duties};
                if (!passes(*g.assertion, before, to.duties)) continue;
                std::ranges::sort(to.duties);
                to.duties.erase(std::unique(to.duties.begin(), to.duties.end()), to.duties.end());
                go(std::move(to));
            }
        }
        ways.clear();
        for (const Way& w : seen) {
            if (nfa.at(w.state).edges.empty() && w.state != CharNfa::final) continue;
            const auto asks_less = [&](const Way& other) {
                budget_.spend(2 + other.duties.size());
                return other.duties.size() < w.duties.size() && std::ranges::includes(w.duties, other.duties);
            };
            const auto first = seen.lower_bound(Way{w.state}), last = seen.lower_bound(Way{w.state + 1});
            if (std::none_of(first, last, asks_less)) ways.push_back(w);
        }
    }

    bool passes(const Expr& a, const Before& before, std::vector<Duty>& duties) {
        const bool in_word = before.kind == 2;
        const auto add = [&](int32_t look) { return add_duty(duties, look, 0); };
        const auto is_behind = [&] {
            const auto i = static_cast<size_t>(behind_ids_.at(&a));
            return before.behind[i] >= 0 && behind_[i].states[static_cast<size_t>(before.behind[i])].final;
        };
        switch (a.assertion) {
            case Kind::begin:
                return before.kind == 0;
            case Kind::line_begin:
                return before.kind == 0 || before.kind == 3;
            case Kind::end:
                return add(known_look("end", [] { return sequence({}); }));
            case Kind::line_end:
                return add(known_look("line end", [] {
                    return choice({sequence({}), then_any(regex_line_ends())});
                }));
            case Kind::word_edge:
            case Kind::no_word_edge:
                if (in_word == (a.assertion == Kind::word_edge)) {
                    return add(known_look("no word", [] {
                        return choice({sequence({}), then_any(regex_word_chars().complement())});
                    }));
                }
                return add(known_look("word", [] { return then_any(regex_word_chars()); }));
            case Kind::behind:
                return is_behind();
            case Kind::not_behind:
                return !is_behind();
            case Kind::ahead:
            case Kind::not_ahead:
                return add(look_ahead(a, before));
        }
        return false;
    }

    static ExprPtr then_any(const CharSet& first) {
        return sequence({chars(first), repeat(chars(CharSet::all()), 0)});
    }

    int32_t keep(CharDfa d) {
        looks_.push_back(make_look(std::move(d), budget_));
        return static_cast<int32_t>(looks_.size()) - 1;
    }

    int32_t known_look(const std::string& name, ExprPtr (*tree)()) {
        const auto [it, fresh] = known_.try_emplace(name, -1);
        if (fresh) it->second = keep(make_dfa(*tree(), budget_));
        return it->second;
    }

    int32_t look_ahead(const Expr& a, const Before& before) {
        const bool depends = a.parts[0]->has_assertions && uses_before_;
        const auto key = std::pair(&a, depends ? before : Before{});
        budget_.spend(2 * steps_per_node);
        if (const auto it = ahead_.find(key); it != ahead_.end()) return it->second;
        const ExprPtr whole = sequence({a.parts[0], repeat(chars(CharSet::all()), 0)});
        CharDfa d = whole->has_assertions ? run(*whole, before) : make_dfa(*whole, budget_);
        if (a.assertion == Kind::not_ahead) d = complement(d, budget_);
        return ahead_[key] = keep(std::move(d));
    }

    static constexpr int most_nested = 8;  // each level multiplies

    Budget& budget_;
    bool uses_before_ = false;
    std::map<const Expr*, int32_t> behind_ids_;
    std::vector<CharDfa> behind_;
    std::vector<Look> looks_;
    std::map<std::string, int32_t> known_;
    std::map<std::pair<const Expr*, Before>, int32_t> ahead_;
    int depth_ = 0;
};

}  // namespace

CharDfa make_asserted_dfa(const Expr& e, Budget& budget) {
    return Maker(budget).make(e);
}

}  // namespace smelt::grammar
