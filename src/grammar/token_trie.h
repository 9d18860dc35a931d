// The bytes of all tokens as a tree: a walk over it meets each beginning that tokens share once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/token_grammar.h"

namespace smelt {

namespace grammar {

// A subtree whose first byte is read where a rule has ended, after `turns` of its counter.
struct Exit {
    int32_t node;
    uint32_t turns;
};

// The tokens that may come at one position of an automaton as long as its rule goes on, whoever called it.
struct PositionSet {
    std::vector<uint64_t> bits = {};  // or, where they are few:
    std::vector<int32_t> ids = {};
    struct Turns {
        uint32_t needed;
        int32_t id;
    };
    std::vector<Turns> by_turns = {};                       // where turns are counted: all of them, ascending
    std::vector<std::vector<uint64_t>> bits_of_first = {};  // of so many times `stride` of by_turns, from one
    static constexpr size_t stride = 8192;                  // some 20 us
    struct Exits {
        uint8_t byte;
        std::vector<Exit> of = {};
    };
    std::vector<Exits> exits = {};
    // Of open counters: turns cannot be told apart, so that each count needs a set of its own.
    bool ambiguous = false;
    bool exhausted = false;   // it took too much work
    bool many_exits = false;  // so that it costs less to have a set for each caller

    size_t bytes() const;  // that it holds
};

}  // namespace grammar

class TokenTrie {
 public:
    struct Node {
        int32_t end;    // of its subtree; nodes are in the order of a walk
        int32_t token;  // whose last byte it is; -1: none
        uint16_t depth;
        uint8_t byte;
    };

    explicit TokenTrie(std::span<const TokenText> tokens);

    const std::vector<Node>& nodes() const { return nodes_; }
    int n_tokens() const { return static_cast<int>(bytes_.size()); }
    size_t n_words() const { return (bytes_.size() + 63) / 64; }
    int max_depth() const { return max_depth_; }
    std::string_view bytes(int32_t id) const { return bytes_[static_cast<size_t>(id)]; }
    int32_t next_same(int32_t id) const { return same_[static_cast<size_t>(id)]; }  // with the same bytes; -1

    bool has_byte(uint8_t b) const { return single_[b]; }  // as a token of its own
    bool has_control_token(std::string_view name) const;

    // Sets of positions around which all automata look alike, by what makes them so: strings of JSON are the
    // same in every schema.
    std::shared_ptr<const grammar::PositionSet> find_set(const std::string& key) const;
    void keep_set(const std::string& key, std::shared_ptr<const grammar::PositionSet> set) const;

 private:
    std::vector<Node> nodes_;
    std::vector<std::string> bytes_;  // by id
    std::vector<int32_t> same_;
    grammar::ByteSet single_;
    int max_depth_ = 0;

    mutable std::mutex mutex_;
    mutable std::map<std::string, std::shared_ptr<const grammar::PositionSet>, std::less<>> sets_;
    mutable size_t n_bytes_ = 0;  // of sets_, with their keys
};

}  // namespace smelt
