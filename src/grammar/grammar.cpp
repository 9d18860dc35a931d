// The public face: specs to trees, trees to an automaton, refusals to values.
#include "grammar/grammar.h"

#include <algorithm>

#include "grammar/builder.h"
#include "grammar/char_dfa.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/machine.h"
#include "grammar/refused.h"
#include "grammar/regex.h"

namespace smelt {

namespace {

using grammar::Builder;
using grammar::ExprPtr;
using grammar::refuse;

using Kind = GrammarSpec::Kind;

std::vector<std::u32string> decoded(const std::vector<std::string>& texts, const char* what) {
    std::vector<std::u32string> result;
    for (const std::string& t : texts) {
        if (t.empty()) refuse("", "", fmt::format("{}: expected texts that are not empty", what));
        result.push_back(grammar::decode_text(t));
    }
    return result;
}

class Compiler {
 public:
    Compiler(Builder& builder, const GrammarOptions& options) : builder_(builder), options_(options) {}

    ExprPtr expr(const GrammarSpec& s) {
        builder_.budget().spend(10 + s.value.size());
        if (++depth_ > options_.limits.max_depth) refuse("", "", "parts are nested too deeply");
        ExprPtr e = one(s);
        --depth_;
        return e;
    }

    std::vector<std::string> take_warnings() { return std::move(warnings_); }

 private:
    ExprPtr one(const GrammarSpec& s) {
        add_warnings(s.warnings);
        if (s.value.size() > options_.limits.max_bytes) {
            refuse("", "",
                   fmt::format("expected at most {} bytes, found {}", options_.limits.max_bytes,
                               s.value.size()));
        }
        switch (s.kind) {
            case Kind::text:
                return grammar::literal(grammar::decode_text(s.value));
            case Kind::control_token:
                builder_.use_control_token(s.value);
                return grammar::bytes(grammar::control_mark + s.value + grammar::control_mark);
            case Kind::json_schema:
                return json(s);
            case Kind::regex:
                return grammar::parse_regex(s.value, grammar::RegexMatch::whole, builder_.budget());
            case Kind::gbnf:
                return grammar::parse_gbnf(s.value, builder_);
            case Kind::sequence:
                return grammar::sequence(parts(s));
            case Kind::one_of:
                return grammar::choice(parts(s));
            case Kind::repeat:
                return grammar::repeat(expr(s.parts.at(0)), s.min, s.max);
            case Kind::text_without:
            case Kind::text_until:
                return grammar::dfa(grammar::without(decoded(s.texts, "text_until"),
                                                     s.kind == Kind::text_until, builder_.budget()));
        }
        return nullptr;
    }

    std::vector<ExprPtr> parts(const GrammarSpec& s) {
        std::vector<ExprPtr> result;
        for (const GrammarSpec& p : s.parts) result.push_back(expr(p));
        return result;
    }

    // A rule of its own, so that a schema's states are the same whatever stands around it.
    ExprPtr json(const GrammarSpec& s) {
        if (to_string(s.schema).size() > options_.limits.max_bytes) {
            refuse("", "", fmt::format("expected a schema of at most {} bytes", options_.limits.max_bytes));
        }
        grammar::JsonSchema schema(s.schema, builder_, options_, s.lenient);
        ExprPtr value = schema.value();
        add_warnings(schema.warnings());
        return value;
    }

    // A part may stand at several places.
    void add_warnings(const std::vector<std::string>& more) {
        for (const std::string& w : more) {
            if (std::ranges::find(warnings_, w) == warnings_.end()) warnings_.push_back(w);
        }
    }

    Builder& builder_;
    const GrammarOptions& options_;
    std::vector<std::string> warnings_;
    int depth_ = 0;
};

GrammarSpec spec_of(Kind kind, std::string value) {
    GrammarSpec s;
    s.kind = kind;
    s.value = std::move(value);
    return s;
}

GrammarSpec spec_of(Kind kind, std::vector<GrammarSpec> parts) {
    GrammarSpec s;
    s.kind = kind;
    s.parts = std::move(parts);
    return s;
}

}  // namespace

std::string GrammarError::message() const {
    std::string all = path;
    for (const std::string* part : {&keyword, &text}) {
        if (!all.empty() && !part->empty()) all += ": ";
        all += *part;
    }
    return all;
}

GrammarSpec GrammarSpec::literal(std::string text) {
    return spec_of(Kind::text, std::move(text));
}
GrammarSpec GrammarSpec::control_token(std::string name) {
    return spec_of(Kind::control_token, std::move(name));
}
GrammarSpec GrammarSpec::json_schema(Json schema, bool lenient) {
    GrammarSpec s;
    s.kind = Kind::json_schema;
    s.schema = std::move(schema);
    s.lenient = lenient;
    return s;
}
GrammarSpec GrammarSpec::json_object() {
    return json_schema({{"type", "object"}});
}
GrammarSpec GrammarSpec::regex(std::string pattern) {
    return spec_of(Kind::regex, std::move(pattern));
}
GrammarSpec GrammarSpec::gbnf(std::string text) {
    return spec_of(Kind::gbnf, std::move(text));
}
GrammarSpec GrammarSpec::one_of_texts(const std::vector<std::string>& texts) {
    std::vector<GrammarSpec> parts;
    for (const std::string& t : texts) parts.push_back(literal(t));
    return one_of(std::move(parts));
}
GrammarSpec GrammarSpec::sequence(std::vector<GrammarSpec> parts) {
    return spec_of(Kind::sequence, std::move(parts));
}
GrammarSpec GrammarSpec::one_of(std::vector<GrammarSpec> parts) {
    return spec_of(Kind::one_of, std::move(parts));
}
GrammarSpec GrammarSpec::repeat(GrammarSpec part, uint32_t min, uint32_t max) {
    GrammarSpec s = spec_of(Kind::repeat, std::vector<GrammarSpec>{std::move(part)});
    s.min = min;
    s.max = max;
    return s;
}
GrammarSpec GrammarSpec::text_without(std::vector<std::string> texts) {
    GrammarSpec s;
    s.kind = Kind::text_without;
    s.texts = std::move(texts);
    return s;
}
GrammarSpec GrammarSpec::text_until(std::vector<std::string> ends) {
    GrammarSpec s = text_without(std::move(ends));
    s.kind = Kind::text_until;
    return s;
}

std::variant<Grammar, GrammarError> compile_grammar(const GrammarSpec& spec, const GrammarOptions& options) {
    try {
        grammar::Budget budget(options);
        Builder builder(budget);
        Compiler compiler(builder, options);
        const int32_t root = builder.add_rule(*compiler.expr(spec));
        grammar::Automaton automaton = builder.finish(root);
        automaton.warnings = compiler.take_warnings();
        return std::make_shared<const grammar::Automaton>(std::move(automaton));
    } catch (const grammar::Refused& refused) {
        return refused.error;
    } catch (const Json::exception& e) {
        return GrammarError{"", "", fmt::format("not a valid schema: {}", e.what())};
    }
}

const std::vector<std::string>& grammar_warnings(const Grammar& grammar) {
    return grammar->warnings;
}

uint64_t shortest_text(const Grammar& grammar) {
    return grammar->shortest;
}

bool accepts(const Grammar& g, std::string_view text) {
    grammar::Machine machine(*g);
    int32_t state = machine.begin();
    for (const char c : text) {
        machine.begin_step();
        state = machine.next(state, static_cast<uint8_t>(c));
        if (machine.exhausted()) return false;
    }
    return machine.accepts(state);
}

}  // namespace smelt
