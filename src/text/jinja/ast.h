// The syntax tree of a template. Nodes live in the Program's deques and point to each other: freeing a tree
// never recurses, however deep it is. Immutable after parsing, shared by all renders.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ops.h"

namespace smelt::jinja {

struct Expr;
struct Builtin;

struct Arguments {
    std::vector<Expr*> positional;
    std::vector<std::pair<std::string, Expr*>> named;
    Expr* star = nullptr;       // *expr
    Expr* star_star = nullptr;  // **expr
};

enum class Op : uint8_t {
    literal,      // literal
    text,         // text, id: index of the string constant
    name,         // text, id: variable
    list,         // items
    tuple,        // items
    dict,         // items: key, value, key, value, ...
    attribute,    // a . text
    subscript,    // a [ b ]
    slice,        // items: start, stop, step (null where absent); only as b of a subscript
    call,         // a ( arguments )
    filter,       // a | builtin ( arguments ); a is null in the head of a filter block
    test,         // a is builtin ( arguments )
    negate,       // -a
    plus,         // +a
    not_,         // not a
    binary,       // a arithmetic b
    concatenate,  // items joined by ~
    compare,      // a comparisons[0] items[0] comparisons[1] items[1] ...
    and_,         // a and b
    or_,          // a or b
    conditional,  // a if b else c (null: undefined)
    member,       // target only: a (a name) . text, an attribute of a namespace
};

struct Expr {
    Op op = Op::literal;
    int line = 0;
    int id = 0;
    Arithmetic arithmetic = Arithmetic::add;
    Value literal;  // never an object
    const Builtin* builtin = nullptr;
    Expr *a = nullptr, *b = nullptr, *c = nullptr;
    std::string text;
    std::vector<Expr*> items;
    std::vector<Comparison> comparisons;
    Arguments arguments;
};

struct Stmt;
using Body = std::vector<Stmt*>;

enum class Do : uint8_t {
    text,          // text
    print,         // expr
    if_,           // branches; other
    for_,          // target, expr, filter (null), recursive; body; other
    set,           // target = expr
    set_block,     // target, filter (null); body
    macro,         // text, id, parameters, uses_*; body
    call_block,    // expr: the call; parameters: of caller(), uses_*; body
    filter_block,  // filter; body
    with,          // targets = values; body
    scope,         // body in a scope of its own
    sequence,      // body in the same scope: {% generation %}
    break_,
    continue_,
};

struct Parameter {
    std::string name;
    int id;
    Expr* fallback;  // null where there is none
};

struct Stmt {
    Do what = Do::text;
    int line = 0;
    int id = 0;
    bool recursive = false, uses_caller = false, uses_varargs = false, uses_kwargs = false;
    Expr *expr = nullptr, *target = nullptr, *filter = nullptr;
    std::string text;
    Body body, other;
    std::vector<std::pair<Expr*, Body>> branches;
    std::vector<Parameter> parameters;
    std::vector<std::pair<Expr*, Expr*>> bindings;  // target, value of {% with %}
};

// Names that the interpreter itself reads or sets.
enum KnownName : int { name_loop, name_caller, name_varargs, name_kwargs, n_known_names };

struct Program {
    std::deque<Expr> exprs;
    std::deque<Stmt> stmts;
    std::vector<std::string> names;           // variable id -> name
    std::vector<const std::string*> strings;  // id of a string constant -> text
    Body body;
};

// Throws Raised (TemplateSyntaxError, TemplateAssertionError); `line` is set to where.
Program parse(std::string_view source, int max_depth, int& line);

}  // namespace smelt::jinja
