// JSON schemas as rules. A value that several subschemas are about has one rule for their conjunction.
#pragma once

#include <deque>
#include <map>
#include <set>

#include "base/json.h"
#include "grammar/builder.h"
#include "grammar/json_number.h"

namespace smelt::grammar {

class JsonSchema {
 public:
    // Borrows all of them. Throws Refused.
    // `lenient`: a keyword that cannot be enforced is left out, and `warnings` says so.
    JsonSchema(const Json& root, Builder& builder, const GrammarOptions& options, bool lenient = false);

    ExprPtr value();  // of the root
    const std::vector<std::string>& warnings() const { return warnings_; }

 private:
    struct Sub {
        const Json* schema;
        std::string path;
        std::vector<const Json*> above = {};  // whose part it is, for the same value
    };
    // What holds for one value: all of `all`, without the keywords that combine, and of each of `choices` (an
    // anyOf or oneOf) one.
    struct Conjunction {
        std::vector<Sub> all = {};
        struct Choice {
            const Json* branches;
            std::string path;
            bool exclusive;  // oneOf
            std::vector<const Json*> above = {};
            bool operator==(const Choice& c) const { return branches == c.branches; }
        };
        std::vector<Choice> choices = {};
        std::string path = {};
        bool never = false;
    };

    // --- json_schema_keywords.cpp ---
    void check_keywords(const Sub& s);
    void check_loop(const Sub& s);
    const Json* reference(const Json& schema) const;
    Sub resolve(const Sub& s);
    const Json* resource(const std::string& name, const std::string& path);
    void find_names(const Json& at);
    void drop(const std::string& path, const std::string& keyword, const std::string& why);

    // --- json_schema_negation.cpp ---
    // Each of them a conjunction; one of them has to hold.
    using Alternatives = std::vector<std::vector<Sub>>;
    const std::vector<Sub>* linked(const Json* schema);
    Sub link(const Alternatives& alternatives, const std::string& path);
    Sub made(Json schema, const std::string& path);
    Sub negated(const Sub& s);
    Alternatives alternatives_to(const Sub& s);
    void not_keyword(const Sub& s, const std::string& key, const Json& value, Alternatives& out);
    void not_values(const Json& values, const std::string& path, Alternatives& out);
    Sub absent(const std::string& name, const std::string& path);
    const std::vector<Sub>& conditions(const Sub& s);

    // --- json_schema.cpp ---
    Conjunction flatten(const std::vector<Sub>& subs, const std::string& path);
    void flatten(const Sub& s, Conjunction& c);
    void flatten_part(Sub part, const Sub& of, Conjunction& c);
    ExprPtr rule_of(const std::vector<Sub>& subs, const std::string& path);
    ExprPtr rule_of(Conjunction c);
    void define(int32_t rule, const Conjunction& c);
    ExprPtr branches(const Conjunction& c);
    ExprPtr enumerated(const Conjunction& c, const Json& values);
    const Json* first_equal(const Json* schema);
    uint32_t types_of(const Conjunction& c) const;
    ExprPtr literal_json(const Json& value) const;

    // --- json_schema_values.cpp ---
    NumberBounds number_bounds(const Conjunction& c) const;
    ExprPtr string_value(const Conjunction& c);
    std::vector<ExprPtr> string_patterns(const Conjunction& c);
    ExprPtr pattern_expr(const std::string& pattern, const std::string& path, const char* keyword);
    const CharDfa& dfa_of(const ExprPtr& e);
    LengthRange string_lengths(const Conjunction& c) const;
    ExprPtr string_chars(const Conjunction& c);
    ExprPtr of_lengths(CharDfa d, const LengthRange& lengths);
    ExprPtr any_string();
    struct ArrayShape {
        uint32_t min = 0, max = unlimited;
        size_t n_first = 0;    // items that differ from the rest
        bool has_rest = true;  // others may come
        bool unique = false;
    };
    ArrayShape array_shape(const Conjunction& c);
    std::vector<Sub> item_subs(const Conjunction& c, size_t i);
    void define_array(int32_t rule, const Conjunction& c);
    const Json* finite_values(const Conjunction& item, Json& scratch) const;
    bool list_values(const Conjunction& c, Json& values);
    bool define_set(int32_t rule, const Conjunction& c, const ArrayShape& shape);

    // --- json_schema_objects.cpp ---
    // In the order in which they come.
    struct Members {
        std::vector<ExprPtr> names = {}, values = {};
        std::vector<bool> required = {};
        ExprPtr free = nullptr;  // any number of others, behind them
    };
    void define_members(int32_t rule, const Members& m);
    void define_counted_members(int32_t rule, const Members& m, uint32_t min, uint32_t max);
    void define_object(int32_t rule, const Conjunction& c);
    struct Free {
        ExprPtr key;
        std::vector<Sub> subs;
    };
    std::vector<Free> free_members(const Conjunction& c, const std::vector<std::string>& names);
    ExprPtr named_value(const Conjunction& c, const std::string& name);
    CharDfa names_dfa(const Conjunction& c, LengthRange& lengths);
    std::vector<std::string> member_names(const Conjunction& c);
    bool names_members(const Conjunction& c);
    bool is_open(const Conjunction& c);
    bool is_evaluated(const Conjunction& c, const Sub& by, const std::string& name);

    // --- json_schema_check.cpp ---
    bool validates(const Json& value, const Sub& s);
    // Of `known` the value is one.
    bool validates_plain(const Json& value, const Sub& s, const Json* known = nullptr);
    bool validates_array(const Json& value, const Sub& s);
    bool validates_object(const Json& value, const Sub& s);
    bool validates_members(const Json& value, const Sub& s);
    bool validates_conditions(const Json& value, const Sub& s);
    bool is_one_of(const Json& value, const Json& values);
    // For each branch those of which a value of it could be one, too.
    std::vector<std::vector<size_t>> overlaps(const Conjunction& base, const Conjunction::Choice& choice);
    bool disjoint(const Conjunction& a, const Conjunction& b);
    bool disjoint_objects(const Conjunction& a, const Conjunction& b);
    const Json* known_values(const Conjunction& c, Json& scratch) const;
    bool matches_pattern(const std::string& pattern, const std::string& text);

    const Json& root_;
    const bool lenient_;
    std::vector<std::string> warnings_;
    Builder& builder_;
    Budget& budget_;
    const GrammarOptions& options_;
    ExprPtr space_, comma_, colon_;
    ExprPtr any_string_ = nullptr;
    std::map<std::vector<const void*>, int32_t> rules_;
    std::map<std::string, const Json*> flat_schemas_;
    std::map<const Json*, const Json*> first_equal_;
    std::deque<std::pair<int32_t, Conjunction>> to_define_;
    std::set<const Json*> checked_;
    std::map<const Json*, int> loop_marks_;
    std::map<std::string, ExprPtr> patterns_, formats_;
    std::map<ExprPtr, std::shared_ptr<const CharDfa>> dfas_;
    // Schemas that stand in no text: what `not`, `if` and the like come to. A link says what its empty schema
    // stands for.
    std::deque<Json> made_;
    std::map<const Json*, std::vector<Sub>> links_;
    std::map<const Json*, Sub> negations_;  // by the made schema, until it is looked at
    std::map<const Json*, Sub> negation_of_;
    std::map<const Json*, std::vector<Sub>> conditions_;
    std::map<std::string, const Json*> names_;  // $anchor and $id
    bool names_found_ = false;
    int depth_ = 0;
};

// Types as bits, in an order that puts numbers before integers.
enum JsonType : uint32_t {
    j_null = 1,
    j_boolean = 2,
    j_integer = 4,
    j_number = 8,
    j_string = 16,
    j_array = 32,
    j_object = 64
};
constexpr uint32_t every_json_type = 127;

// Throws Refused for what is no name of a type.
uint32_t type_named(const std::string& name, const std::string& path);

// Their names.
Json type_list(uint32_t types);

// A name as JSON pointers have it.
std::string pointer_part(const std::string& name);
// The member of an object; null where it is not there or is JSON's null, as some generators write for that.
const Json* find_member(const Json& object, const char* name);
// The value of `const`, which may be null.
const Json* constant_of(const Json& schema);
// Count of a keyword such as minItems; throws Refused where it is none.
uint32_t count_of(const Json& schema, const char* keyword, uint32_t fallback, const std::string& path);

}  // namespace smelt::grammar
