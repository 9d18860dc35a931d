// Expressions: the other half of the Interpreter.
#include "base/error.h"
#include "text/jinja/interpreter.h"

namespace smelt::jinja {

Value Interpreter::evaluate(const Expr& e) {
    heap_.step();
    line_ = e.line;
    switch (e.op) {
        case Op::literal:
            return e.literal;
        case Op::text:
            return evaluate_text(e);
        case Op::name:
            return evaluate_name(e);
        default:
            break;
    }
    const Nesting nesting(heap_);
    switch (e.op) {
        case Op::list:
        case Op::tuple:
            return evaluate_items(e);
        case Op::dict:
            return evaluate_dict(e);
        case Op::attribute:
            return attribute(evaluate(*e.a), e.text);
        case Op::subscript:
            return evaluate_subscript(e);
        case Op::call:
            return evaluate_call(e);
        case Op::filter:
            return evaluate_filter(e, nullptr);
        case Op::test:
            return evaluate_test(e);
        case Op::negate:
            return negate(evaluate(*e.a));
        case Op::plus:
            return plus(evaluate(*e.a));
        case Op::not_:
            return Value::boolean(!truth(heap_, evaluate(*e.a)));
        case Op::binary:
            return evaluate_binary(e);
        case Op::concatenate:
            return evaluate_concatenation(e);
        case Op::compare:
            return evaluate_comparison(e);
        case Op::and_:
        case Op::or_:
            return evaluate_logic(e);
        case Op::conditional:
            return evaluate_conditional(e);
        default:
            break;
    }
    CHECK(false, "expression {} cannot be evaluated", static_cast<int>(e.op));
}

Value Interpreter::evaluate_text(const Expr& e) {
    Value& constant = constants_[static_cast<size_t>(e.id)];
    if (constant.is(Kind::missing)) constant = borrow_string(heap_, e.text);
    return constant;
}

Value Interpreter::evaluate_name(const Expr& e) {
    for (const Value* at = &scope_; at->is(Kind::scope); at = &at->as<Scope>().parent) {
        heap_.step();
        if (const Value* found = at->as<Scope>().find(e.id)) return *found;
    }
    const Value& v = context_[static_cast<size_t>(e.id)];
    if (!v.is(Kind::missing)) return v;
    return make_undefined(heap_, Undefined::Reason::name, e.text);
}

Value Interpreter::evaluate_items(const Expr& e) {
    std::vector<Value> items;
    items.reserve(e.items.size());
    for (const Expr* item : e.items) items.push_back(evaluate(*item));
    return make_list(heap_, std::move(items), e.op == Op::list ? Kind::list : Kind::tuple);
}

Value Interpreter::evaluate_dict(const Expr& e) {
    Value dict(heap_.make<Dict>(0));
    for (size_t i = 0; i + 1 < e.items.size(); i += 2) {
        const Value key = evaluate(*e.items[i]);
        dict_set(heap_, dict.as<Dict>(), key, evaluate(*e.items[i + 1]));
    }
    return dict;
}

Value Interpreter::evaluate_subscript(const Expr& e) {
    const Value object = evaluate(*e.a);
    if (e.b->op != Op::slice) return item(object, evaluate(*e.b));
    Value bounds[3];
    for (size_t i = 0; i < 3; ++i) {
        bounds[i] = e.b->items[i] ? evaluate(*e.b->items[i]) : Value::none();
    }
    Value result = slice(heap_, object, bounds[0], bounds[1], bounds[2]);
    if (!result.is(Kind::missing)) return result;
    return make_undefined(
        heap_, fmt::format("{} has no element slice", object_name(object.kind(), type_name(object))));
}

// A chain like a + b + c + ... leans to the left: walked down here, so that its length is no depth.
Value Interpreter::evaluate_binary(const Expr& e) {
    std::vector<const Expr*> chain;
    const Expr* first = &e;
    for (; first->op == Op::binary; first = first->a) chain.push_back(first);
    Value v = evaluate(*first);
    for (size_t i = chain.size(); i-- > 0;) {
        const Value right = evaluate(*chain[i]->b);
        line_ = chain[i]->line;
        heap_.step();
        v = arithmetic(heap_, chain[i]->arithmetic, v, right);
    }
    return v;
}

Value Interpreter::evaluate_concatenation(const Expr& e) {
    StringBuilder text(heap_);
    for (const Expr* item : e.items) print(heap_, text, evaluate(*item));
    return make_string(heap_, text.take());
}

Value Interpreter::evaluate_comparison(const Expr& e) {
    Value left = evaluate(*e.a);
    for (size_t i = 0; i < e.items.size(); ++i) {
        Value right = evaluate(*e.items[i]);
        if (!compare(heap_, e.comparisons[i], left, right)) return Value::boolean(false);
        left = std::move(right);
    }
    return Value::boolean(true);
}

Value Interpreter::evaluate_logic(const Expr& e) {
    Value left = evaluate(*e.a);
    if (truth(heap_, left) == (e.op == Op::or_)) return left;
    return evaluate(*e.b);
}

Value Interpreter::evaluate_conditional(const Expr& e) {
    if (truth(heap_, evaluate(*e.b))) return evaluate(*e.a);
    if (e.c) return evaluate(*e.c);
    return make_undefined(heap_,
                          fmt::format("the inline if-expression on line {} evaluated to false and no else "
                                      "section was defined.",
                                      e.line));
}

CallArguments Interpreter::evaluate_arguments(const Arguments& arguments) {
    CallArguments args;
    args.positional.reserve(arguments.positional.size());
    for (const Expr* e : arguments.positional) args.positional.push_back(evaluate(*e));
    for (const auto& [name, e] : arguments.named) args.named.emplace_back(name, evaluate(*e));
    if (arguments.star) {
        for (Value& v : iterate(heap_, evaluate(*arguments.star))) args.positional.push_back(std::move(v));
    }
    if (arguments.star_star) {
        const Value more = evaluate(*arguments.star_star);
        if (!more.is(Kind::dict)) {
            raise("TypeError", fmt::format("argument after ** must be a mapping, not {}", type_name(more)));
        }
        for (const auto& [key, v] : more.as<Dict>().entries) {
            args.named.emplace_back(std::string(expect_text(key, "keywords")), v);
        }
    }
    return args;
}

Value Interpreter::evaluate_call(const Expr& e) {
    if (e.a->op != Op::attribute) {
        const Value callee = evaluate(*e.a);
        CallArguments args = evaluate_arguments(e.arguments);
        line_ = e.line;
        return call(callee, args);
    }
    // A method is called without the value that would stand for it.
    const Value object = evaluate(*e.a->a);
    const Builtin* method = find_method(object.kind(), e.a->text);
    if (method && method->function) {
        CallArguments args = evaluate_arguments(e.arguments);
        line_ = e.line;
        return call(*method, object, args);
    }
    const Value callee = attribute(object, e.a->text);
    CallArguments args = evaluate_arguments(e.arguments);
    line_ = e.line;
    return call(callee, args);
}

Value Interpreter::evaluate_filter(const Expr& e, const Value* input) {
    const Nesting nesting(heap_);
    const Value self = !e.a ? *input : input ? evaluate_filter(*e.a, input) : evaluate(*e.a);
    if (!e.builtin)
        raise("TemplateRuntimeError", fmt::format("No filter named {} found.", text_repr(e.text)));
    CallArguments args = evaluate_arguments(e.arguments);
    line_ = e.line;
    return call(*e.builtin, self, args);
}

Value Interpreter::evaluate_test(const Expr& e) {
    const Value self = evaluate(*e.a);
    if (!e.builtin) raise("TemplateRuntimeError", fmt::format("No test named {} found.", text_repr(e.text)));
    CallArguments args = evaluate_arguments(e.arguments);
    line_ = e.line;
    return call(*e.builtin, self, args);
}

Value Interpreter::loop_attribute(const Loop& loop, std::string_view name) {
    const auto i = static_cast<int64_t>(loop.index0), n = static_cast<int64_t>(loop.items.size());
    if (name == "index") return Value::integer(i + 1);
    if (name == "index0") return Value::integer(i);
    if (name == "revindex") return Value::integer(n - i);
    if (name == "revindex0") return Value::integer(n - i - 1);
    if (name == "first") return Value::boolean(i == 0);
    if (name == "last") return Value::boolean(i == n - 1);
    if (name == "length") return Value::integer(n);
    if (name == "depth") return Value::integer(loop.depth0 + 1);
    if (name == "depth0") return Value::integer(loop.depth0);
    if (name == "previtem") {
        return i > 0 ? loop.items[loop.index0 - 1] : make_undefined(heap_, "there is no previous item");
    }
    if (name == "nextitem") {
        return i + 1 < n ? loop.items[loop.index0 + 1] : make_undefined(heap_, "there is no next item");
    }
    return {};
}

// Attributes that are no methods; missing where there is none.
Value Interpreter::special_attribute(const Value& object, std::string_view name) {
    switch (object.kind()) {
        case Kind::loop:
            return loop_attribute(object.as<Loop>(), name);
        case Kind::name_space: {
            const Value* found = dict_find(heap_, object.as<Dict>(), name);
            return found ? *found : Value();
        }
        case Kind::macro: {
            const Stmt& s = *object.as<Macro>().stmt;
            if (name == "name") return borrow_string(heap_, s.text);
            if (name == "catch_kwargs") return Value::boolean(s.uses_kwargs);
            if (name == "catch_varargs") return Value::boolean(s.uses_varargs);
            if (name == "caller") return Value::boolean(s.uses_caller);
            if (name != "arguments") return {};
            std::vector<Value> names;
            for (const Parameter& p : s.parameters) names.push_back(borrow_string(heap_, p.name));
            return make_list(heap_, std::move(names), Kind::tuple);
        }
        case Kind::cycler: {
            const auto& cycler = object.as<Cycler>();
            return name == "current" ? cycler.items[cycler.position] : Value();
        }
        case Kind::tuple: {
            const auto& list = object.as<List>();
            if (!list.is_group) return {};
            return name == "grouper" ? list.items[0] : name == "list" ? list.items[1] : Value();
        }
        default:
            return {};
    }
}

Value Interpreter::attribute(const Value& object, std::string_view name) {
    if (object.is(Kind::undefined)) fail_undefined(object);
    const auto refuse = [&] { return make_undefined(heap_, Undefined::Reason::unsafe, name, object); };
    if (name.size() > 4 && name.starts_with("__") && name.ends_with("__")) return refuse();
    Value special = special_attribute(object, name);
    if (!special.is(Kind::missing)) return special;
    if (const Builtin* method = find_method(object.kind(), name)) {
        if (!method->function) return refuse();
        return Value(heap_.make<BoundFunction>(0, method, object));
    }
    if (object.is(Kind::dict)) {
        if (const Value* found = dict_find(heap_, object.as<Dict>(), name)) return *found;
    }
    return make_undefined(heap_, Undefined::Reason::attribute, name, object);
}

Value Interpreter::item(const Value& object, const Value& key) {
    if (auto found = subscript(heap_, object, key)) return *found;
    if (key.is(Kind::string)) {
        if (!object.is(Kind::dict) || find_method(Kind::dict, text_of(key)) ||
            text_of(key).starts_with("__")) {
            return attribute(object, text_of(key));
        }
        return make_undefined(heap_, Undefined::Reason::attribute, text_of(key), object);
    }
    StringBuilder shown(heap_);
    print_repr(heap_, shown, key);
    return make_undefined(heap_, fmt::format("{} has no element {}",
                                             object_name(object.kind(), type_name(object)), shown.take()));
}

}  // namespace smelt::jinja
