// What an answer may be: JSON of a schema, text of a regular expression or of a grammar, or such parts put
// together; compiled into an automaton over bytes before a token is made. What cannot be enforced is refused,
// never left out. Knows nothing of tokens: see token_grammar.h.
//
// The language that is compiled is a part of what the schema allows, never more: docs/GRAMMARS.md says which.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"

namespace smelt {

namespace grammar {
struct Automaton;
}

// Why a grammar is refused.
struct GrammarError {
    std::string path;  // where in the schema, as a JSON pointer ("/properties/age"), or in the grammar text
    std::string keyword;  // "uniqueItems"; empty where it is no keyword's fault
    std::string text;     // expected, found
    // Whether the form itself is wrong, or only dear.
    enum class Reason { form, cost } reason = Reason::form;
    // One line for people: "/properties/age: uniqueItems: ...".
    std::string message() const;
};

// Bounds what a hostile schema costs. A grammar beyond them is refused.
struct GrammarLimits {
    size_t max_bytes = 1 << 20;      // of a schema or a grammar text
    size_t max_states = 100'000;     // of the automaton, and of each that is made on the way
    size_t max_edges = 1'000'000;    // the same
    size_t max_combinations = 4000;  // of subschemas that hold at the same place
    int max_depth = 64;              // of nested subschemas or groups
};

// What compiling may cost. What comes out does not depend on it.
struct GrammarEffort {
    size_t max_work = 50'000'000;               // steps over all parts; half a second
    std::chrono::milliseconds max_time{5'000};  // for a machine that is slow or busy
    // Set by another thread when nobody waits any more; null: somebody always does.
    const std::atomic<bool>* cancelled = nullptr;
};

struct GrammarOptions {
    // JSON without white space. Otherwise the model may put, where JSON allows white space: nothing, a space,
    // or one or two line breaks with up to 20 spaces or tabs.
    bool compact = false;
    GrammarLimits limits = {};
    GrammarEffort effort = {};
};

// A description that has not been looked at: compile_grammar() tells what is wrong with it.
class GrammarSpec {
 public:
    enum class Kind {
        text,
        control_token,
        json_schema,
        regex,
        gbnf,
        sequence,
        one_of,
        repeat,
        text_without,
        text_until
    };

    // Exactly this, in UTF-8.
    static GrammarSpec literal(std::string text);
    // A control token of the vocabulary, such as "<|call|>", which never is part of text.
    static GrammarSpec control_token(std::string name);
    // A JSON value of this schema (drafts 4 to 2020-12); members come in the schema's order. `lenient`: what
    // cannot be enforced is left out, and grammar_warnings() tells it.
    static GrammarSpec json_schema(Json schema, bool lenient = false);
    static GrammarSpec json_object();  // any JSON object
    // The whole text matches, as if between ^ and $.
    static GrammarSpec regex(std::string pattern);
    // llama.cpp's grammar notation; begins at the rule `root`.
    static GrammarSpec gbnf(std::string text);
    static GrammarSpec one_of_texts(const std::vector<std::string>& texts);

    static GrammarSpec sequence(std::vector<GrammarSpec> parts);
    static GrammarSpec one_of(std::vector<GrammarSpec> parts);
    static GrammarSpec repeat(GrammarSpec part, uint32_t min, uint32_t max = unlimited);
    // Any text in which none of these stands; it may end everywhere.
    static GrammarSpec text_without(std::vector<std::string> texts);
    // The same up to and with the first of them: thinking is text_until({"</think>"}).
    static GrammarSpec text_until(std::vector<std::string> ends);

    static constexpr uint32_t unlimited = UINT32_MAX;

    Kind kind = Kind::text;
    std::string value = {};                  // literal, name, pattern or grammar
    Json schema = {};                        // of json_schema
    bool lenient = false;                    // the same
    std::vector<std::string> texts = {};     // of text_without and text_until
    std::vector<GrammarSpec> parts = {};     // of sequence, one_of and repeat
    uint32_t min = 0, max = 0;               // of repeat
    std::vector<std::string> warnings = {};  // what whoever made it left out
};

using Grammar = std::shared_ptr<const grammar::Automaton>;

// Any input; takes a bounded time, which `effort` sets.
std::variant<Grammar, GrammarError> compile_grammar(const GrammarSpec& spec,
                                                    const GrammarOptions& options = {});

// What lenient schemas asked for and is not kept, one line each.
const std::vector<std::string>& grammar_warnings(const Grammar& grammar);
// Bytes of the shortest text of the language.
uint64_t shortest_text(const Grammar& grammar);

// Whether a JSON value is a schema at all: what its keywords hold. Nothing where it is.
std::optional<GrammarError> check_schema(const Json& schema);

// Whether the whole text is in the language. For tests and tools.
bool accepts(const Grammar& grammar, std::string_view text);

}  // namespace smelt
