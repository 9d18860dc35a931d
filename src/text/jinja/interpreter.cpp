#include "text/jinja/interpreter.h"

#include "base/error.h"

namespace smelt::jinja {

Interpreter::Interpreter(const Program& program, const TemplateLimits& limits, const RenderOptions& options)
    : heap_(limits), program_(program), options_(options), constants_(program.strings.size()) {}

std::string Interpreter::render(const Json& variables) {
    for (const std::string& name : program_.names) {
        const auto found = variables.find(name);
        Value v;
        if (found != variables.end()) {
            v = from_json(heap_, *found);
        } else if (const Builtin* global = find_global(name)) {
            v = Value(heap_.make<BoundFunction>(0, global, Value()));
        }
        context_.push_back(std::move(v));
    }
    const Scoped scoped(*this, Value());
    Capture output(*this);
    run(program_.body);
    return output.take();
}

Interpreter::Flow Interpreter::run(const Body& body) {
    const Nesting nesting(heap_);
    for (const Stmt* s : body) {
        const Flow flow = run(*s);
        if (flow != Flow::normal) return flow;
    }
    return Flow::normal;
}

Interpreter::Flow Interpreter::run(const Stmt& s) {
    heap_.step();
    line_ = s.line;
    switch (s.what) {
        case Do::text:
            out_->append(s.text);
            break;
        case Do::print:
            print_value(evaluate(*s.expr));
            break;
        case Do::if_:
            return run_if(s);
        case Do::for_:
            return run_loop(s, evaluate(*s.expr), 0);
        case Do::set:
            assign(*s.target, evaluate(*s.expr));
            break;
        case Do::set_block: {
            Value text;
            {
                const Scoped scoped(*this);
                Capture capture(*this);
                run(s.body);
                text = make_string(heap_, capture.take());
            }
            assign(*s.target, s.filter ? evaluate_filter(*s.filter, &text) : text);
            break;
        }
        case Do::macro:
            scope().set(s.id, Value(heap_.make<Macro>(0, &s, scope_)));
            break;
        case Do::call_block:
            run_call_block(s);
            break;
        case Do::filter_block: {
            Value text;
            {
                const Scoped scoped(*this);
                Capture capture(*this);
                run(s.body);
                text = make_string(heap_, capture.take());
            }
            print_value(evaluate_filter(*s.filter, &text));
            break;
        }
        case Do::with:
            return run_with(s);
        case Do::scope: {
            const Scoped scoped(*this);
            return run(s.body);
        }
        case Do::sequence:
            return run(s.body);
        case Do::break_:
            return Flow::break_;
        case Do::continue_:
            return Flow::continue_;
    }
    return Flow::normal;
}

Interpreter::Flow Interpreter::run_if(const Stmt& s) {
    for (const auto& [condition, body] : s.branches) {
        if (truth(heap_, evaluate(*condition))) return run(body);
    }
    return run(s.other);
}

std::vector<Value> Interpreter::loop_items(const Stmt& s, const Value& iterable) {
    std::vector<Value> items = iterate(heap_, iterable);
    if (!s.filter) return items;
    ListBuilder kept(heap_);
    for (Value& v : items) {
        const Scoped scoped(*this);
        assign(*s.target, v);
        if (truth(heap_, evaluate(*s.filter))) kept.push(std::move(v));
    }
    return kept.take();
}

Interpreter::Flow Interpreter::run_loop(const Stmt& s, const Value& iterable, int depth0) {
    std::vector<Value> items = loop_items(s, iterable);
    if (items.empty()) {
        const Scoped scoped(*this);
        return run(s.other);
    }
    const size_t n = items.size();
    const Value loop_value(heap_.make<Loop>(n * sizeof(Value), &s, scope_, std::move(items), depth0));
    Loop& loop = loop_value.as<Loop>();
    const Value outer = scope_;
    const Scoped scoped(*this);
    for (loop.index0 = 0; loop.index0 < n; ++loop.index0) {
        heap_.step();
        if (scope_.object()->references == 1) {
            scope().variables.clear();
        } else {
            scope_ = Value(heap_.make<Scope>(0, outer));  // a macro of the last round still sees the old one
        }
        scope().set(name_loop, loop_value);
        assign(*s.target, loop.items[loop.index0]);
        if (run(s.body) == Flow::break_) break;
    }
    return Flow::normal;
}

Interpreter::Flow Interpreter::run_with(const Stmt& s) {
    std::vector<Value> values;
    for (const auto& [target, value] : s.bindings) values.push_back(evaluate(*value));
    const Scoped scoped(*this);
    for (size_t i = 0; i < values.size(); ++i) assign(*s.bindings[i].first, std::move(values[i]));
    return run(s.body);
}

void Interpreter::run_call_block(const Stmt& s) {
    CallArguments args = evaluate_arguments(s.expr->arguments);
    args.named.emplace_back("caller", Value(heap_.make<Macro>(0, &s, scope_)));
    const Value callee = evaluate(*s.expr->a);
    print_value(call(callee, args));
}

void Interpreter::assign(const Expr& target, Value value) {
    if (target.op == Op::name) {
        scope().set(target.id, std::move(value));
        return;
    }
    if (target.op == Op::member) {
        const Value object = evaluate(*target.a);
        if (!object.is(Kind::name_space)) {
            raise("TemplateRuntimeError", "cannot assign attribute on non-namespace object");
        }
        dict_set(heap_, object.as<Dict>(), borrow_string(heap_, target.text), std::move(value));
        return;
    }
    const Nesting nesting(heap_);
    if (!is_iterable(value) && !value.is(Kind::dict)) {
        raise("TypeError", fmt::format("cannot unpack non-iterable {} object", type_name(value)));
    }
    const std::vector<Value> items = iterate(heap_, value);
    const size_t expected = target.items.size();
    if (items.size() < expected) {
        raise("ValueError",
              fmt::format("not enough values to unpack (expected {}, got {})", expected, items.size()));
    }
    if (items.size() > expected)
        raise("ValueError", fmt::format("too many values to unpack (expected {})", expected));
    for (size_t i = 0; i < expected; ++i) assign(*target.items[i], items[i]);
}

void Interpreter::print_value(const Value& v) {
    print(heap_, *out_, v);
}

Value Interpreter::call(const Builtin& builtin, const Value& self, CallArguments& args) {
    heap_.step(3);
    bind(builtin, args);
    return builtin.function(*this, self, args);
}

Value Interpreter::call(const Value& callee, CallArguments& args) {
    switch (callee.kind()) {
        case Kind::function: {
            const auto& f = callee.as<BoundFunction>();
            return call(*f.builtin, f.self, args);
        }
        case Kind::macro:
            return call_macro(callee.as<Macro>(), args);
        case Kind::loop:
            return call_loop(callee.as<Loop>(), args);
        case Kind::joiner: {
            auto& joiner = callee.as<Joiner>();
            if (std::exchange(joiner.used, true)) return joiner.separator;
            return borrow_string(heap_, "");
        }
        case Kind::undefined:
            fail_undefined(callee);
        default:
            raise("TypeError", fmt::format("'{}' object is not callable", type_name(callee)));
    }
}

void Interpreter::bind_macro(const Macro& macro, CallArguments& args, Scope& scope) {
    const Stmt& s = *macro.stmt;
    const size_t n = s.parameters.size();
    auto& named = args.named;
    const auto take = [&](std::string_view name) {
        for (auto it = named.begin(); it != named.end(); ++it) {
            if (it->first != name) continue;
            Value v = std::move(it->second);
            named.erase(it);
            return v;
        }
        return Value();
    };
    bool explicit_caller = false;
    for (size_t i = 0; i < n; ++i) {
        const Parameter& p = s.parameters[i];
        explicit_caller |= p.id == name_caller;
        Value v = i < args.positional.size() ? args.positional[i] : take(p.name);
        if (v.is(Kind::missing) && p.fallback) {
            v = evaluate(*p.fallback);
        } else if (v.is(Kind::missing)) {
            v = make_undefined(heap_, fmt::format("parameter {} was not provided", text_repr(p.name)));
        }
        scope.set(p.id, std::move(v));
    }
    if (s.uses_caller && !explicit_caller) {
        Value caller = take("caller");
        scope.set(name_caller,
                  caller.is(Kind::missing) ? make_undefined(heap_, "No caller defined") : caller);
    }
    if (s.uses_kwargs) {
        const Value kwargs(heap_.make<Dict>(0));
        for (auto& [name, v] : named) dict_set(heap_, kwargs.as<Dict>(), make_string(heap_, name), v);
        scope.set(name_kwargs, kwargs);
    } else if (!named.empty()) {
        const std::string& name = named[0].first;
        raise("TypeError",
              name == "caller"
                  ? fmt::format("macro {} was invoked with two values for the special caller argument. "
                                "This is most likely a bug.",
                                text_repr(s.text))
                  : fmt::format("macro {} takes no keyword argument {}", text_repr(s.text), text_repr(name)));
    }
    if (s.uses_varargs) {
        std::vector<Value> rest;
        if (args.positional.size() > n)
            rest.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(n), args.positional.end());
        scope.set(name_varargs, make_list(heap_, std::move(rest), Kind::tuple));
    } else if (args.positional.size() > n) {
        raise("TypeError", fmt::format("macro {} takes not more than {} argument(s)", text_repr(s.text), n));
    }
}

Value Interpreter::call_macro(const Macro& macro, CallArguments& args) {
    const Nesting nesting(heap_);
    const int line = line_;
    const Scoped scoped(*this, macro.scope);
    bind_macro(macro, args, scope());
    Capture capture(*this);
    run(macro.stmt->body);
    line_ = line;
    return make_string(heap_, capture.take());
}

Value Interpreter::call_loop(const Loop& loop, CallArguments& args) {
    if (!loop.stmt->recursive) {
        raise("TypeError", "The loop must have the 'recursive' marker to be called recursively.");
    }
    if (args.positional.size() != 1) raise("TypeError", "loop() takes one argument: what to iterate over");
    const Nesting nesting(heap_);
    const Scoped scoped(*this, loop.scope);
    Capture capture(*this);
    run_loop(*loop.stmt, args.positional[0], loop.depth0 + 1);
    return make_string(heap_, capture.take());
}

}  // namespace smelt::jinja
