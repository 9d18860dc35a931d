// The filter pprint: Python's pprint.pformat() with its defaults, 80 columns and sorted names. Not str() and
// repr(), which are in print.cpp.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

using In = Interpreter;
using Args = CallArguments;

constexpr int64_t page_width = 80;

bool is_plain_list(const Value& v) {
    return (v.is(Kind::list) || v.is(Kind::tuple)) && !v.as<List>().is_group;
}

// Python orders keys of one kind as `<` does, others by the name of their type.
int group_of(const Value& key) {
    switch (key.kind()) {
        case Kind::none:
            return 0;
        case Kind::boolean:
        case Kind::integer:
        case Kind::big:
        case Kind::real:
            return 1;
        case Kind::string:
            return 3;
        case Kind::tuple:
            return 4;
        default:
            return 2;
    }
}

class PrettyPrinter {
 public:
    explicit PrettyPrinter(In& in) : in_(in), heap_(in.heap()), out_(heap_) {}

    std::string print(const Value& v) {
        format(v, 0, 0, 0);
        return out_.take();
    }

 private:
    // On one line, with sorted names.
    std::string line_of(const Value& v) {
        StringBuilder line(heap_);
        append_line(line, v);
        return line.take();
    }

    void append_line(StringBuilder& line, const Value& v) {
        const Nesting nesting(heap_);
        heap_.step();
        if (v.is(Kind::dict)) {
            bool first = true;
            line.append('{');
            for (const auto& [key, value] : sorted_entries(v.as<Dict>())) {
                if (!std::exchange(first, false)) line.append(", ");
                append_line(line, key);
                line.append(": ");
                append_line(line, value);
            }
            line.append('}');
        } else if (is_plain_list(v)) {
            const auto& items = v.as<List>().items;
            line.append(v.is(Kind::list) ? '[' : '(');
            for (size_t i = 0; i < items.size(); ++i) {
                if (i > 0) line.append(", ");
                append_line(line, items[i]);
            }
            line.append(v.is(Kind::list) ? "]" : items.size() == 1 ? ",)" : ")");
        } else {
            print_repr(heap_, line, v);
        }
    }

    std::vector<std::pair<Value, Value>> sorted_entries(const Dict& dict) {
        std::vector<Value> groups[5];
        for (size_t i = 0; i < dict.entries.size(); ++i) {
            const Value& key = dict.entries[i].first;
            if (key.is(Kind::undefined) && dict.entries.size() > 1) fail_undefined(key);
            groups[group_of(key)].push_back(Value::integer(static_cast<int64_t>(i)));
        }
        std::vector<std::pair<Value, Value>> entries;
        for (std::vector<Value>& group : groups) {
            for (const Value& i : in_order(dict, group))
                entries.push_back(dict.entries[static_cast<size_t>(i.as_integer())]);
        }
        return entries;
    }

    // Keys that `<` does not compare stay in the order in which they came: Python takes that of their
    // addresses.
    std::vector<Value> in_order(const Dict& dict, const std::vector<Value>& group) {
        std::vector<Value> keys;
        for (const Value& i : group) keys.push_back(dict.entries[static_cast<size_t>(i.as_integer())].first);
        try {
            return sorted(heap_, group, keys, false);
        } catch (const Raised& raised) {
            if (raised.type != "TypeError") throw;
            return group;
        }
    }

    void format(const Value& v, int64_t indent, int64_t allowance, int level) {
        const Nesting nesting(heap_);
        const std::string line = line_of(v);
        if (width_of(line) <= page_width - indent - allowance) return out_.append(line);
        if (v.is(Kind::dict)) {
            format_dict(v.as<Dict>(), indent + 1, allowance + 1, level + 1);
        } else if (is_plain_list(v)) {
            format_list(v, indent + 1, allowance, level + 1);
        } else if (v.is(Kind::string) && !v.as<String>().markup) {
            format_text(v, line, indent, allowance, level + 1);
        } else {
            out_.append(line);
        }
    }

    void format_dict(const Dict& dict, int64_t indent, int64_t allowance, int level) {
        const auto entries = sorted_entries(dict);
        out_.append('{');
        for (size_t i = 0; i < entries.size(); ++i) {
            if (i > 0) new_line(",", indent);
            const std::string key = line_of(entries[i].first);
            out_.append(key);
            out_.append(": ");
            format(entries[i].second, indent + width_of(key) + 2, i + 1 == entries.size() ? allowance : 1,
                   level);
        }
        out_.append('}');
    }

    void format_list(const Value& v, int64_t indent, int64_t allowance, int level) {
        const auto& items = v.as<List>().items;
        const std::string_view close = v.is(Kind::list) ? "]" : items.size() == 1 ? ",)" : ")";
        allowance += static_cast<int64_t>(close.size());
        out_.append(v.is(Kind::list) ? '[' : '(');
        for (size_t i = 0; i < items.size(); ++i) {
            if (i > 0) new_line(",", indent);
            format(items[i], indent, i + 1 == items.size() ? allowance : 1, level);
        }
        out_.append(close);
    }

    // A long text is cut behind its line ends, and behind blanks where a line is long too; brackets around it
    // where it is the whole.
    void format_text(const Value& v, const std::string& whole, int64_t indent, int64_t allowance, int level) {
        if (text_of(v).empty()) return out_.append(whole);
        if (level == 1) {
            ++indent;
            ++allowance;
        }
        Args keep_ends;
        keep_ends.positional.push_back(Value::boolean(true));
        const auto lines = iterate(heap_, in_.call(*find_method(Kind::string, "splitlines"), v, keep_ends));
        std::vector<std::string> chunks;
        for (size_t i = 0; i < lines.size(); ++i) {
            const bool last = i + 1 == lines.size();
            std::string line = line_of(lines[i]);
            if (width_of(line) <= page_width - indent - (last ? allowance : 0)) {
                chunks.push_back(std::move(line));
            } else {
                cut_at_blanks(text_of(lines[i]), page_width - indent, last ? allowance : 0, chunks);
            }
        }
        if (chunks.size() == 1) return out_.append(chunks[0]);
        if (level == 1) out_.append('(');
        for (size_t i = 0; i < chunks.size(); ++i) {
            if (i > 0) new_line("", indent);
            out_.append(chunks[i]);
        }
        if (level == 1) out_.append(')');
    }

    // `allowance` is needed behind the last part.
    void cut_at_blanks(std::string_view line, int64_t width, int64_t allowance,
                       std::vector<std::string>& chunks) {
        size_t begin = 0;
        for (size_t at = 0, done = 0; done < line.size(); done = at) {
            at = end_of_part(line, at);
            if (at == line.size()) width -= allowance;
            heap_.touch((at - begin) * 4);
            if (width_of(repr_of(line.substr(begin, at - begin))) <= width) continue;
            if (done > begin) chunks.push_back(repr_of(line.substr(begin, done - begin)));
            begin = done;
        }
        if (begin < line.size()) chunks.push_back(repr_of(line.substr(begin)));
    }

    static size_t end_of_part(std::string_view line, size_t at) {
        bool blank = false;
        while (at < line.size()) {
            size_t next = at;
            const bool space = is_space(next_char(line, next));
            if (blank && !space) break;
            blank = space;
            at = next;
        }
        return at;
    }

    std::string repr_of(std::string_view text) {
        StringBuilder out(heap_);
        append_repr(out, text);
        return out.take();
    }

    void new_line(std::string_view before, int64_t indent) {
        out_.append(before);
        out_.append('\n');
        out_.append(std::string(static_cast<size_t>(indent), ' '));
    }

    static int64_t width_of(std::string_view text) { return static_cast<int64_t>(count_chars(text)); }

    In& in_;
    Heap& heap_;
    StringBuilder out_;
};

}  // namespace

Value pretty_print(Interpreter& in, const Value& self, CallArguments&) {
    return make_string(in.heap(), PrettyPrinter(in).print(self));
}

}  // namespace smelt::jinja
