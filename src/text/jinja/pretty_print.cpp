// pprint.pformat() of template values, which |pprint gives: lines of 80 columns, dicts by their keys.
#include <algorithm>

#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

constexpr int64_t width = 80;

// Python's order of keys that cannot be compared: by their types' names, then (there: by address) as they
// come.
bool key_less(Heap& heap, const Value& a, const Value& b) {
    try {
        return less(heap, a, b);
    } catch (const Raised& e) {
        if (e.type != "TypeError") throw;
        return type_name(a) < type_name(b);
    }
}

Value by_keys(Heap& heap, const Value& dict) {
    auto* result = heap.make<Dict>(0);
    Value v(result);
    std::vector<std::pair<Value, Value>> entries = dict.as<Dict>().entries;
    heap.step(entries.size());
    std::stable_sort(entries.begin(), entries.end(),
                     [&](const auto& a, const auto& b) { return key_less(heap, a.first, b.first); });
    for (auto& [key, value] : entries) dict_set(heap, *result, key, std::move(value));
    return v;
}

class Pretty {
 public:
    explicit Pretty(Heap& heap) : heap_(heap), out_(heap) {}

    // `allowance`: columns that what follows on the last line takes.
    void write(const Value& v, int64_t indent, int64_t allowance, int level) {
        const Nesting nesting(heap_);
        const std::string flat = repr(v);
        if (static_cast<int64_t>(count_chars(flat)) <= width - indent - allowance) return out_.append(flat);
        switch (v.kind()) {
            case Kind::dict:
                return write_dict(v, indent, allowance, level + 1);
            case Kind::list:
                return write_items(v, "[", "]", indent, allowance, level + 1);
            case Kind::tuple:
                return write_items(v, "(", v.as<List>().items.size() == 1 ? ",)" : ")", indent, allowance,
                                   level + 1);
            case Kind::string:
                if (!v.as<String>().markup) return write_text(text_of(v), indent, allowance, level + 1);
                break;
            default:
                break;
        }
        out_.append(flat);
    }

    std::string take() { return out_.take(); }

 private:
    // With the keys of every dict in order.
    std::string repr(const Value& v) {
        StringBuilder out(heap_);
        print_repr(heap_, out, ordered(v));
        return out.take();
    }
    Value ordered(const Value& v) {
        const Nesting nesting(heap_);
        heap_.step();
        if (v.is(Kind::dict)) {
            Value sorted_dict = by_keys(heap_, v);
            for (auto& [key, value] : sorted_dict.as<Dict>().entries) value = ordered(value);
            return sorted_dict;
        }
        if (!v.is(Kind::list) && !v.is(Kind::tuple)) return v;
        ListBuilder items(heap_);
        for (const Value& item : v.as<List>().items) items.push(ordered(item));
        return make_list(heap_, items.take(), v.kind());
    }

    void new_line(int64_t indent) {
        out_.append(",\n");
        out_.append(std::string(static_cast<size_t>(indent), ' '));
    }

    void write_items(const Value& v, std::string_view open, std::string_view close, int64_t indent,
                     int64_t allowance, int level) {
        out_.append(open);
        const std::vector<Value>& items = v.as<List>().items;
        for (size_t i = 0; i < items.size(); ++i) {
            const bool last = i + 1 == items.size();
            if (i > 0) new_line(indent + 1);
            write(items[i], indent + 1, last ? allowance + static_cast<int64_t>(close.size()) : 1, level);
        }
        out_.append(close);
    }

    void write_dict(const Value& v, int64_t indent, int64_t allowance, int level) {
        const Value in_order = by_keys(heap_, v);
        const auto& entries = in_order.as<Dict>().entries;
        out_.append('{');
        for (size_t i = 0; i < entries.size(); ++i) {
            const bool last = i + 1 == entries.size();
            if (i > 0) new_line(indent + 1);
            const std::string key = repr(entries[i].first);
            out_.append(key);
            out_.append(": ");
            write(entries[i].second, indent + 1 + static_cast<int64_t>(count_chars(key)) + 2,
                  last ? allowance + 1 : 1, level);
        }
        out_.append('}');
    }

    // A long text as several, cut behind line ends and blanks; in brackets where it is all there is.
    void write_text(std::string_view text, int64_t indent, int64_t allowance, int level) {
        if (level == 1) {
            ++indent;
            ++allowance;
        }
        std::vector<std::string> pieces;
        for (size_t at = 0; at < text.size();) {
            const std::string_view line = next_line(text, at);
            const bool last = at == text.size();
            const std::string whole = text_repr(line);
            if (columns(whole) <= width - indent - (last ? allowance : 0)) {
                pieces.push_back(whole);
            } else {
                cut_line(line, width - indent, last ? allowance : 0, pieces);
            }
        }
        const bool in_brackets = level == 1 && pieces.size() > 1;
        if (in_brackets) out_.append('(');
        for (size_t i = 0; i < pieces.size(); ++i) {
            if (i > 0) out_.append("\n" + std::string(static_cast<size_t>(indent), ' '));
            out_.append(pieces[i]);
        }
        if (in_brackets) out_.append(')');
    }

    void cut_line(std::string_view line, int64_t room, int64_t allowance, std::vector<std::string>& pieces) {
        std::string current;
        for (size_t at = 0; at < line.size();) {
            const size_t begin = at;
            while (at < line.size() && !is_space(peek(line, at))) (void)next_char(line, at);
            while (at < line.size() && is_space(peek(line, at))) (void)next_char(line, at);
            const std::string_view part = line.substr(begin, at - begin);
            if (at == line.size()) room -= allowance;
            std::string longer = current + std::string(part);
            heap_.touch(4 * longer.size());
            if (columns(text_repr(longer)) > room) {
                if (!current.empty()) pieces.push_back(text_repr(current));
                current = part;
            } else {
                current = std::move(longer);
            }
        }
        if (!current.empty()) pieces.push_back(text_repr(current));
    }

    static char32_t peek(std::string_view text, size_t at) { return next_char(text, at); }
    static int64_t columns(const std::string& text) { return static_cast<int64_t>(count_chars(text)); }
    // With its end, which "\r\n" is together.
    static std::string_view next_line(std::string_view text, size_t& at) {
        const size_t begin = at;
        while (at < text.size()) {
            const char32_t c = next_char(text, at);
            if (!is_line_end(c)) continue;
            if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
            break;
        }
        return text.substr(begin, at - begin);
    }

    Heap& heap_;
    StringBuilder out_;
};

}  // namespace

std::string pretty(Heap& heap, const Value& v) {
    Pretty p(heap);
    p.write(v, 0, 0, 0);
    return p.take();
}

}  // namespace smelt::jinja
