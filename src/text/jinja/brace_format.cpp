// str.format(): replacement fields in braces. The specification behind ':' is format.cpp's.
#include <algorithm>

#include "base/number.h"
#include "text/jinja/format.h"
#include "text/jinja/ops.h"

namespace smelt::jinja {

namespace {

size_t position(std::string_view digits) {
    const auto i = parse_integer<size_t>(digits);
    if (!i) raise("ValueError", "Too many decimal digits in format string");
    return *i;
}

class BraceFormatter {
 public:
    BraceFormatter(Heap& heap, const std::vector<Value>& positional, const Named& named, FieldLookup lookup,
                   void* context)
        : heap_(heap), positional_(positional), named_(named), lookup_(lookup), context_(context) {}

    std::string run(std::string_view format, int depth) {
        if (depth > 3) raise("ValueError", "Max string recursion exceeded");
        heap_.touch(format.size() * 4);
        StringBuilder out(heap_);
        for (size_t at = 0; at < format.size();) {
            const char c = format[at++];
            if (c != '{' && c != '}') {
                out.append(c);
            } else if (at < format.size() && format[at] == c) {
                out.append(c);
                ++at;
            } else if (c == '}') {
                raise("ValueError", "Single '}' encountered in format string");
            } else {
                const size_t end = find_end(format, at);
                out.append(field(format.substr(at, end - at), depth));
                at = end + 1;
            }
        }
        return out.take();
    }

 private:
    static size_t find_end(std::string_view format, size_t at) {
        int open = 1;
        for (; at < format.size(); ++at) {
            open += format[at] == '{' ? 1 : format[at] == '}' ? -1 : 0;
            if (open == 0) return at;
        }
        raise("ValueError", "expected '}' before end of string");
    }

    std::string field(std::string_view text, int depth) {
        size_t end = 0;
        while (end < text.size() && text[end] != '!' && text[end] != ':') end += 1 + skipped_index(text, end);
        end = std::min(end, text.size());
        Value v = look_up(text.substr(0, end));
        if (end < text.size() && text[end] == '!') {
            const char conversion = end + 1 < text.size() ? text[end + 1] : '\0';
            end += 2;
            if (end < text.size() && text[end] != ':')
                raise("ValueError", "expected ':' after conversion specifier");
            v = convert(v, conversion);
        }
        const std::string_view spec = end < text.size() ? text.substr(end + 1) : "";
        return format_value(heap_, v, run(spec, depth + 1));
    }

    // Inside of "[...]" neither '!' nor ':' ends the name.
    static size_t skipped_index(std::string_view text, size_t at) {
        if (text[at] != '[') return 0;
        const size_t close = text.find(']', at);
        return close == std::string_view::npos ? text.size() - at : close - at;
    }

    Value convert(const Value& v, char conversion) {
        StringBuilder text(heap_);
        if (conversion == 's') {
            print(heap_, text, v);
        } else if (conversion == 'r' || conversion == 'a') {
            print_repr(heap_, text, v);
        } else {
            raise("ValueError", "Unknown conversion specifier");
        }
        return make_string(heap_, text.take());
    }

    Value look_up(std::string_view name) {
        size_t at = std::min(name.find_first_of(".["), name.size());
        Value v = first(name.substr(0, at));
        while (at < name.size()) {
            heap_.step();
            const bool is_attribute = name[at] == '.';
            const size_t begin = at + 1;
            size_t end = is_attribute ? name.find_first_of(".[", begin) : name.find(']', begin);
            if (!is_attribute && end == std::string_view::npos)
                raise("ValueError", "Missing ']' in format string");
            end = std::min(end, name.size());
            if (end == begin) raise("ValueError", "Empty attribute in format string");
            v = lookup_(context_, v, name.substr(begin, end - begin), is_attribute);
            at = is_attribute ? end : end + 1;
            if (at < name.size() && name[at] != '.' && name[at] != '[') {
                raise("ValueError", "Only '.' or '[' may follow ']' in format field specifier");
            }
        }
        return v;
    }

    Value first(std::string_view name) {
        const bool numbered = !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
        if (!name.empty() && !numbered) {
            const auto found =
                std::find_if(named_.begin(), named_.end(), [&](const auto& n) { return n.first == name; });
            if (found == named_.end()) raise("KeyError", text_repr(name));
            return found->second;
        }
        const size_t i = name.empty() ? next_++ : position(name);
        (name.empty() ? automatic_ : manual_) = true;
        if (automatic_ && manual_) {
            raise("ValueError",
                  "cannot switch between manual field specification and automatic field numbering");
        }
        if (i >= positional_.size()) {
            raise("IndexError", "tuple index out of range");
        }
        return positional_[i];
    }

    Heap& heap_;
    const std::vector<Value>& positional_;
    const Named& named_;
    FieldLookup lookup_;
    void* context_;
    size_t next_ = 0;
    bool automatic_ = false, manual_ = false;
};

}  // namespace

Value brace_format(Heap& heap, std::string_view format, const std::vector<Value>& positional,
                   const Named& named, FieldLookup lookup, void* context) {
    return make_string(heap, BraceFormatter(heap, positional, named, lookup, context).run(format, 1));
}

}  // namespace smelt::jinja
