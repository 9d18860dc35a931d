#include "text/jinja/format.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

constexpr int64_t max_precision = 5000;  // digits; a double has 1074 that are not zero

struct Spec {
    std::string fill = " ";
    char align = '\0', sign = '-', type = '\0', grouping = '\0';
    bool alternate = false, zero = false;
    int64_t width = 0, precision = -1;
};

int64_t take_number(std::string_view text, size_t& at) {
    int64_t n = 0;
    for (; at < text.size() && is_digit_ascii(text[at]); ++at) {
        n = n * 10 + (text[at] - '0');
        if (n > INT32_MAX) raise("ValueError", "Too many decimal digits in format string");
    }
    return n;
}

std::string pad(Heap& heap, std::string text, const Spec& spec, char default_align) {
    const auto length = static_cast<int64_t>(count_chars(text));
    if (spec.width <= length) return text;
    const auto n = static_cast<size_t>(spec.width - length);
    heap.room_for(text.size() + n * spec.fill.size());
    heap.touch(n);
    const char align = spec.align ? spec.align : default_align;
    const size_t before = align == '>' ? n : align == '^' ? n / 2 : 0;
    std::string padded;
    for (size_t i = 0; i < before; ++i) padded += spec.fill;
    padded += text;
    for (size_t i = before; i < n; ++i) padded += spec.fill;
    return padded;
}

std::string group(std::string_view digits, char separator, size_t every) {
    std::string grouped;
    for (size_t i = 0; i < digits.size(); ++i) {
        if (i > 0 && (digits.size() - i) % every == 0) grouped += separator;
        grouped += digits[i];
    }
    return grouped;
}

// Sign, prefix and digits of a number, padded; zeros go between the sign and the digits.
std::string finish_number(Heap& heap, bool negative, std::string_view prefix, std::string digits,
                          const Spec& spec) {
    if (spec.grouping) {
        const size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
        const bool binary = spec.type == 'x' || spec.type == 'X' || spec.type == 'o' || spec.type == 'b';
        digits = group(std::string_view(digits).substr(0, whole), spec.grouping, binary ? 4 : 3) +
                 digits.substr(whole);
    }
    std::string head = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
    head += prefix;
    if (spec.align == '=' || (spec.zero && !spec.align)) {
        const auto length = static_cast<int64_t>(head.size() + digits.size());
        const auto n = static_cast<size_t>(std::max<int64_t>(0, spec.width - length));
        heap.room_for(n * spec.fill.size());
        for (size_t i = 0; i < n; ++i) head += spec.zero ? "0" : spec.fill;
        return head + digits;
    }
    return pad(heap, head + digits, spec, '>');
}

std::string format_integer(Heap& heap, uint64_t magnitude, bool negative, const Spec& spec) {
    std::string digits, prefix;
    switch (spec.type) {
        case 'x':
            digits = fmt::format("{:x}", magnitude);
            break;
        case 'X':
            digits = fmt::format("{:X}", magnitude);
            break;
        case 'o':
            digits = fmt::format("{:o}", magnitude);
            break;
        case 'b':
            digits = fmt::format("{:b}", magnitude);
            break;
        default:
            digits = fmt::format("{}", magnitude);
            break;
    }
    if (spec.alternate && std::string_view("xXob").find(spec.type) != std::string_view::npos) {
        prefix = {'0', spec.type};
    }
    if (spec.precision > static_cast<int64_t>(digits.size())) {
        digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
    }
    return finish_number(heap, negative, prefix, std::move(digits), spec);
}

std::string real_digits(double d, const Spec& spec) {
    const bool upper = spec.type == 'E' || spec.type == 'F' || spec.type == 'G';
    if (!std::isfinite(d)) return std::isnan(d) ? (upper ? "NAN" : "nan") : upper ? "INF" : "inf";
    const int64_t precision = spec.precision < 0 ? 6 : spec.precision;
    switch (spec.type) {
        case 'e':
            return spec.alternate ? fmt::format("{:#.{}e}", d, precision)
                                  : fmt::format("{:.{}e}", d, precision);
        case 'E':
            return spec.alternate ? fmt::format("{:#.{}E}", d, precision)
                                  : fmt::format("{:.{}E}", d, precision);
        case 'f':
        case 'F':
            return spec.alternate ? fmt::format("{:#.{}f}", d, precision)
                                  : fmt::format("{:.{}f}", d, precision);
        case 'g':
        case 'n':
            return spec.alternate ? fmt::format("{:#.{}g}", d, precision)
                                  : fmt::format("{:.{}g}", d, precision);
        case 'G':
            return spec.alternate ? fmt::format("{:#.{}G}", d, precision)
                                  : fmt::format("{:.{}G}", d, precision);
        case '%':
            return fmt::format("{:.{}f}", d * 100, precision);
        default:
            break;
    }
    if (spec.precision < 0) return real_repr(d);
    std::string text = fmt::format("{:.{}g}", d, std::max<int64_t>(spec.precision, 1));
    if (text.find_first_of(".e") == std::string::npos) text += ".0";
    return text;
}

std::string format_real(Heap& heap, double d, const Spec& spec) {
    if (spec.precision > max_precision) raise("ValueError", "precision too big");
    heap.step(4 + static_cast<size_t>(std::max<int64_t>(0, spec.precision)) / 8);
    std::string digits = real_digits(std::fabs(d), spec);
    if (spec.type == '%') digits += '%';
    return finish_number(heap, std::signbit(d) && !std::isnan(d), "", std::move(digits), spec);
}

std::string format_text(Heap& heap, std::string_view text, const Spec& spec) {
    heap.touch(text.size());
    if (spec.precision >= 0) text = text.substr(0, char_offset(text, static_cast<size_t>(spec.precision)));
    return pad(heap, std::string(text), spec, '<');
}

uint64_t magnitude_of(const Value& v) {
    if (v.is(Kind::big)) return v.as<Big>().value;
    const int64_t i = v.as_integer();
    return i < 0 ? 0 - static_cast<uint64_t>(i) : static_cast<uint64_t>(i);
}

bool is_negative(const Value& v) {
    return !v.is(Kind::big) && v.as_integer() < 0;
}

std::string format_char(const Value& v) {
    const int64_t code = expect_integer(v);
    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        raise("OverflowError", "%c arg not in range(0x110000)");
    }
    std::string text;
    append_char(text, static_cast<char32_t>(code));
    return text;
}

class PercentFormatter {
 public:
    PercentFormatter(Heap& heap, std::string_view format, const Value& arguments)
        : heap_(heap), format_(format), arguments_(arguments), out_(heap) {}

    Value run() {
        while (at_ < format_.size()) {
            const size_t percent = std::min(format_.find('%', at_), format_.size());
            out_.append(format_.substr(at_, percent - at_));
            at_ = percent + 1;
            if (percent < format_.size()) directive();
        }
        // Mappings and lists may go unused, as in Python: "x" % [1] is fine.
        const bool may_be_unused = arguments_.is(Kind::dict) || arguments_.is(Kind::list);
        const size_t given = arguments_.is(Kind::tuple) ? arguments_.as<List>().items.size() : !may_be_unused;
        if (used_ < given) {
            raise("TypeError", "not all arguments converted during string formatting");
        }
        return make_string(heap_, out_.take());
    }

 private:
    char peek() const {
        if (at_ >= format_.size()) raise("ValueError", "incomplete format");
        return format_[at_];
    }

    Value next_argument() {
        if (arguments_.is(Kind::tuple)) {
            const auto& items = arguments_.as<List>().items;
            if (used_ >= items.size()) raise("TypeError", "not enough arguments for format string");
            return items[used_++];
        }
        if (used_++ > 0) raise("TypeError", "not enough arguments for format string");
        return arguments_;
    }

    Value named_argument() {
        const size_t end = format_.find(')', at_);
        if (end == std::string_view::npos) raise("ValueError", "incomplete format key");
        if (!arguments_.is(Kind::dict)) raise("TypeError", "format requires a mapping");
        const std::string_view name = format_.substr(at_ + 1, end - at_ - 1);
        at_ = end + 1;
        const Value* found = dict_find(heap_, arguments_.as<Dict>(), name);
        if (!found) raise("KeyError", text_repr(name));
        return *found;
    }

    int64_t take_size() {
        if (peek() != '*') return take_number(format_, at_);
        ++at_;
        const Value v = next_argument();
        if (!is_integral(v)) raise("TypeError", "* wants int");
        return std::clamp<int64_t>(v.as_integer(), INT32_MIN, INT32_MAX);
    }

    void directive() {
        heap_.step(4);
        Spec spec;
        Value argument;
        if (peek() == '(') argument = named_argument();
        bool left = false;
        for (bool flags = true; flags;) {
            switch (peek()) {
                case '-':
                    left = true;
                    break;
                case '+':
                    spec.sign = '+';
                    break;
                case ' ':
                    spec.sign = spec.sign == '+' ? '+' : ' ';
                    break;
                case '#':
                    spec.alternate = true;
                    break;
                case '0':
                    spec.zero = true;
                    break;
                default:
                    flags = false;
                    continue;
            }
            ++at_;
        }
        spec.width = take_size();
        if (spec.width < 0) {
            left = true;
            spec.width = -spec.width;
        }
        if (peek() == '.') {
            ++at_;
            spec.precision = std::max<int64_t>(0, take_size());
        }
        if (peek() == 'h' || peek() == 'l' || peek() == 'L') ++at_;
        spec.type = peek();
        ++at_;
        if (spec.type == '%') return out_.append('%');
        spec.align = left ? '<' : spec.zero ? '\0' : '>';
        if (left) spec.zero = false;
        if (argument.is(Kind::missing)) argument = next_argument();
        convert(argument, spec);
    }

    void convert(const Value& v, Spec spec) {
        switch (spec.type) {
            case 's':
            case 'r':
            case 'a': {
                StringBuilder text(heap_);
                spec.type == 's' ? print(heap_, text, v) : print_repr(heap_, text, v);
                return out_.append(format_text(heap_, text.take(), spec));
            }
            case 'c':
                return out_.append(
                    format_text(heap_, v.is(Kind::string) ? one_char(v) : format_char(v), spec));
            case 'd':
            case 'i':
            case 'u':
            case 'x':
            case 'X':
            case 'o':
                return integer(v, spec);
            case 'e':
            case 'E':
            case 'f':
            case 'F':
            case 'g':
            case 'G':
                if (v.is(Kind::undefined)) fail_undefined(v);
                if (!is_number(v))
                    raise("TypeError", fmt::format("must be real number, not {}", type_name(v)));
                return out_.append(format_real(heap_, to_real(v), spec));
            default:
                raise("ValueError", fmt::format("unsupported format character '{}' (0x{:x}) at index {}",
                                                spec.type, static_cast<unsigned char>(spec.type), at_ - 1));
        }
    }

    static std::string one_char(const Value& v) {
        if (count_chars(text_of(v)) != 1) raise("TypeError", "%c requires int or char");
        return std::string(text_of(v));
    }

    void integer(const Value& v, Spec& spec) {
        Value number = v;
        const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
        if (v.is(Kind::real) && decimal && std::fabs(v.as_real()) < 0x1p63) {
            number = Value::integer(static_cast<int64_t>(v.as_real()));
        }
        if (v.is(Kind::undefined)) fail_undefined(v);
        if (!is_integral(number) && !number.is(Kind::big)) {
            raise("TypeError", fmt::format("%{} format: {} is required, not {}", spec.type,
                                           decimal ? "a real number" : "an integer", type_name(v)));
        }
        if (spec.precision > max_precision) raise("ValueError", "precision too big");
        out_.append(format_integer(heap_, magnitude_of(number), is_negative(number), spec));
    }

    Heap& heap_;
    std::string_view format_;
    const Value& arguments_;
    StringBuilder out_;
    size_t at_ = 0, used_ = 0;
};

Spec parse_spec(std::string_view text) {
    Spec spec;
    size_t at = 0;
    constexpr std::string_view aligns = "<>=^";
    size_t second = 0;
    if (!text.empty()) next_char(text, second);
    if (second < text.size() && aligns.find(text[second]) != std::string_view::npos) {
        spec.fill = text.substr(0, second);
        spec.align = text[second];
        at = second + 1;
    } else if (!text.empty() && aligns.find(text[0]) != std::string_view::npos) {
        spec.align = text[at++];
    }
    const auto skip = [&](char c) { return at < text.size() && text[at] == c && ++at; };
    if (skip('+')) {
        spec.sign = '+';
    } else if (skip(' ')) {
        spec.sign = ' ';
    } else {
        skip('-');
    }
    spec.alternate = skip('#');
    if (skip('0') && !spec.align) spec.zero = true;
    spec.width = take_number(text, at);
    if (skip(',')) spec.grouping = ',';
    if (skip('_')) spec.grouping = '_';
    if (skip('.')) {
        if (at >= text.size() || !is_digit_ascii(text[at]))
            raise("ValueError", "Format specifier missing precision");
        spec.precision = take_number(text, at);
    }
    if (at < text.size()) spec.type = text[at++];
    if (at < text.size()) raise("ValueError", "Invalid format specifier");
    return spec;
}

[[noreturn]] void unknown_code(char code, const Value& v) {
    raise("ValueError", fmt::format("Unknown format code '{}' for object of type '{}'", code, type_name(v)));
}

}  // namespace

Value percent_format(Heap& heap, const Value& format, const Value& arguments) {
    const Nesting nesting(heap);
    return PercentFormatter(heap, text_of(format), arguments).run();
}

std::string format_value(Heap& heap, const Value& v, std::string_view specification) {
    if (specification.empty()) return to_text(heap, v);
    const Spec spec = parse_spec(specification);
    const bool real_type = spec.type && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
    if (v.is(Kind::real) || (is_number(v) && real_type)) {
        if (!real_type && spec.type && spec.type != 'n') unknown_code(spec.type, v);
        return format_real(heap, to_real(v), spec);
    }
    if (is_number(v) && !(v.is(Kind::boolean) && !spec.type)) {
        if (spec.type == 'c') return pad(heap, format_char(v), spec, '<');
        if (spec.type && std::string_view("bdoxXn").find(spec.type) == std::string_view::npos) {
            unknown_code(spec.type, v);
        }
        if (spec.precision >= 0) raise("ValueError", "Precision not allowed in integer format specifier");
        return format_integer(heap, magnitude_of(v), is_negative(v), spec);
    }
    if (!v.is(Kind::string) && !v.is(Kind::boolean)) {
        raise("TypeError", fmt::format("unsupported format string passed to {}.__format__", type_name(v)));
    }
    if (spec.type && spec.type != 's') unknown_code(spec.type, v);
    Spec text_spec = spec;
    if (spec.zero) text_spec.fill.assign(1, '0');
    return format_text(heap, to_text(heap, v), text_spec);
}

}  // namespace smelt::jinja
