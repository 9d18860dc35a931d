// What stands behind `is`.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

using In = Interpreter;
using Args = CallArguments;

template <Kind kind>
Value is_kind(In&, const Value& v, Args&) {
    return Value::boolean(v.is(kind));
}

template <Comparison comparison>
Value compares(In& in, const Value& v, Args& args) {
    return Value::boolean(compare(in.heap(), comparison, v, args.positional[0]));
}

Value is_divisible(In& in, const Value& v, const Value& divisor, int64_t remainder) {
    const Value r = arithmetic(in.heap(), Arithmetic::modulo, v, divisor);
    return Value::boolean(equals(in.heap(), r, Value::integer(remainder)));
}

Value is_callable(In&, const Value& v, Args&) {
    return Value::boolean(v.is(Kind::function) || v.is(Kind::macro) || v.is(Kind::loop) ||
                          v.is(Kind::joiner) || v.is(Kind::undefined));
}

Value is_sequence(In&, const Value& v, Args&) {
    const bool no_items = v.is(Kind::keys) || v.is(Kind::values) || v.is(Kind::items);
    return Value::boolean(v.is(Kind::string) || v.is(Kind::dict) || v.is(Kind::range) ||
                          v.is(Kind::undefined) || (is_list_like(v) && !no_items));
}

// str(v).islower() and isupper()
template <bool upper>
Value is_case(In& in, const Value& v, Args&) {
    const std::string text = to_text(in.heap(), v);
    bool any = false;
    for (size_t at = 0; at < text.size();) {
        const char32_t c = next_char(text, at);
        if (!is_cased(c)) continue;
        if (upper ? !is_upper(c) : !is_lower(c)) return Value::boolean(false);
        any = true;
    }
    return Value::boolean(any);
}

constexpr Builtin tests[] = {
    {"defined", "", [](In&, const Value& v, Args&) { return Value::boolean(!v.is(Kind::undefined)); }},
    {"undefined", "", is_kind<Kind::undefined>},
    {"none", "", is_kind<Kind::none>},
    {"string", "", is_kind<Kind::string>},
    {"mapping", "", is_kind<Kind::dict>},
    {"boolean", "", is_kind<Kind::boolean>},
    {"float", "", is_kind<Kind::real>},
    {"integer", "",
     [](In&, const Value& v, Args&) { return Value::boolean(v.is(Kind::integer) || v.is(Kind::big)); }},
    {"number", "", [](In&, const Value& v, Args&) { return Value::boolean(is_number(v)); }},
    {"true", "",
     [](In&, const Value& v, Args&) { return Value::boolean(v.is(Kind::boolean) && v.as_bool()); }},
    {"false", "",
     [](In&, const Value& v, Args&) { return Value::boolean(v.is(Kind::boolean) && !v.as_bool()); }},
    {"iterable", "",
     [](In&, const Value& v, Args&) { return Value::boolean(is_iterable(v) || v.is(Kind::dict)); }},
    {"sequence", "", is_sequence},
    {"callable", "", is_callable},
    {"lower", "", is_case<false>},
    {"upper", "", is_case<true>},
    {"odd", "", [](In& in, const Value& v, Args&) { return is_divisible(in, v, Value::integer(2), 1); }},
    {"even", "", [](In& in, const Value& v, Args&) { return is_divisible(in, v, Value::integer(2), 0); }},
    {"divisibleby", "num",
     [](In& in, const Value& v, Args& a) { return is_divisible(in, v, a.positional[0], 0); }},
    {"sameas", "other",
     [](In&, const Value& v, Args& a) { return Value::boolean(same_object(v, a.positional[0])); }},
    {"in", "seq", compares<Comparison::in>},
    {"escaped", "",
     [](In&, const Value& v, Args&) { return Value::boolean(v.is(Kind::string) && v.as<String>().markup); }},
    {"filter", "",
     [](In&, const Value& v, Args&) {
         return Value::boolean(v.is(Kind::string) && find_filter(text_of(v)) != nullptr);
     }},
    {"test", "",
     [](In&, const Value& v, Args&) {
         return Value::boolean(v.is(Kind::string) && find_test(text_of(v)) != nullptr);
     }},
    {"==", "other", compares<Comparison::equal>},
    {"eq", "other", compares<Comparison::equal>},
    {"equalto", "other", compares<Comparison::equal>},
    {"!=", "other", compares<Comparison::not_equal>},
    {"ne", "other", compares<Comparison::not_equal>},
    {">", "other", compares<Comparison::greater>},
    {"gt", "other", compares<Comparison::greater>},
    {"greaterthan", "other", compares<Comparison::greater>},
    {">=", "other", compares<Comparison::greater_equal>},
    {"ge", "other", compares<Comparison::greater_equal>},
    {"<", "other", compares<Comparison::less>},
    {"lt", "other", compares<Comparison::less>},
    {"lessthan", "other", compares<Comparison::less>},
    {"<=", "other", compares<Comparison::less_equal>},
    {"le", "other", compares<Comparison::less_equal>},
};

}  // namespace

const Builtin* find_test(std::string_view name) {
    const auto* found =
        std::find_if(std::begin(tests), std::end(tests), [&](const Builtin& b) { return b.name == name; });
    return found == std::end(tests) ? nullptr : found;
}

}  // namespace smelt::jinja
