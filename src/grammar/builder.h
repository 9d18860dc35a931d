// Puts rules together and makes the automaton of them: lowers trees to states, then takes out empty moves and
// what leads nowhere.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/budget.h"
#include "grammar/expr.h"

namespace smelt::grammar {

class Builder {
 public:
    explicit Builder(Budget& budget) : budget_(budget), limits_(budget.limits()) {}

    Budget& budget() { return budget_; }
    const GrammarLimits& limits() const { return limits_; }

    int32_t new_rule();  // to be defined before finish()
    void define(int32_t rule, const Expr& body);
    int32_t add_rule(const Expr& body);
    // For what is no tree: the rule's first and last state, between which states and ways are added until
    // close().
    std::pair<int32_t, int32_t> open(int32_t rule);
    int32_t add_state();
    void add(const Expr& e, int32_t from, int32_t to) { lower(e, from, to, false); }
    void skip(int32_t from, int32_t to);
    // The states behind each of the texts, which share their beginnings.
    std::vector<int32_t> add_texts(int32_t from, std::span<const std::string_view> texts);
    void close();

    void use_control_token(const std::string& name);

    // Throws Refused where nothing matches, or a rule begins with itself.
    Automaton finish(int32_t root);

 private:
    struct Edges {
        std::vector<ByteEdge> bytes = {};
        std::vector<CallEdge> calls = {};
        std::vector<int32_t> skips = {};
        int32_t rule = 0;
    };
    struct Rule {
        int32_t start = -1, end = -1;
        int32_t body = -1;          // of repeats
        uint32_t min = 0, max = 0;  // of repeats and of rules that count
        bool counts = false;
        bool nullable = false, productive = false;
    };

    void byte_edge(int32_t from, uint8_t lo, uint8_t hi, int32_t to);
    void call_edge(int32_t from, int32_t rule, int32_t to);
    void count_edge();

    void lower(const Expr& e, int32_t from, int32_t to, bool json);
    void lower_choice(const Expr& e, int32_t from, int32_t to, bool json);
    void lower_bytes(std::string_view text, int32_t from, int32_t to);
    void lower_chars(const CharSet& set, int32_t from, int32_t to, bool json);
    void lower_repeat(const Expr& e, int32_t from, int32_t to, bool json);
    int32_t dfa_rule(const CharDfa& d, bool json);
    void lower_utf8(const CharSet& set, int32_t from, int32_t to);
    void lower_escapes(const CharSet& set, int32_t from, int32_t to);
    int32_t chars_rule(const CharSet& set, bool json);
    int32_t repeat_rule(int32_t body, uint32_t min, uint32_t max);

    void find_nullable();
    void find_productive();
    void drop_unproductive();
    void rank_rules(Automaton& a);
    void find_follow(Automaton& a);
    void find_turns(Automaton& a);
    Edges closed(int32_t state, bool& final);

    Edges& edges(int32_t state) { return states_[static_cast<size_t>(state)]; }
    Rule& rule(int32_t r) { return rules_[static_cast<size_t>(r)]; }

    Budget& budget_;
    const GrammarLimits& limits_;
    std::vector<Edges> states_;
    std::vector<Rule> rules_;
    std::vector<bool> productive_;  // by state
    std::vector<int32_t> stamp_;    // by state: the last one whose closure met it
    std::map<std::pair<CharSet, bool>, int32_t> chars_rules_;
    std::vector<std::string> control_tokens_;
    int32_t current_rule_ = 0;
    std::vector<int32_t> open_rules_;
    int depth_ = 0;
    size_t n_edges_ = 0;
};

// In bytes; 0: the empty text.
uint64_t shortest_text(const Automaton& a, Budget& budget);

}  // namespace smelt::grammar
