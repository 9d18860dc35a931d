// str(), repr() and json.dumps() of template values.
#include <algorithm>
#include <cmath>

#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

std::string real_repr(double d) {
    if (std::isnan(d)) return "nan";
    if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
    std::string text = fmt::format("{}", d);
    if (text.find_first_of(".e") == std::string::npos) text += ".0";
    return text;
}

void append_repr(StringBuilder& out, std::string_view text) {
    const bool has_single = text.find('\'') != std::string_view::npos;
    const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
    out.append(quote);
    for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const char32_t c = next_char(text, at);
        if (c == static_cast<char32_t>(quote) || c == '\\') {
            out.append('\\');
            out.append(static_cast<char>(c));
        } else if (c == '\n') {
            out.append("\\n");
        } else if (c == '\r') {
            out.append("\\r");
        } else if (c == '\t') {
            out.append("\\t");
        } else if (is_printable(c)) {
            out.append(text.substr(begin, at - begin));
        } else {
            const auto code = static_cast<uint32_t>(c);
            out.append(code < 0x100     ? fmt::format("\\x{:02x}", code)
                       : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                                        : fmt::format("\\U{:08x}", code));
        }
    }
    out.append(quote);
}

std::string text_repr(std::string_view text) {
    Heap heap({.max_steps = SIZE_MAX, .max_depth = 1, .max_output = SIZE_MAX});
    StringBuilder out(heap);
    append_repr(out, text);
    return out.take();
}

namespace {

// Containers that are being printed, to show a namespace inside itself as Python does.
using Open = std::vector<const Object*>;

void print_into(Heap& heap, StringBuilder& out, const Value& v, Open& open);

void print_items(Heap& heap, StringBuilder& out, const std::vector<Value>& items, Open& open) {
    for (size_t i = 0; i < items.size(); ++i) {
        if (i > 0) out.append(", ");
        print_into(heap, out, items[i], open);
    }
}

void print_entries(Heap& heap, StringBuilder& out, const Dict& dict, Open& open) {
    out.append('{');
    bool first = true;
    for (const auto& [key, value] : dict.entries) {
        if (!first) out.append(", ");
        first = false;
        print_into(heap, out, key, open);
        out.append(": ");
        print_into(heap, out, value, open);
    }
    out.append('}');
}

void print_container(Heap& heap, StringBuilder& out, const Value& v, Open& open) {
    const Nesting nesting(heap);
    if (std::find(open.begin(), open.end(), v.object()) != open.end()) {
        out.append(v.is(Kind::name_space) ? "<Namespace {...}>" : "...");
        return;
    }
    open.push_back(v.object());
    switch (v.kind()) {
        case Kind::dict:
            print_entries(heap, out, v.as<Dict>(), open);
            break;
        case Kind::name_space:
            out.append("<Namespace ");
            print_entries(heap, out, v.as<Dict>(), open);
            out.append('>');
            break;
        case Kind::list:
            out.append('[');
            print_items(heap, out, v.as<List>().items, open);
            out.append(']');
            break;
        case Kind::tuple:
            out.append('(');
            print_items(heap, out, v.as<List>().items, open);
            out.append(v.as<List>().items.size() == 1 ? ",)" : ")");
            break;
        default:
            out.append(type_name(v));
            out.append("([");
            print_items(heap, out, v.as<List>().items, open);
            out.append("])");
            break;
    }
    open.pop_back();
}

void print_into(Heap& heap, StringBuilder& out, const Value& v, Open& open) {
    heap.step();
    switch (v.kind()) {
        case Kind::none:
            out.append("None");
            break;
        case Kind::boolean:
            out.append(v.as_bool() ? "True" : "False");
            break;
        case Kind::integer:
            out.append(std::to_string(v.as_integer()));
            break;
        case Kind::big:
            out.append(std::to_string(v.as<Big>().value));
            break;
        case Kind::real:
            out.append(real_repr(v.as_real()));
            break;
        case Kind::undefined:
            out.append("Undefined");
            break;
        case Kind::string:
            heap.touch(text_of(v).size() * 4);
            if (v.as<String>().markup) {
                out.append("Markup(");
                append_repr(out, text_of(v));
                out.append(')');
            } else {
                append_repr(out, text_of(v));
            }
            break;
        case Kind::list:
        case Kind::tuple:
        case Kind::dict:
        case Kind::keys:
        case Kind::values:
        case Kind::items:
        case Kind::name_space:
            print_container(heap, out, v, open);
            break;
        case Kind::range: {
            const auto& r = v.as<Range>();
            out.append(r.step == 1 ? fmt::format("range({}, {})", r.start, r.stop)
                                   : fmt::format("range({}, {}, {})", r.start, r.stop, r.step));
            break;
        }
        default:
            out.append(v.object()->describe());
            break;
    }
}

void append_json_string(Heap& heap, StringBuilder& out, std::string_view text, bool ensure_ascii) {
    heap.touch(text.size() * 4);
    out.append('"');
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const auto c = static_cast<uint32_t>(next_char(text, at));
        std::string escaped;
        if (c == '"' || c == '\\') {
            escaped = {'\\', static_cast<char>(c)};
        } else if (c == '\n') {
            escaped = "\\n";
        } else if (c == '\r') {
            escaped = "\\r";
        } else if (c == '\t') {
            escaped = "\\t";
        } else if (c == '\b') {
            escaped = "\\b";
        } else if (c == '\f') {
            escaped = "\\f";
        } else if (c < 0x20 || (ensure_ascii && c > 0x7f && c < 0x10000)) {
            escaped = fmt::format("\\u{:04x}", c);
        } else if (ensure_ascii && c >= 0x10000) {
            escaped = fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + (c & 0x3ff));
        } else {
            continue;
        }
        out.append(text.substr(done, begin - done));
        out.append(escaped);
        done = at;
    }
    out.append(text.substr(done));
    out.append('"');
}

std::string json_number(double d) {
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d > 0 ? "Infinity" : "-Infinity";
    return real_repr(d);
}

std::string json_key(const Value& key) {
    switch (key.kind()) {
        case Kind::string:
            return std::string(text_of(key));
        case Kind::none:
            return "null";
        case Kind::boolean:
            return key.as_bool() ? "true" : "false";
        case Kind::integer:
            return std::to_string(key.as_integer());
        case Kind::big:
            return std::to_string(key.as<Big>().value);
        case Kind::real:
            return json_number(key.as_real());
        default:
            raise("TypeError",
                  fmt::format("keys must be str, int, float, bool or None, not {}", type_name(key)));
    }
}

class JsonPrinter {
 public:
    JsonPrinter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style), out_(heap) {}

    void print(const Value& v) {
        heap_.step();
        switch (v.kind()) {
            case Kind::none:
                out_.append("null");
                break;
            case Kind::boolean:
                out_.append(v.as_bool() ? "true" : "false");
                break;
            case Kind::integer:
                out_.append(std::to_string(v.as_integer()));
                break;
            case Kind::big:
                out_.append(std::to_string(v.as<Big>().value));
                break;
            case Kind::real:
                out_.append(json_number(v.as_real()));
                break;
            case Kind::string:
                append_json_string(heap_, out_, text_of(v), style_.ensure_ascii);
                break;
            case Kind::list:
            case Kind::tuple:
                print_list(v.as<List>().items);
                break;
            case Kind::dict:
                print_dict(v.as<Dict>());
                break;
            default:
                raise("TypeError", fmt::format("Object of type {} is not JSON serializable", type_name(v)));
        }
    }

    std::string take() { return out_.take(); }

 private:
    void new_line() {
        if (!style_.indented) return;
        out_.append('\n');
        for (int i = 0; i < level_; ++i) out_.append(style_.indent);
    }

    void separate(bool first) {
        if (!first) out_.append(style_.item_separator);
        new_line();
    }

    void print_list(const std::vector<Value>& items) {
        if (items.empty()) return out_.append("[]");
        const Nesting nesting(heap_);
        out_.append('[');
        ++level_;
        for (size_t i = 0; i < items.size(); ++i) {
            separate(i == 0);
            print(items[i]);
        }
        --level_;
        new_line();
        out_.append(']');
    }

    void print_dict(const Dict& dict) {
        if (dict.entries.empty()) return out_.append("{}");
        const Nesting nesting(heap_);
        std::vector<Value> order, keys;
        for (size_t i = 0; i < dict.entries.size(); ++i) {
            order.push_back(Value::integer(static_cast<int64_t>(i)));
            keys.push_back(dict.entries[i].first);
        }
        if (style_.sort_keys) order = sorted(heap_, order, keys, false);
        out_.append('{');
        ++level_;
        for (size_t i = 0; i < order.size(); ++i) {
            const auto& [key, value] = dict.entries[static_cast<size_t>(order[i].as_integer())];
            separate(i == 0);
            append_json_string(heap_, out_, json_key(key), style_.ensure_ascii);
            out_.append(style_.key_separator);
            print(value);
        }
        --level_;
        new_line();
        out_.append('}');
    }

    Heap& heap_;
    const JsonStyle& style_;
    StringBuilder out_;
    int level_ = 0;
};

}  // namespace

void print_repr(Heap& heap, StringBuilder& out, const Value& v) {
    Open open;
    print_into(heap, out, v, open);
}

void print(Heap& heap, StringBuilder& out, const Value& v) {
    if (v.is(Kind::string)) {
        out.append(text_of(v));
    } else if (!v.is(Kind::undefined)) {
        print_repr(heap, out, v);
    }
}

std::string to_text(Heap& heap, const Value& v) {
    StringBuilder out(heap);
    print(heap, out, v);
    return out.take();
}

std::string escape_html(Heap& heap, std::string_view text) {
    StringBuilder out(heap);
    for (const char c : text) {
        switch (c) {
            case '&':
                out.append("&amp;");
                break;
            case '<':
                out.append("&lt;");
                break;
            case '>':
                out.append("&gt;");
                break;
            case '"':
                out.append("&#34;");
                break;
            case '\'':
                out.append("&#39;");
                break;
            default:
                out.append(c);
        }
    }
    return out.take();
}

std::string to_json(Heap& heap, const Value& v, const JsonStyle& style) {
    JsonPrinter printer(heap, style);
    printer.print(v);
    return printer.take();
}

}  // namespace smelt::jinja
