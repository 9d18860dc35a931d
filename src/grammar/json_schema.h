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
    JsonSchema(const Json& root, Builder& builder, const GrammarOptions& options);

    ExprPtr value();  // of the root

 private:
    struct Sub {
        const Json* schema;
        std::string path;
    };
    // What holds for one value: all of `all`, without the keywords that combine, and of each of `choices` (an
    // anyOf or oneOf) one.
    struct Conjunction {
        std::vector<Sub> all = {};
        struct Choice {
            const Json* branches;
            std::string path;
            bool exclusive;  // oneOf
            bool operator==(const Choice& c) const { return branches == c.branches; }
        };
        std::vector<Choice> choices = {};
        std::string path = {};
        bool never = false;
    };

    // --- json_schema.cpp ---
    Conjunction flatten(const std::vector<Sub>& subs, const std::string& path);
    void flatten(const Sub& s, Conjunction& c);
    void check_keywords(const Sub& s);
    void check_loop(const Sub& s);
    Sub resolve(const Sub& s) const;
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
    std::vector<ExprPtr> string_patterns(const Conjunction& c) const;
    LengthRange string_lengths(const Conjunction& c) const;
    ExprPtr string_chars(const Conjunction& c);
    ExprPtr of_lengths(CharDfa d, const LengthRange& lengths) const;
    ExprPtr any_string();
    void define_array(int32_t rule, const Conjunction& c);

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
    std::vector<std::string> member_names(const Conjunction& c) const;
    bool is_open(const Conjunction& c) const;

    // --- json_schema_check.cpp ---
    bool validates(const Json& value, const Sub& s);
    bool validates_plain(const Json& value, const Sub& s);
    bool validates_array(const Json& value, const Sub& s);
    bool validates_object(const Json& value, const Sub& s);
    void check_exclusive(const Conjunction& base, const Conjunction::Choice& choice);
    bool disjoint(const Conjunction& a, const Conjunction& b);
    bool disjoint_objects(const Conjunction& a, const Conjunction& b);
    const Json* known_values(const Conjunction& c, Json& scratch) const;
    bool matches_pattern(const std::string& pattern, const std::string& text);

    const Json& root_;
    Builder& builder_;
    const GrammarOptions& options_;
    ExprPtr space_, comma_, colon_;
    ExprPtr any_string_ = nullptr;
    std::map<std::vector<const void*>, int32_t> rules_;
    std::map<std::string, const Json*> flat_schemas_;
    std::deque<std::pair<int32_t, Conjunction>> to_define_;
    std::set<const Json*> checked_;
    std::map<const Json*, int> loop_marks_;
    std::map<std::string, std::shared_ptr<const CharDfa>> patterns_;
    size_t work_ = 0;
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

// A name as JSON pointers have it.
std::string pointer_part(const std::string& name);
// The member of an object, or null.
const Json* find_member(const Json& object, const char* name);
// Count of a keyword such as minItems; throws Refused where it is none.
uint32_t count_of(const Json& schema, const char* keyword, uint32_t fallback, const std::string& path);

}  // namespace smelt::grammar
