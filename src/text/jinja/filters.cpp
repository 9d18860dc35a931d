// Filters over single values and strings.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/number.h"
#include "text/jinja/builtins.h"
#include "text/jinja/format.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

using In = Interpreter;
using Args = CallArguments;

bool absent(const Value& v) {
    return v.is(Kind::missing) || v.is(Kind::none);
}
bool flag(In& in, const Value& v) {
    return !v.is(Kind::missing) && truth(in.heap(), v);
}
int64_t integer_or(const Value& v, int64_t if_missing) {
    return v.is(Kind::missing) ? if_missing : expect_integer(v);
}

// str(self) as a value, itself where it is a string.
Value as_string(In& in, const Value& self) {
    return self.is(Kind::string) ? self : make_string(in.heap(), to_text(in.heap(), self));
}

Value method(In& in, const Value& self, std::string_view name, std::vector<Value> positional = {}) {
    Args args{std::move(positional), {}};
    return in.call(*find_method(Kind::string, name), as_string(in, self), args);
}

Value default_value(In& in, const Value& self, Args& args) {
    const bool replaced =
        self.is(Kind::undefined) || (flag(in, args.positional[1]) && !truth(in.heap(), self));
    if (!replaced) return self;
    return args.positional[0].is(Kind::missing) ? borrow_string(in.heap(), "") : args.positional[0];
}

std::string without_underscores(std::string_view digits, bool& ok) {
    std::string plain;
    for (size_t i = 0; i < digits.size(); ++i) {
        if (digits[i] != '_') {
            plain += digits[i];
        } else if (i == 0 || i + 1 == digits.size() || digits[i - 1] == '_') {
            ok = false;
        }
    }
    return plain;
}

// int(text, base)
bool parse_integer(std::string_view text, int64_t base, int64_t& result) {
    text = strip(text);
    const bool negative = text.starts_with('-');
    if (negative || text.starts_with('+')) text.remove_prefix(1);
    const auto prefixed = [&](int b, char letter) {
        return (base == b || base == 0) && text.size() > 2 && text[0] == '0' && (text[1] | 32) == letter;
    };
    int64_t used = base == 0 ? 10 : base;
    for (const auto& [b, letter] : {std::pair(16, 'x'), std::pair(8, 'o'), std::pair(2, 'b')}) {
        if (!prefixed(b, letter)) continue;
        used = b;
        text.remove_prefix(text[2] == '_' ? 3 : 2);
        break;
    }
    bool ok = !text.empty() && text[0] != '-' && text[0] != '+' && used >= 2 && used <= 36;
    if (!ok) return false;
    const std::string plain = fmt::format("{}{}", negative ? "-" : "", without_underscores(text, ok));
    const auto [end, error] =
        std::from_chars(plain.data(), plain.data() + plain.size(), result, static_cast<int>(used));
    if (error == std::errc::result_out_of_range && end == plain.data() + plain.size()) {
        raise("OverflowError", "integer does not fit into 64 bits");
    }
    return ok && error == std::errc() && end == plain.data() + plain.size();
}

// float(text)
bool parse_real(std::string_view text, double& result) {
    text = strip(text);
    if (text.starts_with('+')) text.remove_prefix(1);
    bool ok = !text.empty() && text[0] != '+';
    const std::string plain = without_underscores(text, ok);
    const std::optional<double> d = smelt::parse_real(plain);
    if (d) result = *d;
    return ok && d;
}

Value truncated(double d, const Value& otherwise) {
    if (!std::isfinite(d)) return otherwise;
    if (std::fabs(d) >= 0x1p63) raise("OverflowError", "integer does not fit into 64 bits");
    return Value::integer(static_cast<int64_t>(d));
}

Value to_integer(In& in, const Value& self, Args& args) {
    const Value otherwise = args.positional[0].is(Kind::missing) ? Value::integer(0) : args.positional[0];
    if (self.is(Kind::undefined)) fail_undefined(self);
    if (is_integral(self)) return Value::integer(self.as_integer());
    if (self.is(Kind::big)) return self;
    if (self.is(Kind::real)) return truncated(self.as_real(), otherwise);
    if (!self.is(Kind::string)) return otherwise;
    in.heap().touch(text_of(self).size() * 24);
    int64_t i = 0;
    if (parse_integer(text_of(self), integer_or(args.positional[1], 10), i)) return Value::integer(i);
    double d = 0;
    return parse_real(text_of(self), d) ? truncated(d, otherwise) : otherwise;
}

Value to_float(In& in, const Value& self, Args& args) {
    if (self.is(Kind::undefined)) fail_undefined(self);
    if (is_number(self)) return Value::real(smelt::jinja::to_real(self));
    if (self.is(Kind::string)) in.heap().touch(text_of(self).size() * 24);
    double d = 0;
    if (self.is(Kind::string) && parse_real(text_of(self), d)) return Value::real(d);
    return args.positional[0].is(Kind::missing) ? Value::real(0) : args.positional[0];
}

Value absolute(In&, const Value& self, Args&) {
    if (self.is(Kind::real)) return Value::real(std::fabs(self.as_real()));
    if (is_integral(self)) return self.as_integer() < 0 ? negate(self) : Value::integer(self.as_integer());
    if (self.is(Kind::undefined)) fail_undefined(self);
    raise("TypeError", fmt::format("bad operand type for abs(): '{}'", type_name(self)));
}

// round(): to the even neighbour in the middle, of the exact binary value.
double round_real(double d, int64_t precision) {
    if (!std::isfinite(d) || precision > 300) return d;
    if (precision < -308) return std::copysign(0.0, d);
    if (precision < 0) {
        const double scale = std::pow(10.0, static_cast<double>(-precision));
        return std::nearbyint(d / scale) * scale;
    }
    const std::string text = fmt::format("{:.{}f}", d, precision);
    return smelt::parse_real(text).value_or(d);
}

Value round(In& in, const Value& self, Args& args) {
    const int64_t precision = integer_or(args.positional[0], 0);
    const std::string_view how =
        args.positional[1].is(Kind::missing) ? "common" : expect_text(args.positional[1], "method");
    if (how != "common" && how != "ceil" && how != "floor") {
        raise("FilterArgumentError", "method must be common, ceil or floor");
    }
    if (self.is(Kind::undefined)) fail_undefined(self);
    if (!is_number(self)) {
        raise("TypeError", fmt::format("type {} doesn't define __round__ method", type_name(self)));
    }
    if (how == "common") {
        if (self.is(Kind::real)) return Value::real(round_real(self.as_real(), precision));
        if (precision >= 0) return self.is(Kind::big) ? self : Value::integer(self.as_integer());
        return truncated(round_real(to_real(self), precision), self);
    }
    const Value scale =
        arithmetic(in.heap(), Arithmetic::power, Value::integer(10), Value::integer(precision));
    const double scaled = to_real(arithmetic(in.heap(), Arithmetic::multiply, self, scale));
    return Value::real((how == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / to_real(scale));
}

// json.dumps() with the arguments that transformers gives it.
Value to_json_filter(In& in, const Value& self, Args& args) {
    JsonStyle style;
    style.ensure_ascii = flag(in, args.positional[0]);
    style.sort_keys = flag(in, args.positional[3]);
    const Value& indent = args.positional[1];
    if (!absent(indent)) {
        style.indented = true;
        style.item_separator.assign(1, ',');
        if (indent.is(Kind::string)) {
            style.indent = text_of(indent);
        } else {
            const auto n = static_cast<size_t>(std::max<int64_t>(0, expect_integer(indent)));
            in.heap().room_for(n);
            style.indent.assign(n, ' ');
        }
    }
    if (!absent(args.positional[2])) {
        const auto separators = iterate(in.heap(), args.positional[2]);
        if (separators.size() != 2) {
            raise("ValueError",
                  fmt::format("not enough values to unpack (expected 2, got {})", separators.size()));
        }
        style.item_separator = expect_text(separators[0], "separator");
        style.key_separator = expect_text(separators[1], "separator");
    }
    return make_string(in.heap(), to_json(in.heap(), self, style));
}

// getattr(): unlike ".name", never an item of a dict.
Value get_attribute(In& in, const Value& self, Args& args) {
    const std::string name = to_text(in.heap(), args.positional[0]);
    if (self.is(Kind::dict) && !find_method(Kind::dict, name) && !name.starts_with("__")) {
        return make_undefined(in.heap(), Undefined::Reason::attribute, name, self);
    }
    return in.attribute(self, name);
}

Value markup(In& in, std::string text) {
    Value v = make_string(in.heap(), std::move(text));
    v.as<String>().markup = true;
    return v;
}

Value escape(In& in, const Value& self, Args&) {
    if (self.is(Kind::string) && self.as<String>().markup) return self;
    return markup(in, escape_html(in.heap(), to_text(in.heap(), self)));
}

std::string url_quote(In& in, const Value& v, bool in_query) {
    StringBuilder out(in.heap());
    for (const char c : to_text(in.heap(), v)) {
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !in_query);
        if (plain) {
            out.append(c);
        } else if (c == ' ' && in_query) {
            out.append('+');
        } else {
            constexpr std::string_view digits = "0123456789ABCDEF";
            const auto byte = static_cast<unsigned char>(c);
            const char escaped[] = {'%', digits[byte >> 4], digits[byte & 15]};
            out.append(std::string_view(escaped, 3));
        }
    }
    return out.take();
}

Value urlencode(In& in, const Value& self, Args&) {
    const bool single = self.is(Kind::string) || (!is_iterable(self) && !self.is(Kind::dict));
    if (single) return make_string(in.heap(), url_quote(in, self, false));
    Args none;
    const Value pairs = self.is(Kind::dict) ? in.call(*find_method(Kind::dict, "items"), self, none) : self;
    StringBuilder out(in.heap());
    for (const Value& pair : iterate(in.heap(), pairs)) {
        const auto parts = iterate(in.heap(), pair);
        if (parts.size() != 2) {
            raise("ValueError",
                  fmt::format("not enough values to unpack (expected 2, got {})", parts.size()));
        }
        if (out.size() > 0) out.append('&');
        out.append(url_quote(in, parts[0], true));
        out.append('=');
        out.append(url_quote(in, parts[1], true));
    }
    return make_string(in.heap(), out.take());
}

Value filesizeformat(In& in, const Value& self, Args& args) {
    Args none{{Value()}, {}};
    const double bytes = to_real(to_float(in, self, none));
    const bool binary = flag(in, args.positional[0]);
    const double base = binary ? 1024 : 1000;
    if (bytes == 1) return borrow_string(in.heap(), "1 Byte");
    if (bytes < base)
        return make_string(in.heap(),
                           fmt::format("{} Bytes", static_cast<int64_t>(std::max(bytes, -0x1p62))));
    double unit = base * base;
    constexpr std::string_view letters = "kMGTPEZY";
    size_t i = 0;
    for (; i + 1 < letters.size() && bytes >= unit; ++i) unit *= base;
    const char letter = binary && i == 0 ? 'K' : letters[i];
    return make_string(in.heap(),
                       fmt::format("{:.1f} {}{}", base * bytes / unit, letter, binary ? "iB" : "B"));
}

Value replace(In& in, const Value& self, Args& args) {
    const int64_t limit = absent(args.positional[2]) ? -1 : expect_integer(args.positional[2]);
    return replace_text(in.heap(), to_text(in.heap(), self), to_text(in.heap(), args.positional[0]),
                        to_text(in.heap(), args.positional[1]), limit);
}

// Unlike str.title(): words begin behind space, '-' and opening brackets only.
Value title(In& in, const Value& self, Args&) {
    const std::string text = to_text(in.heap(), self);
    in.heap().room_for(text.size() * 3);
    in.heap().touch(text.size() * 24);
    std::string titled;
    for (size_t at = 0; at < text.size();) {
        const auto separates = [](char32_t c) {
            return is_space(c) || std::u32string_view(U"-({[<").find(c) != std::u32string_view::npos;
        };
        size_t begin = at;
        const bool separator = separates(next_char(text, at));
        while (at < text.size()) {
            size_t next = at;
            if (separates(next_char(text, next)) != separator) break;
            at = next;
        }
        size_t rest = begin;
        next_char(text, rest);
        titled += to_upper(std::string_view(text).substr(begin, rest - begin));
        titled += to_lower(std::string_view(text).substr(rest, at - rest));
    }
    return make_string(in.heap(), std::move(titled));
}

Value indent(In& in, const Value& self, Args& args) {
    Heap& heap = in.heap();
    std::string prefix(4, ' ');
    const Value& width = args.positional[0];
    if (width.is(Kind::string)) {
        prefix = text_of(width);
    } else if (!width.is(Kind::missing)) {
        const auto n = static_cast<size_t>(std::max<int64_t>(0, expect_integer(width)));
        heap.room_for(n);
        prefix.assign(n, ' ');
    }
    const bool first = flag(in, args.positional[1]), blank = flag(in, args.positional[2]);
    const Value text = make_string(heap, to_text(heap, self) + "\n");
    const Value lines = method(in, text, "splitlines");
    StringBuilder out(heap);
    if (first) out.append(prefix);
    bool is_first = true;
    for (const Value& line : lines.as<List>().items) {
        if (!is_first) {
            out.append('\n');
            if (blank || !text_of(line).empty()) out.append(prefix);
        }
        is_first = false;
        out.append(text_of(line));
    }
    return make_string(heap, out.take());
}

Value wordcount(In& in, const Value& self, Args&) {
    const std::string text = to_text(in.heap(), self);
    in.heap().touch(text.size() * 8);
    int64_t n = 0;
    bool inside = false;
    for (size_t at = 0; at < text.size();) {
        const char32_t c = next_char(text, at);
        const bool is_word = c == '_' || is_alpha(c) || is_numeric(c);
        n += is_word && !inside;
        inside = is_word;
    }
    return Value::integer(n);
}

Value truncate(In& in, const Value& self, Args& args) {
    Heap& heap = in.heap();
    const Value text = as_string(in, self);
    const int64_t length = integer_or(args.positional[0], 255);
    const Value end =
        args.positional[2].is(Kind::missing) ? borrow_string(heap, "...") : as_string(in, args.positional[2]);
    const int64_t end_length = string_length(heap, end);
    const int64_t leeway = absent(args.positional[3]) ? 5 : expect_integer(args.positional[3]);
    if (length < end_length)
        raise("AssertionError", fmt::format("expected length >= {}, got {}", end_length, length));
    if (leeway < 0) raise("AssertionError", fmt::format("expected leeway >= 0, got {}", leeway));
    const int64_t n = string_length(heap, text);
    if (n <= length || n - length <= leeway) return text;
    std::string_view kept = string_slice(heap, text, 0, length - end_length);
    if (!flag(in, args.positional[1])) kept = kept.substr(0, kept.rfind(' '));
    return make_string(heap, std::string(kept) + std::string(text_of(end)));
}

Value format(In& in, const Value& self, Args& args) {
    if (!args.positional.empty() && !args.named.empty()) {
        raise("FilterArgumentError", "can't handle positional and keyword arguments at the same time");
    }
    if (args.named.empty()) {
        const Value values = make_list(in.heap(), std::move(args.positional), Kind::tuple);
        return percent_format(in.heap(), as_string(in, self), values);
    }
    const Value values(in.heap().make<Dict>(0));
    for (auto& [name, v] : args.named)
        dict_set(in.heap(), values.as<Dict>(), make_string(in.heap(), name), v);
    return percent_format(in.heap(), as_string(in, self), values);
}

constexpr Builtin value_table[] = {
    {"default", "default_value? boolean?", default_value},
    {"d", "default_value? boolean?", default_value},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", to_json_filter},
    {"string", "", [](In& in, const Value& self, Args&) { return as_string(in, self); }},
    {"int", "default? base?", to_integer},
    {"float", "default?", to_float},
    {"abs", "", absolute},
    {"round", "precision? method?", round},
    {"attr", "name", get_attribute},
    {"safe", "", [](In& in, const Value& self, Args&) { return markup(in, to_text(in.heap(), self)); }},
    {"escape", "", escape},
    {"e", "", escape},
    {"forceescape", "",
     [](In& in, const Value& self, Args&) {
         return markup(in, escape_html(in.heap(), to_text(in.heap(), self)));
     }},
    {"urlencode", "", urlencode},
    {"filesizeformat", "binary?", filesizeformat},
};

constexpr Builtin string_table[] = {
    {"trim", "chars?",
     [](In& in, const Value& self, Args& a) { return method(in, self, "strip", {a.positional[0]}); }},
    {"upper", "", [](In& in, const Value& self, Args&) { return method(in, self, "upper"); }},
    {"lower", "", [](In& in, const Value& self, Args&) { return method(in, self, "lower"); }},
    {"capitalize", "", [](In& in, const Value& self, Args&) { return method(in, self, "capitalize"); }},
    {"title", "", title},
    {"replace", "old new count?", replace},
    {"indent", "width? first? blank?", indent},
    {"wordcount", "", wordcount},
    {"truncate", "length? killwords? end? leeway?", truncate},
    {"center", "width?",
     [](In& in, const Value& self, Args& a) {
         return method(in, self, "center", {Value::integer(integer_or(a.positional[0], 80))});
     }},
    {"format", "* **", format},
};

}  // namespace

std::span<const Builtin> value_filters() {
    return value_table;
}
std::span<const Builtin> string_filters() {
    return string_table;
}

}  // namespace smelt::jinja
