// The methods of str. Positions and lengths are code points, as in Python.
#include <algorithm>

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
constexpr size_t npos = std::string_view::npos;

bool absent(const Value& v) {
    return v.is(Kind::missing) || v.is(Kind::none);
}

int64_t integer_or(const Value& v, int64_t if_absent) {
    return absent(v) ? if_absent : expect_integer(v);
}

// Case mapping makes at most three times the bytes.
template <std::string (*mapping)(std::string_view)>
Value map_case(In& in, const Value& self, Args&) {
    in.heap().room_for(text_of(self).size() * 3);
    in.heap().touch(text_of(self).size() * 24);
    return make_string(in.heap(), mapping(text_of(self)));
}

enum Sides { left = 1, right = 2 };

template <int sides>
Value strip_method(In& in, const Value& self, Args& args) {
    std::string_view text = text_of(self);
    in.heap().touch(text.size() * 4);
    if (absent(args.positional[0])) {
        if (sides & left) text = strip_left(text);
        if (sides & right) text = strip_right(text);
        return make_string(in.heap(), std::string(text));
    }
    const std::string_view set = expect_text(args.positional[0], "strip arg");
    const auto in_set = [&](size_t begin, size_t end) {
        in.heap().touch(set.size() + 31);
        return set.find(text.substr(begin, end - begin)) != npos;
    };
    size_t begin = 0, end = text.size();
    while ((sides & left) && begin < end) {
        size_t next = begin;
        next_char(text, next);
        if (!in_set(begin, next)) break;
        begin = next;
    }
    while ((sides & right) && end > begin) {
        size_t before = end;
        previous_char(text, before);
        if (!in_set(before, end)) break;
        end = before;
    }
    return make_string(in.heap(), std::string(text.substr(begin, end - begin)));
}

std::vector<std::string_view> split_space(In& in, std::string_view text, int64_t limit, bool from_right) {
    std::vector<std::string_view> parts;
    in.heap().touch(text.size() * 4);
    text = from_right ? strip_right(text) : strip_left(text);
    while (!text.empty() && limit-- != 0) {
        in.heap().step();
        size_t begin = 0, end = text.size();
        if (from_right) {
            begin = end;
            for (size_t at = end; at > 0; begin = at) {
                if (is_space(previous_char(text, at))) break;
            }
        } else {
            end = 0;
            for (size_t at = 0; at < text.size(); end = at) {
                if (is_space(next_char(text, at))) break;
            }
        }
        parts.push_back(text.substr(begin, end - begin));
        text = from_right ? strip_right(text.substr(0, begin)) : strip_left(text.substr(end));
    }
    if (!text.empty()) parts.push_back(text);
    if (from_right) std::reverse(parts.begin(), parts.end());
    return parts;
}

// Every start of `needle`, none overlapping; from the right the last ones first.
std::vector<size_t> find_all(In& in, std::string_view text, std::string_view needle, int64_t limit,
                             bool from_right) {
    std::vector<size_t> found;
    in.heap().touch(search_cost(text, needle));
    if (!from_right) {
        for (size_t at = 0; limit-- != 0 && (at = find_bytes(text, needle, at)) != npos;
             at += needle.size()) {
            in.heap().step();
            found.push_back(at);
        }
        return found;
    }
    size_t end = text.size();
    while (limit-- != 0 && end >= needle.size()) {
        size_t at = end - needle.size();
        while (true) {
            if (text[at] == needle[0]) {
                // Compared from the front: pays for as many bytes as agree.
                const auto mismatch = std::mismatch(needle.begin(), needle.end(),
                                                    text.begin() + static_cast<std::ptrdiff_t>(at));
                in.heap().touch(static_cast<size_t>(mismatch.first - needle.begin()) + 16);
                if (mismatch.first == needle.end()) break;
            }
            if (at-- == 0) return found;
        }
        found.push_back(at);
        end = at;
    }
    return found;
}

template <bool from_right>
Value split(In& in, const Value& self, Args& args) {
    const int64_t limit = integer_or(args.positional[1], -1);
    const std::string_view text = text_of(self);
    ListBuilder parts(in.heap());
    const auto push = [&](std::string_view part) { parts.push(make_string(in.heap(), std::string(part))); };
    if (absent(args.positional[0])) {
        in.heap().room_for(text.size() * 8);
        for (const auto part : split_space(in, text, limit, from_right)) push(part);
        return make_list(in.heap(), parts.take());
    }
    const std::string_view separator = expect_text(args.positional[0], "separator");
    if (separator.empty()) raise("ValueError", "empty separator");
    in.heap().room_for(text.size() / separator.size() * sizeof(size_t));
    auto found = find_all(in, text, separator, limit, from_right);
    if (from_right) std::reverse(found.begin(), found.end());
    size_t begin = 0;
    for (const size_t at : found) {
        push(text.substr(begin, at - begin));
        begin = at + separator.size();
    }
    push(text.substr(begin));
    return make_list(in.heap(), parts.take());
}

Value splitlines(In& in, const Value& self, Args& args) {
    const bool keep = !args.positional[0].is(Kind::missing) && truth(in.heap(), args.positional[0]);
    const std::string_view text = text_of(self);
    in.heap().touch(text.size() * 4);
    ListBuilder lines(in.heap());
    for (size_t begin = 0, at = 0; at < text.size();) {
        const size_t end = at;
        const char32_t c = next_char(text, at);
        if (!is_line_end(c)) {
            if (at == text.size()) lines.push(make_string(in.heap(), std::string(text.substr(begin))));
            continue;
        }
        if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
        lines.push(make_string(in.heap(), std::string(text.substr(begin, (keep ? at : end) - begin))));
        begin = at;
    }
    return make_list(in.heap(), lines.take());
}

// The part of self between the optional code point bounds; its byte offset in self.
std::pair<std::string_view, size_t> between(In& in, const Value& self, const Value& start, const Value& end) {
    const std::string_view text = text_of(self);
    if (absent(start) && absent(end)) return {text, 0};
    const int64_t n = string_length(in.heap(), self);
    const auto position = [&](const Value& v, int64_t if_absent) {
        const int64_t i = integer_or(v, if_absent);
        return std::clamp<int64_t>(i < 0 ? i + n : i, 0, n + 1);
    };
    const int64_t a = position(start, 0), b = std::min(position(end, n), n);
    if (a > b) return {{}, npos};
    const std::string_view part = string_slice(in.heap(), self, a, b);
    return {part, static_cast<size_t>(part.data() - text.data())};
}

template <bool at_start>
Value starts_or_ends(In& in, const Value& self, Args& args) {
    const auto [text, offset] = between(in, self, args.positional[1], args.positional[2]);
    const auto matches = [&, part = text, bad = offset == npos](const Value& v) {
        const std::string_view affix =
            expect_text(v, at_start ? "startswith first arg" : "endswith first arg");
        in.heap().touch(affix.size());
        return !bad && (at_start ? part.starts_with(affix) : part.ends_with(affix));
    };
    const Value& affix = args.positional[0];
    if (!affix.is(Kind::tuple)) return Value::boolean(matches(affix));
    const auto& options = affix.as<List>().items;
    return Value::boolean(std::any_of(options.begin(), options.end(), matches));
}

template <bool from_right, bool must_be>
Value find(In& in, const Value& self, Args& args) {
    const std::string_view needle = expect_text(args.positional[0], "find() argument 1");
    const auto [text, offset] = between(in, self, args.positional[1], args.positional[2]);
    size_t at = npos;
    if (offset != npos && needle.empty()) {
        at = from_right ? text.size() : 0;
    } else if (offset != npos) {
        const auto found = find_all(in, text, needle, 1, from_right);
        if (!found.empty()) at = found[0];
    }
    if (at == npos && must_be) raise("ValueError", "substring not found");
    if (at == npos) return Value::integer(-1);
    in.heap().touch(offset + at);
    return Value::integer(static_cast<int64_t>(count_chars(text_of(self).substr(0, offset + at))));
}

Value count(In& in, const Value& self, Args& args) {
    const std::string_view needle = expect_text(args.positional[0], "count() argument 1");
    const auto [text, offset] = between(in, self, args.positional[1], args.positional[2]);
    if (offset == npos) return Value::integer(0);
    if (needle.empty()) return Value::integer(static_cast<int64_t>(count_chars(text)) + 1);
    in.heap().room_for(text.size() / needle.size() * sizeof(size_t));
    return Value::integer(static_cast<int64_t>(find_all(in, text, needle, -1, false).size()));
}

Value join(In& in, const Value& self, Args& args) {
    StringBuilder joined(in.heap());
    size_t i = 0;
    for (const Value& item : iterate(in.heap(), args.positional[0])) {
        if (!item.is(Kind::string)) {
            raise("TypeError",
                  fmt::format("sequence item {}: expected str instance, {} found", i, type_name(item)));
        }
        if (i++ > 0) joined.append(text_of(self));
        joined.append(text_of(item));
    }
    return make_string(in.heap(), joined.take());
}

template <bool (*test)(char32_t), bool empty = false>
Value all_chars(In& in, const Value& self, Args&) {
    const std::string_view text = text_of(self);
    in.heap().touch(text.size() * 4);
    if (text.empty()) return Value::boolean(empty);
    for (size_t at = 0; at < text.size();) {
        if (!test(next_char(text, at))) return Value::boolean(false);
    }
    return Value::boolean(true);
}

bool is_alphanumeric(char32_t c) {
    return is_alpha(c) || is_decimal(c) || is_digit(c) || is_numeric(c);
}
bool is_ascii(char32_t c) {
    return c < 0x80;
}

template <bool upper>
Value is_case(In& in, const Value& self, Args&) {
    const std::string_view text = text_of(self);
    in.heap().touch(text.size() * 4);
    bool any = false;
    for (size_t at = 0; at < text.size();) {
        const char32_t c = next_char(text, at);
        if (!is_cased(c)) continue;
        if (upper ? !is_upper(c) : !is_lower(c)) return Value::boolean(false);
        any = true;
    }
    return Value::boolean(any);
}

Value is_titled(In& in, const Value& self, Args&) {
    const std::string_view text = text_of(self);
    in.heap().touch(text.size() * 4);
    bool any = false, inside = false;
    for (size_t at = 0; at < text.size();) {
        const char32_t c = next_char(text, at);
        const bool begins = is_upper(c) || is_title(c);
        if ((begins && inside) || (is_lower(c) && !inside)) return Value::boolean(false);
        inside = begins || is_lower(c);
        any |= inside;
    }
    return Value::boolean(any);
}

Value is_identifier(In& in, const Value& self, Args&) {
    const std::string_view text = text_of(self);
    in.heap().touch(text.size() * 4);
    for (size_t at = 0; at < text.size();) {
        const bool first = at == 0;
        const char32_t c = next_char(text, at);
        if (c != '_' && !is_alpha(c) && (first || !is_decimal(c))) return Value::boolean(false);
    }
    return Value::boolean(!text.empty());
}

std::string padding(In& in, int64_t n, const Value& fill) {
    std::string_view unit = absent(fill) ? " " : expect_text(fill, "the fill character");
    if (count_chars(unit) != 1) raise("TypeError", "The fill character must be exactly one character long");
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(n, 0));
    in.heap().room_for(bytes);
    in.heap().room_for(bytes * unit.size());
    in.heap().touch(bytes * unit.size());
    std::string text;
    for (int64_t i = 0; i < n; ++i) text += unit;
    return text;
}

template <int sides>
Value pad(In& in, const Value& self, Args& args) {
    const int64_t width = expect_integer(args.positional[0]);
    const int64_t length = string_length(in.heap(), self);
    if (width <= length) return self;
    const int64_t n = width - length;
    const int64_t before = sides == (left | right) ? n / 2 + (n & width & 1) : sides == left ? n : 0;
    const Value& fill = args.positional[1];
    std::string padded = padding(in, before, fill);
    padded += text_of(self);
    padded += padding(in, n - before, fill);
    return make_string(in.heap(), std::move(padded));
}

Value zfill(In& in, const Value& self, Args& args) {
    const int64_t n = expect_integer(args.positional[0]) - string_length(in.heap(), self);
    if (n <= 0) return self;
    const std::string_view text = text_of(self);
    const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
    const std::string zeros = padding(in, n, borrow_string(in.heap(), "0"));
    return make_string(in.heap(), std::string(text.substr(0, sign)) + zeros + std::string(text.substr(sign)));
}

template <bool from_right>
Value partition(In& in, const Value& self, Args& args) {
    const std::string_view text = text_of(self);
    const std::string_view separator = expect_text(args.positional[0], "separator");
    if (separator.empty()) raise("ValueError", "empty separator");
    const auto found = find_all(in, text, separator, 1, from_right);
    const auto part = [&](std::string_view s) { return make_string(in.heap(), std::string(s)); };
    std::vector<Value> parts;
    if (!found.empty()) {
        parts = {part(text.substr(0, found[0])), part(separator),
                 part(text.substr(found[0] + separator.size()))};
    } else if (from_right) {
        parts = {part(""), part(""), part(text)};
    } else {
        parts = {part(text), part(""), part("")};
    }
    return make_list(in.heap(), std::move(parts), Kind::tuple);
}

Value replace(In& in, const Value& self, Args& args) {
    return replace_text(in.heap(), text_of(self), expect_text(args.positional[0], "replace() argument 1"),
                        expect_text(args.positional[1], "replace() argument 2"),
                        integer_or(args.positional[2], -1));
}

template <bool prefix>
Value remove_affix(In& in, const Value& self, Args& args) {
    std::string_view text = text_of(self);
    const std::string_view affix = expect_text(args.positional[0], "argument");
    if (prefix && text.starts_with(affix)) text.remove_prefix(affix.size());
    if (!prefix && text.ends_with(affix)) text.remove_suffix(affix.size());
    return make_string(in.heap(), std::string(text));
}

Value expandtabs(In& in, const Value& self, Args& args) {
    const int64_t size = integer_or(args.positional[0], 8);
    StringBuilder out(in.heap());
    int64_t column = 0;
    const std::string_view text = text_of(self);
    for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const char32_t c = next_char(text, at);
        if (c == '\t') {
            const int64_t n = size > 0 ? size - column % size : 0;
            out.append(padding(in, n, Value()));
            column += n;
            continue;
        }
        out.append(text.substr(begin, at - begin));
        column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
    return make_string(in.heap(), out.take());
}

Value look_up_field(void* context, const Value& object, std::string_view name, bool is_attribute) {
    auto& in = *static_cast<In*>(context);
    if (is_attribute) return in.attribute(object, name);
    const bool is_index = !name.empty() && name.size() < 19 && name.find_first_not_of("0123456789") == npos;
    const Value key =
        is_index ? Value::integer(*parse_integer<int64_t>(name)) : make_string(in.heap(), std::string(name));
    return in.item(object, key);
}

Value format(In& in, const Value& self, Args& args) {
    Named named;
    for (const auto& [name, v] : args.named) named.emplace_back(name, v);
    return brace_format(in.heap(), text_of(self), args.positional, named, look_up_field, &in);
}

Value format_map(In& in, const Value& self, Args& args) {
    if (!args.positional[0].is(Kind::dict)) raise("TypeError", "format_map() takes a mapping");
    Named named;
    for (const auto& [key, v] : args.positional[0].as<Dict>().entries) {
        if (key.is(Kind::string)) named.emplace_back(text_of(key), v);
    }
    return brace_format(in.heap(), text_of(self), {}, named, look_up_field, &in);
}

constexpr Builtin methods[] = {
    {"split", "sep? maxsplit?", split<false>},
    {"strip", "chars?", strip_method<left | right>},
    {"lstrip", "chars?", strip_method<left>},
    {"rstrip", "chars?", strip_method<right>},
    {"startswith", "prefix start? end?", starts_or_ends<true>},
    {"endswith", "suffix start? end?", starts_or_ends<false>},
    {"replace", "old new count?", replace},
    {"upper", "", map_case<to_upper>},
    {"lower", "", map_case<to_lower>},
    {"casefold", "", map_case<case_folded>},
    {"title", "", map_case<to_title>},
    {"capitalize", "", map_case<to_capitalized>},
    {"swapcase", "", map_case<swap_case>},
    {"rsplit", "sep? maxsplit?", split<true>},
    {"splitlines", "keepends?", splitlines},
    {"find", "sub start? end?", find<false, false>},
    {"rfind", "sub start? end?", find<true, false>},
    {"index", "sub start? end?", find<false, true>},
    {"rindex", "sub start? end?", find<true, true>},
    {"count", "sub start? end?", count},
    {"join", "iterable", join},
    {"format", "* **", format},
    {"format_map", "mapping", format_map},
    {"isdigit", "", all_chars<is_digit>},
    {"isdecimal", "", all_chars<is_decimal>},
    {"isnumeric", "", all_chars<is_numeric>},
    {"isalpha", "", all_chars<is_alpha>},
    {"isalnum", "", all_chars<is_alphanumeric>},
    {"isspace", "", all_chars<is_space>},
    {"isascii", "", all_chars<is_ascii, true>},
    {"isprintable", "", all_chars<is_printable, true>},
    {"isupper", "", is_case<true>},
    {"islower", "", is_case<false>},
    {"istitle", "", is_titled},
    {"isidentifier", "", is_identifier},
    {"zfill", "width", zfill},
    {"ljust", "width fillchar?", pad<right>},
    {"rjust", "width fillchar?", pad<left>},
    {"center", "width fillchar?", pad<left | right>},
    {"partition", "sep", partition<false>},
    {"rpartition", "sep", partition<true>},
    {"removeprefix", "prefix", remove_affix<true>},
    {"removesuffix", "suffix", remove_affix<false>},
    {"expandtabs", "tabsize?", expandtabs},
};

}  // namespace

Value replace_text(Heap& heap, std::string_view text, std::string_view old, std::string_view replacement,
                   int64_t limit) {
    StringBuilder out(heap);
    size_t done = 0;
    if (old.empty()) {
        for (size_t at = 0; limit != 0; --limit) {
            out.append(text.substr(done, at - done));
            out.append(replacement);
            done = at;
            if (at == text.size()) break;
            next_char(text, at);
            heap.step();
        }
    } else {
        heap.touch(search_cost(text, old));
        for (size_t at = 0; limit != 0 && (at = find_bytes(text, old, at)) != npos; --limit) {
            out.append(text.substr(done, at - done));
            out.append(replacement);
            done = at += old.size();
            heap.step();
        }
    }
    out.append(text.substr(done));
    return make_string(heap, out.take());
}

std::span<const Builtin> string_methods() {
    return methods;
}

}  // namespace smelt::jinja
