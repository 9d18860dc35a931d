// Walks the tree of one template for one render: scopes, statements, calls. What operators and builtins do is
// elsewhere.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/builtins.h"
#include "text/jinja/value.h"

namespace smelt::jinja {

// Variables of one level. Macros keep the scope they were defined in alive, and see later changes to it.
struct Scope : Object {
    explicit Scope(Value p) : Object(Kind::scope), parent(std::move(p)) {}
    void clear() override {
        parent = Value();
        variables.clear();
    }
    Value* find(int id) {
        for (auto& [name, value] : variables) {
            if (name == id) return &value;
        }
        return nullptr;
    }
    void set(int id, Value value) {
        if (Value* old = find(id)) {
            *old = std::move(value);
        } else {
            variables.emplace_back(id, std::move(value));
        }
    }
    Value parent;
    std::vector<std::pair<int, Value>> variables;
};

struct Macro : Object {
    Macro(const Stmt* s, Value where) : Object(Kind::macro), stmt(s), scope(std::move(where)) {}
    void clear() override { scope = Value(); }
    std::string describe() const override { return fmt::format("<Macro {}>", text_repr(stmt->text)); }
    const Stmt* stmt;
    Value scope;
};

struct BoundFunction : Object {
    BoundFunction(const Builtin* b, Value s) : Object(Kind::function), builtin(b), self(std::move(s)) {}
    void clear() override { self = Value(); }
    std::string describe() const override { return fmt::format("<function {}>", builtin->name); }
    const Builtin* builtin;
    Value self;
};

struct Loop : Object {
    Loop(const Stmt* s, Value where, std::vector<Value> v, int d)
        : Object(Kind::loop), stmt(s), scope(std::move(where)), items(std::move(v)), depth0(d) {}
    void clear() override {
        scope = last_changed = Value();
        items.clear();
    }
    std::string describe() const override {
        return fmt::format("<LoopContext {}/{}>", index0 + 1, items.size());
    }
    const Stmt* stmt;
    Value scope;  // around the loop
    std::vector<Value> items;
    size_t index0 = 0;
    int depth0;
    Value last_changed;
};

class Interpreter {
 public:
    Interpreter(const Program& program, const TemplateLimits& limits, const RenderOptions& options);

    std::string render(const Json& variables);
    int line() const { return line_; }

    // --- for builtins
    Heap& heap() { return heap_; }
    const RenderOptions& options() const { return options_; }
    Value call(const Value& callee, CallArguments& args);
    Value call(const Builtin& builtin, const Value& self, CallArguments& args);
    // object.name and object[key]: undefined where there is nothing, also where the sandbox refuses.
    Value attribute(const Value& object, std::string_view name);
    Value item(const Value& object, const Value& key);

 private:
    enum class Flow { normal, break_, continue_ };

    class Scoped;
    class Capture;

    // --- statements (interpreter.cpp)
    Flow run(const Body& body);
    Flow run(const Stmt& s);
    Flow run_if(const Stmt& s);
    Flow run_loop(const Stmt& s, const Value& iterable, int depth0);
    std::vector<Value> loop_items(const Stmt& s, const Value& iterable);
    Flow run_with(const Stmt& s);
    void run_call_block(const Stmt& s);
    void assign(const Expr& target, Value value);
    void print_value(const Value& v);
    Value call_macro(const Macro& macro, CallArguments& args);
    void bind_macro(const Macro& macro, CallArguments& args, Scope& scope);
    Value call_loop(const Loop& loop, CallArguments& args);

    // --- expressions (evaluate.cpp)
    Value evaluate(const Expr& e);
    Value evaluate_name(const Expr& e);
    Value evaluate_text(const Expr& e);
    Value evaluate_items(const Expr& e);
    Value evaluate_dict(const Expr& e);
    Value evaluate_subscript(const Expr& e);
    Value evaluate_binary(const Expr& e);
    Value evaluate_concatenation(const Expr& e);
    Value evaluate_comparison(const Expr& e);
    Value evaluate_logic(const Expr& e);
    Value evaluate_conditional(const Expr& e);
    Value evaluate_call(const Expr& e);
    Value evaluate_filter(const Expr& e, const Value* input);
    Value evaluate_test(const Expr& e);
    CallArguments evaluate_arguments(const Arguments& arguments);
    Value special_attribute(const Value& object, std::string_view name);
    Value loop_attribute(const Loop& loop, std::string_view name);

    Scope& scope() { return scope_.as<Scope>(); }

    Heap heap_;  // first: outlives every value below
    const Program& program_;
    const RenderOptions& options_;
    std::vector<Value> context_;    // variable id -> input or global; missing where there is none
    std::vector<Value> constants_;  // id of a string constant -> value, once used
    Value scope_;
    StringBuilder* out_ = nullptr;
    int line_ = 0;
};

// Makes a new scope the current one while it lives.
class Interpreter::Scoped {
 public:
    Scoped(Interpreter& in, Value parent) : in_(in), outer_(in.scope_) {
        in.scope_ = Value(in.heap_.make<Scope>(0, std::move(parent)));
    }
    explicit Scoped(Interpreter& in) : Scoped(in, in.scope_) {}
    ~Scoped() { in_.scope_ = outer_; }
    Scoped(const Scoped&) = delete;
    Scoped& operator=(const Scoped&) = delete;

 private:
    Interpreter& in_;
    Value outer_;
};

// Output goes into a string of its own while it lives.
class Interpreter::Capture {
 public:
    explicit Capture(Interpreter& in) : in_(in), outer_(in.out_), text_(in.heap_) { in.out_ = &text_; }
    ~Capture() { in_.out_ = outer_; }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    std::string take() { return text_.take(); }

 private:
    Interpreter& in_;
    StringBuilder* outer_;
    StringBuilder text_;
};

}  // namespace smelt::jinja
