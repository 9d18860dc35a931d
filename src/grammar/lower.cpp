// Builder, first half: trees to states, characters to bytes.
#include <algorithm>

#include "base/error.h"
#include "grammar/builder.h"
#include "grammar/char_dfa.h"
#include "grammar/refused.h"

namespace smelt::grammar {

namespace {

// Copies of a part in place of a counter; a counter costs a call for each turn.
constexpr uint32_t most_copies = 2;

const CharSet ascii = {{0, 0x7f}};

struct Utf8Range {
    uint8_t lo, hi;
};

// The characters lo to hi, which take n bytes, as runs in which the ranges of the bytes are independent.
void split_utf8(char32_t lo, char32_t hi, int n, std::vector<std::vector<Utf8Range>>& out) {
    for (int i = 1; i < n; ++i) {
        const char32_t low_bits = (char32_t{1} << (6 * i)) - 1;
        if ((lo | low_bits) == (hi | low_bits)) continue;
        if ((lo & low_bits) != 0) {
            split_utf8(lo, lo | low_bits, n, out);
            return split_utf8((lo | low_bits) + 1, hi, n, out);
        }
        if ((hi & low_bits) != low_bits) {
            split_utf8(lo, (hi & ~low_bits) - 1, n, out);
            return split_utf8(hi & ~low_bits, hi, n, out);
        }
    }
    std::vector<Utf8Range> bytes;
    for (int i = n - 1; i >= 0; --i) {
        const auto byte = [&](char32_t c) {
            const auto bits = static_cast<uint8_t>(c >> (6 * i));
            if (i < n - 1) return static_cast<uint8_t>(0x80 | (bits & 0x3f));
            return static_cast<uint8_t>(static_cast<uint8_t>(0xf00 >> n) | bits);
        };
        bytes.push_back({byte(lo), byte(hi)});
    }
    out.push_back(std::move(bytes));
}

}  // namespace

int32_t Builder::new_rule() {
    budget_.spend(4);
    if (rules_.size() >= limits_.max_states) refuse("", "", "the grammar needs too many rules");
    rules_.emplace_back();
    return static_cast<int32_t>(rules_.size()) - 1;
}

void Builder::define(int32_t r, const Expr& body) {
    const auto [start, end] = open(r);
    lower(body, start, end, false);
    close();
}

std::pair<int32_t, int32_t> Builder::open(int32_t r) {
    open_rules_.push_back(std::exchange(current_rule_, r));
    const int32_t start = add_state(), end = add_state();
    rule(r).start = start;
    rule(r).end = end;
    return {start, end};
}

void Builder::close() {
    current_rule_ = open_rules_.back();
    open_rules_.pop_back();
}

int32_t Builder::add_rule(const Expr& body) {
    const int32_t r = new_rule();
    define(r, body);
    return r;
}

void Builder::use_control_token(const std::string& name) {
    if (std::ranges::find(control_tokens_, name) == control_tokens_.end()) control_tokens_.push_back(name);
}

int32_t Builder::add_state() {
    budget_.spend(4);
    if (states_.size() >= limits_.max_states) refuse("", "", "the grammar needs too many states");
    states_.push_back({.rule = current_rule_});
    return static_cast<int32_t>(states_.size()) - 1;
}

void Builder::count_edge() {
    budget_.spend(2);
    if (++n_edges_ > limits_.max_edges) refuse("", "", "the grammar needs too many edges");
}

void Builder::byte_edge(int32_t from, uint8_t lo, uint8_t hi, int32_t to) {
    count_edge();
    edges(from).bytes.push_back({lo, hi, to});
}

void Builder::call_edge(int32_t from, int32_t r, int32_t to) {
    count_edge();
    edges(from).calls.push_back({r, to});
}

void Builder::skip(int32_t from, int32_t to) {
    count_edge();
    edges(from).skips.push_back(to);
}

void Builder::lower(const Expr& e, int32_t from, int32_t to, bool json) {
    if (depth_ > 4 * limits_.max_depth) refuse("", "", "nested too deeply");
    ++depth_;
    budget_.spend();
    switch (e.kind) {
        case Expr::Kind::bytes:
            lower_bytes(e.bytes, from, to);
            break;
        case Expr::Kind::chars:
            lower_chars(e.chars, from, to, json);
            break;
        case Expr::Kind::sequence: {
            for (const ExprPtr& p : e.parts) {
                const int32_t next = add_state();
                lower(*p, from, next, json);
                from = next;
            }
            skip(from, to);
            break;
        }
        case Expr::Kind::choice:
            lower_choice(e, from, to, json);
            break;
        case Expr::Kind::repeat:
            lower_repeat(e, from, to, json);
            break;
        case Expr::Kind::call:
            call_edge(from, e.rule, to);
            break;
        case Expr::Kind::dfa:
            call_edge(from, dfa_rule(*e.dfa, json), to);
            break;
        case Expr::Kind::counted_dfa: {
            const int32_t r = dfa_rule(*e.dfa, json);
            rule(r).counts = true;
            rule(r).min = e.min;
            rule(r).max = e.max;
            call_edge(from, r, to);
            break;
        }
        case Expr::Kind::json_text:
            lower(*e.parts[0], from, to, true);
            break;
        case Expr::Kind::assertion:
            CHECK(false);  // parse_regex() leaves none
    }
    --depth_;
}

void Builder::lower_choice(const Expr& e, int32_t from, int32_t to, bool json) {
    std::vector<std::string_view> texts;
    for (const ExprPtr& p : e.parts) {
        if (p->kind == Expr::Kind::bytes) {
            texts.push_back(p->bytes);
        } else {
            lower(*p, from, to, json);
        }
    }
    for (const int32_t end : add_texts(from, texts)) skip(end, to);
}

std::vector<int32_t> Builder::add_texts(int32_t from, std::span<const std::string_view> texts) {
    std::map<std::string_view, int32_t> states = {{"", from}};
    std::vector<int32_t> ends;
    for (const std::string_view text : texts) {
        int32_t at = from;
        for (size_t n = 1; n <= text.size(); ++n) {
            budget_.spend(8 + n / 16);
            const auto [next, fresh] = states.try_emplace(text.substr(0, n), -1);
            if (fresh) {
                next->second = add_state();
                const auto byte = static_cast<uint8_t>(text[n - 1]);
                byte_edge(at, byte, byte, next->second);
            }
            at = next->second;
        }
        ends.push_back(at);
    }
    return ends;
}

void Builder::lower_bytes(std::string_view text, int32_t from, int32_t to) {
    for (const char c : text) {
        const int32_t next = add_state();
        byte_edge(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), next);
        from = next;
    }
    skip(from, to);
}

void Builder::lower_chars(const CharSet& set, int32_t from, int32_t to, bool json) {
    budget_.spend(4 + set.ranges().size());
    const CharSet plain = json ? ascii.intersection(json_escaped.complement()) : ascii;
    for (const auto& [lo, hi] : set.intersection(plain).ranges()) {
        byte_edge(from, static_cast<uint8_t>(lo), static_cast<uint8_t>(hi), to);
    }
    const CharSet longer = set.intersection(plain.complement());
    if (!longer.empty()) call_edge(from, chars_rule(longer, json), to);
}

int32_t Builder::chars_rule(const CharSet& set, bool json) {
    const auto [it, fresh] = chars_rules_.try_emplace({set, json}, -1);
    if (!fresh) return it->second;
    const int32_t r = it->second = new_rule();
    const auto [start, end] = open(r);
    lower_utf8(json ? set.intersection(json_escaped.complement()) : set, start, end);
    if (json) lower_escapes(set.intersection(json_escaped), start, end);
    close();
    return r;
}

void Builder::lower_utf8(const CharSet& set, int32_t from, int32_t to) {
    constexpr char32_t first_of_length[] = {0, 0, 0x80, 0x800, 0x10000, 0x110000};
    std::map<std::string, int32_t> ends;  // states before the last bytes of several runs
    for (const auto& [set_lo, set_hi] : set.ranges()) {
        std::vector<std::vector<Utf8Range>> runs;
        for (int n = 2; n <= 4; ++n) {
            const char32_t lo = std::max(set_lo, first_of_length[n]);
            const char32_t hi = std::min<char32_t>(set_hi, first_of_length[n + 1] - 1);
            if (lo <= hi) split_utf8(lo, hi, n, runs);
        }
        if (set_lo < 0x80)
            byte_edge(from, static_cast<uint8_t>(set_lo),
                      static_cast<uint8_t>(std::min<char32_t>(set_hi, 0x7f)), to);
        for (const auto& run : runs) {
            budget_.spend(16);
            int32_t next = to;
            std::string rest;
            for (size_t i = run.size() - 1; i > 0; --i) {
                rest += {static_cast<char>(run[i].lo), static_cast<char>(run[i].hi)};
                const auto [it, fresh] = ends.try_emplace(rest, -1);
                if (fresh) {
                    it->second = add_state();
                    byte_edge(it->second, run[i].lo, run[i].hi, next);
                }
                next = it->second;
            }
            byte_edge(from, run[0].lo, run[0].hi, next);
        }
    }
}

// One spelling for each: the short one where JSON has it.
void Builder::lower_escapes(const CharSet& set, int32_t from, int32_t to) {
    constexpr std::string_view shorts = "\"\"\\\\\bb\ff\nn\rr\tt";
    std::vector<std::string> escapes;
    for (const auto& [lo, hi] : set.ranges()) {
        for (char32_t c = lo; c <= hi; ++c) {
            size_t at = 0;
            while (at < shorts.size() && static_cast<char32_t>(shorts[at]) != c) at += 2;
            escapes.push_back(at < shorts.size() ? std::string{'\\', shorts[at + 1]}
                                                 : fmt::format("\\u{:04x}", static_cast<uint32_t>(c)));
        }
    }
    const std::vector<std::string_view> texts(escapes.begin(), escapes.end());
    for (const int32_t end : add_texts(from, texts)) skip(end, to);
}

void Builder::lower_repeat(const Expr& e, int32_t from, int32_t to, bool json) {
    if (e.max < e.min || e.max == 0) {
        if (e.max >= e.min) skip(from, to);
        return;
    }
    const Expr* part = e.parts[0].get();
    ExprPtr shared;
    const uint32_t copies = e.max == unlimited ? e.min + (e.min < unlimited ? 1 : 0) : e.max;
    if (copies > 1 && part->kind != Expr::Kind::chars && part->kind != Expr::Kind::call) {
        shared = call(add_rule(json ? *json_text(e.parts[0]) : *part));
        part = shared.get();
    }
    if (copies > most_copies) {
        int32_t body = part->rule;
        if (part->kind != Expr::Kind::call) body = add_rule(json ? *json_text(e.parts[0]) : *part);
        return call_edge(from, repeat_rule(body, e.min, e.max), to);
    }
    for (uint32_t i = 0; i < e.min; ++i) {
        const int32_t next = add_state();
        lower(*part, from, next, json);
        from = next;
    }
    if (e.max == unlimited) {
        const int32_t hub = add_state();
        skip(from, hub);
        lower(*part, hub, hub, json);
        return skip(hub, to);
    }
    for (uint32_t i = e.min; i < e.max; ++i) {
        skip(from, to);
        const int32_t next = add_state();
        lower(*part, from, next, json);
        from = next;
    }
    skip(from, to);
}

int32_t Builder::repeat_rule(int32_t body, uint32_t min, uint32_t max) {
    const int32_t r = new_rule();
    rule(r).body = body;
    rule(r).min = min;
    rule(r).max = max;
    return r;
}

// A rule of its own: what may come inside of it does not depend on what stands around it.
int32_t Builder::dfa_rule(const CharDfa& d, bool json) {
    const int32_t r = new_rule();
    const auto [start, end] = open(r);
    const auto first = static_cast<int32_t>(states_.size());
    for (size_t i = 0; i < d.states.size(); ++i) add_state();
    skip(start, first);
    for (size_t i = 0; i < d.states.size(); ++i) {
        const int32_t state = first + static_cast<int32_t>(i);
        std::map<int32_t, CharSet> by_target;
        for (const CharDfa::Edge& e : d.states[i].edges) {
            CharSet& set = by_target[e.to];
            budget_.spend(8 + set.ranges().size());
            set.add(e.lo, e.hi);
        }
        for (const auto& [target, set] : by_target) lower_chars(set, state, first + target, json);
        if (d.states[i].final) skip(state, end);
    }
    close();
    return r;
}

}  // namespace smelt::grammar
