#include "text/jinja/ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "text/jinja/format.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

std::string_view type_name(const Value& v) {
    switch (v.kind()) {
        case Kind::missing:
            return "missing";
        case Kind::none:
            return "NoneType";
        case Kind::boolean:
            return "bool";
        case Kind::integer:
        case Kind::big:
            return "int";
        case Kind::real:
            return "float";
        case Kind::undefined:
            return "Undefined";
        case Kind::string:
            return v.as<String>().markup ? "Markup" : "str";
        case Kind::list:
            return "list";
        case Kind::tuple:
            return "tuple";
        case Kind::dict:
            return "dict";
        case Kind::keys:
            return "dict_keys";
        case Kind::values:
            return "dict_values";
        case Kind::items:
            return "dict_items";
        case Kind::iterator:
            return v.as<Iterator>().name;
        case Kind::range:
            return "range";
        case Kind::name_space:
            return "Namespace";
        case Kind::function:
            return "function";
        case Kind::macro:
            return "Macro";
        case Kind::loop:
            return "LoopContext";
        case Kind::cycler:
            return "Cycler";
        case Kind::joiner:
            return "Joiner";
        case Kind::scope:
            return "scope";
    }
    return "object";
}

std::string object_name(Kind kind, std::string_view type) {
    switch (kind) {
        case Kind::none:
            return "None";
        case Kind::undefined:
        case Kind::macro:
        case Kind::loop:
            return fmt::format("jinja2.runtime.{} object", type);
        case Kind::name_space:
        case Kind::cycler:
        case Kind::joiner:
            return fmt::format("jinja2.utils.{} object", type);
        default:
            return fmt::format("{} object", type);
    }
}

bool truth(Heap& heap, const Value& v) {
    switch (v.kind()) {
        case Kind::missing:
        case Kind::none:
        case Kind::undefined:
            return false;
        case Kind::boolean:
        case Kind::integer:
            return v.as_bool();
        case Kind::real:
            return v.as_real() != 0;
        case Kind::string:
            return !text_of(v).empty();
        case Kind::list:
        case Kind::tuple:
        case Kind::keys:
        case Kind::values:
        case Kind::items:
        case Kind::dict:
        case Kind::range:
        case Kind::loop:
            return length(heap, v) > 0;
        default:
            return true;
    }
}

double to_real(const Value& v) {
    if (v.is(Kind::real)) return v.as_real();
    if (v.is(Kind::big)) return static_cast<double>(v.as<Big>().value);
    return static_cast<double>(v.as_integer());
}

int64_t expect_integer(const Value& v) {
    if (is_integral(v)) return v.as_integer();
    if (v.is(Kind::undefined)) fail_undefined(v);
    if (v.is(Kind::big)) raise("OverflowError", "integer too large: more than 64 bits");
    raise("TypeError", fmt::format("'{}' object cannot be interpreted as an integer", type_name(v)));
}

std::string_view expect_text(const Value& v, std::string_view what) {
    if (v.is(Kind::string)) return text_of(v);
    if (v.is(Kind::undefined)) fail_undefined(v);
    raise("TypeError", fmt::format("{} must be str, not {}", what, type_name(v)));
}

void fail_undefined(const Value& undefined) {
    const auto& u = undefined.as<Undefined>();
    switch (u.reason) {
        case Undefined::Reason::hint:
            raise("UndefinedError", u.text);
        case Undefined::Reason::name:
            raise("UndefinedError", fmt::format("{} is undefined", text_repr(u.text)));
        case Undefined::Reason::attribute:
            raise("UndefinedError",
                  fmt::format("{} has no attribute {}", text_repr(object_name(u.object_kind, u.object_type)),
                              text_repr(u.text)));
        case Undefined::Reason::unsafe:
            raise("SecurityError", fmt::format("access to attribute {} of {} object is unsafe.",
                                               text_repr(u.text), text_repr(u.object_type)));
    }
    CHECK(false);
}

namespace {

constexpr std::string_view arithmetic_signs[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};

[[noreturn]] void overflow() {
    raise("OverflowError", "integer result does not fit into 64 bits");
}

int64_t floor_divide(int64_t a, int64_t b) {
    if (b == 0) raise("ZeroDivisionError", "integer division or modulo by zero");
    if (a == std::numeric_limits<int64_t>::min() && b == -1) overflow();
    const int64_t q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

int64_t modulo(int64_t a, int64_t b) {
    if (b == 0) raise("ZeroDivisionError", "integer modulo by zero");
    if (b == -1) return 0;
    const int64_t r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

double modulo(double a, double b) {
    if (b == 0) raise("ZeroDivisionError", "float modulo");
    const double r = std::fmod(a, b);
    if (r == 0) return std::copysign(0.0, b);
    return (r < 0) != (b < 0) ? r + b : r;
}

Value integer_power(int64_t base, int64_t exponent) {
    if (exponent < 0) {
        if (base == 0) raise("ZeroDivisionError", "0.0 cannot be raised to a negative power");
        return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
    }
    if (base == 0 || base == 1) return Value::integer(exponent == 0 ? 1 : base);
    if (base == -1) return Value::integer(exponent % 2 == 0 ? 1 : -1);
    int64_t result = 1;
    for (; exponent > 0; --exponent) {  // at most 63 rounds before it overflows
        if (__builtin_mul_overflow(result, base, &result)) overflow();
    }
    return Value::integer(result);
}

Value real_power(double a, double b) {
    if (a == 0 && b < 0) raise("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    if (a < 0 && std::isfinite(a) && std::isfinite(b) && std::floor(b) != b) {
        raise("TypeError", "a negative number to a fractional power is no real number");
    }
    const double r = std::pow(a, b);
    if (std::isinf(r) && std::isfinite(a) && std::isfinite(b)) {
        raise("OverflowError", "(34, 'Numerical result out of range')");
    }
    return Value::real(r);
}

Value integer_arithmetic(Arithmetic op, int64_t a, int64_t b) {
    int64_t r = 0;
    switch (op) {
        case Arithmetic::add:
            if (__builtin_add_overflow(a, b, &r)) overflow();
            return Value::integer(r);
        case Arithmetic::subtract:
            if (__builtin_sub_overflow(a, b, &r)) overflow();
            return Value::integer(r);
        case Arithmetic::multiply:
            if (__builtin_mul_overflow(a, b, &r)) overflow();
            return Value::integer(r);
        case Arithmetic::divide:
            if (b == 0) raise("ZeroDivisionError", "division by zero");
            return Value::real(static_cast<double>(a) / static_cast<double>(b));
        case Arithmetic::floor_divide:
            return Value::integer(floor_divide(a, b));
        case Arithmetic::modulo:
            return Value::integer(modulo(a, b));
        case Arithmetic::power:
            return integer_power(a, b);
    }
    return {};
}

Value real_arithmetic(Arithmetic op, double a, double b) {
    switch (op) {
        case Arithmetic::add:
            return Value::real(a + b);
        case Arithmetic::subtract:
            return Value::real(a - b);
        case Arithmetic::multiply:
            return Value::real(a * b);
        case Arithmetic::divide:
            if (b == 0) raise("ZeroDivisionError", "float division by zero");
            return Value::real(a / b);
        case Arithmetic::floor_divide: {
            if (b == 0) raise("ZeroDivisionError", "float floor division by zero");
            const double q = (a - modulo(a, b)) / b;
            const double floored = std::floor(q);
            return Value::real(q - floored > 0.5 ? floored + 1 : floored);
        }
        case Arithmetic::modulo:
            return Value::real(modulo(a, b));
        case Arithmetic::power:
            return real_power(a, b);
    }
    return {};
}

Value repeat(Heap& heap, const Value& sequence, const Value& count) {
    const auto n = static_cast<uint64_t>(std::max<int64_t>(0, expect_integer(count)));
    const bool is_text = sequence.is(Kind::string);
    const size_t size = is_text ? text_of(sequence).size() : sequence.as<List>().items.size() * sizeof(Value);
    if (size > 0 && n > heap.max_bytes() / size) heap.room_for(heap.max_bytes() + 1);
    heap.room_for(size * n);
    heap.touch(size * n);
    if (is_text) {
        std::string text;
        text.reserve(size * n);
        for (uint64_t i = 0; size > 0 && i < n; ++i) text += text_of(sequence);
        return make_string(heap, std::move(text));
    }
    const auto& items = sequence.as<List>().items;
    std::vector<Value> repeated;
    repeated.reserve(items.size() * n);
    for (uint64_t i = 0; size > 0 && i < n; ++i) repeated.insert(repeated.end(), items.begin(), items.end());
    return make_list(heap, std::move(repeated), sequence.kind());
}

Value concatenate(Heap& heap, const Value& a, const Value& b) {
    if (a.is(Kind::string) && b.is(Kind::string)) {
        const bool markup = a.as<String>().markup || b.as<String>().markup;
        const size_t size = text_of(a).size() + text_of(b).size();
        heap.room_for(size);
        heap.touch(size);
        std::string text;
        const auto append = [&](const Value& v) {
            if (markup && !v.as<String>().markup) {
                text += escape_html(heap, text_of(v));
            } else {
                text += text_of(v);
            }
        };
        if (!markup) text.reserve(size);
        append(a);
        append(b);
        Value result = make_string(heap, std::move(text));
        result.as<String>().markup = markup;
        return result;
    }
    const auto& x = a.as<List>().items;
    const auto& y = b.as<List>().items;
    heap.room_for((x.size() + y.size()) * sizeof(Value));
    heap.touch((x.size() + y.size()) * sizeof(Value));
    std::vector<Value> items = x;
    items.insert(items.end(), y.begin(), y.end());
    return make_list(heap, std::move(items), a.kind());
}

bool is_sequence(const Value& v) {
    return v.is(Kind::string) || v.is(Kind::list) || v.is(Kind::tuple);
}

}  // namespace

Value arithmetic(Heap& heap, Arithmetic op, const Value& a, const Value& b) {
    if (is_integral(a) && is_integral(b)) return integer_arithmetic(op, a.as_integer(), b.as_integer());
    if (is_number(a) && is_number(b)) {
        if (!a.is(Kind::real) && !b.is(Kind::real)) overflow();
        return real_arithmetic(op, to_real(a), to_real(b));
    }
    if (op == Arithmetic::modulo && a.is(Kind::string)) return percent_format(heap, a, b);
    if (a.is(Kind::undefined)) fail_undefined(a);
    if (b.is(Kind::undefined)) fail_undefined(b);
    if (op == Arithmetic::add && is_sequence(a)) {
        if (a.kind() == b.kind()) return concatenate(heap, a, b);
        raise("TypeError", fmt::format("can only concatenate {0} (not \"{1}\") to {0}",
                                       a.is(Kind::string) ? "str" : type_name(a), type_name(b)));
    }
    if (op == Arithmetic::multiply && (is_sequence(a) || is_sequence(b))) {
        const Value& sequence = is_sequence(a) ? a : b;
        const Value& count = is_sequence(a) ? b : a;
        if (is_integral(count)) return repeat(heap, sequence, count);
        raise("TypeError", fmt::format("can't multiply sequence by non-int of type '{}'", type_name(count)));
    }
    raise("TypeError", fmt::format("unsupported operand type(s) for {}: '{}' and '{}'",
                                   arithmetic_signs[static_cast<int>(op)], type_name(a), type_name(b)));
}

Value negate(const Value& v) {
    if (v.is(Kind::real)) return Value::real(-v.as_real());
    if (is_integral(v)) return integer_arithmetic(Arithmetic::subtract, 0, v.as_integer());
    if (v.is(Kind::undefined)) fail_undefined(v);
    raise("TypeError", fmt::format("bad operand type for unary -: '{}'", type_name(v)));
}

Value plus(const Value& v) {
    if (v.is(Kind::real)) return v;
    if (is_integral(v)) return Value::integer(v.as_integer());
    if (v.is(Kind::undefined)) fail_undefined(v);
    raise("TypeError", fmt::format("bad operand type for unary +: '{}'", type_name(v)));
}

bool same_object(const Value& a, const Value& b) {
    if (a.kind() != b.kind()) return false;
    if (a.is_object()) return a.object() == b.object();
    if (a.is(Kind::real)) return a.as_real() == b.as_real();
    return a.as_integer() == b.as_integer();
}

bool equals(Heap& heap, const Value& a, const Value& b) {
    heap.step();
    if (is_number(a) && is_number(b)) {
        if (is_integral(a) && is_integral(b)) return a.as_integer() == b.as_integer();
        if (a.is(Kind::big) && b.is(Kind::big)) return a.as<Big>().value == b.as<Big>().value;
        return to_real(a) == to_real(b);
    }
    if (a.kind() != b.kind()) return false;
    if (!a.is_object()) return true;  // none
    if (a.object() == b.object()) return true;
    switch (a.kind()) {
        case Kind::undefined:
            return true;
        case Kind::string:
            heap.touch(std::min(text_of(a).size(), text_of(b).size()));
            return text_of(a) == text_of(b);
        case Kind::list:
        case Kind::tuple:
        case Kind::keys: {
            const Nesting nesting(heap);
            const auto& x = a.as<List>().items;
            const auto& y = b.as<List>().items;
            return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin(),
                                                      [&](auto& p, auto& q) { return equals(heap, p, q); });
        }
        case Kind::dict: {
            const Nesting nesting(heap);
            auto& x = a.as<Dict>();
            auto& y = b.as<Dict>();
            return x.entries.size() == y.entries.size() &&
                   std::all_of(x.entries.begin(), x.entries.end(), [&](auto& entry) {
                       const Value* other = dict_find(heap, y, entry.first);
                       return other && equals(heap, entry.second, *other);
                   });
        }
        case Kind::range: {
            const auto& x = a.as<Range>();
            const auto& y = b.as<Range>();
            return x.size == y.size &&
                   (x.size == 0 || (x.start == y.start && (x.size == 1 || x.step == y.step)));
        }
        default:
            return false;
    }
}

bool less(Heap& heap, const Value& a, const Value& b, std::string_view op) {
    heap.step();
    if (is_number(a) && is_number(b)) {
        if (is_integral(a) && is_integral(b)) return a.as_integer() < b.as_integer();
        if (a.is(Kind::big) && b.is(Kind::big)) return a.as<Big>().value < b.as<Big>().value;
        return to_real(a) < to_real(b);
    }
    if (a.is(Kind::string) && b.is(Kind::string)) {
        heap.touch(std::min(text_of(a).size(), text_of(b).size()));
        return text_of(a) < text_of(b);  // UTF-8 orders as code points do
    }
    if (a.kind() == b.kind() && (a.is(Kind::list) || a.is(Kind::tuple))) {
        const Nesting nesting(heap);
        const auto& x = a.as<List>().items;
        const auto& y = b.as<List>().items;
        for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
            if (!equals(heap, x[i], y[i])) return less(heap, x[i], y[i], op);
        }
        return x.size() < y.size();
    }
    if (a.is(Kind::undefined)) fail_undefined(a);
    if (b.is(Kind::undefined)) fail_undefined(b);
    const bool swapped = op == ">" || op == "<=";  // computed as b < a
    raise("TypeError", fmt::format("'{}' not supported between instances of '{}' and '{}'", op,
                                   type_name(swapped ? b : a), type_name(swapped ? a : b)));
}

bool compare(Heap& heap, Comparison op, const Value& a, const Value& b) {
    switch (op) {
        case Comparison::equal:
            return equals(heap, a, b);
        case Comparison::not_equal:
            return !equals(heap, a, b);
        case Comparison::less:
            return less(heap, a, b, "<");
        case Comparison::greater:
            return less(heap, b, a, ">");
        case Comparison::in:
            return contains(heap, b, a);
        case Comparison::not_in:
            return !contains(heap, b, a);
        case Comparison::less_equal:
        case Comparison::greater_equal:
            break;
    }
    const bool ascending = op == Comparison::less_equal;
    const auto is_nan = [](const Value& v) { return v.is(Kind::real) && std::isnan(v.as_real()); };
    if (is_number(a) && is_number(b) && (is_nan(a) || is_nan(b))) return false;
    return ascending ? !less(heap, b, a, "<=") : !less(heap, a, b, ">=");
}

bool contains(Heap& heap, const Value& container, const Value& item) {
    switch (container.kind()) {
        case Kind::undefined:
            return false;
        case Kind::string:
            if (!item.is(Kind::string)) {
                raise("TypeError",
                      fmt::format("'in <string>' requires string as left operand, not {}", type_name(item)));
            }
            heap.touch(search_cost(text_of(container), text_of(item)));
            return find_bytes(text_of(container), text_of(item)) != std::string_view::npos;
        case Kind::dict:
            return dict_find(heap, container.as<Dict>(), item) != nullptr;
        case Kind::range:
            if (is_integral(item)) {
                const auto& r = container.as<Range>();
                const int64_t i = item.as_integer();
                const bool inside = r.step > 0 ? i >= r.start && i < r.stop : i <= r.start && i > r.stop;
                return inside && modulo(i - r.start, r.step) == 0;
            }
            break;
        case Kind::list:
        case Kind::tuple:
        case Kind::keys:
        case Kind::values:
        case Kind::items: {
            const auto& items = container.as<List>().items;
            return std::any_of(items.begin(), items.end(),
                               [&](const Value& v) { return equals(heap, v, item); });
        }
        default:
            break;
    }
    if (!is_iterable(container)) {
        raise("TypeError", fmt::format("argument of type '{}' is not iterable", type_name(container)));
    }
    const auto items = iterate(heap, container);
    return std::any_of(items.begin(), items.end(), [&](const Value& v) { return equals(heap, v, item); });
}

}  // namespace smelt::jinja
