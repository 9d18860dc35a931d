// Filters over lists and other iterables. What Jinja leaves lazy is computed at once here, but can still be
// walked only once.
#include <algorithm>

#include "base/error.h"
#include "base/number.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

using In = Interpreter;
using Args = CallArguments;

bool flag(In& in, const Value& v, bool if_missing = false) {
    return v.is(Kind::missing) ? if_missing : truth(in.heap(), v);
}

// "a.b.0" of an item; without a path the item.
class AttributePath {
 public:
    AttributePath(In& in, const Value& path) : in_(in) {
        if (path.is(Kind::missing) || path.is(Kind::none)) return;
        if (!path.is(Kind::string)) {
            parts_.push_back(path);
            return;
        }
        std::string_view rest = text_of(path);
        while (true) {
            const size_t dot = rest.find('.');
            add(rest.substr(0, dot));
            if (dot == std::string_view::npos) break;
            rest = rest.substr(dot + 1);
        }
    }

    Value of(const Value& item, const Value& if_undefined = Value()) const {
        Value v = item;
        for (const Value& part : parts_) {
            v = in_.item(v, part);
            if (v.is(Kind::undefined) && !if_undefined.is(Kind::missing)) v = if_undefined;
        }
        return v;
    }

 private:
    void add(std::string_view part) {
        const auto i = part.starts_with('-') ? std::nullopt : parse_integer<int64_t>(part);
        parts_.push_back(i ? Value::integer(*i) : make_string(in_.heap(), std::string(part)));
    }

    In& in_;
    std::vector<Value> parts_;
};

Value ignoring_case(In& in, const Value& v, bool case_sensitive) {
    if (case_sensitive || !v.is(Kind::string)) return v;
    in.heap().room_for(text_of(v).size() * 2);
    in.heap().touch(text_of(v).size() * 24);
    return make_string(in.heap(), to_lower(text_of(v)));
}

Value first(In& in, const Value& self, Args&) {
    Heap& heap = in.heap();
    if (self.is(Kind::iterator)) {
        auto& it = self.as<Iterator>();
        if (it.next_item < it.items.size()) return it.items[it.next_item++];
    } else if (is_list_like(self) && !self.as<List>().items.empty()) {
        return self.as<List>().items[0];
    } else if (self.is(Kind::string) && !text_of(self).empty()) {
        return *subscript(heap, self, Value::integer(0));
    } else {
        auto items = iterate(heap, self);
        if (!items.empty()) return items[0];
    }
    return make_undefined(heap, "No first item, sequence was empty.");
}

Value last(In& in, const Value& self, Args&) {
    Heap& heap = in.heap();
    if (self.is(Kind::iterator)) {
        raise("TypeError", fmt::format("'{}' object is not reversible", type_name(self)));
    }
    if (self.is(Kind::undefined)) fail_undefined(self);
    if (length(heap, self) > 0) {
        if (auto found = subscript(heap, self, Value::integer(-1)); found && !self.is(Kind::dict))
            return *found;
        return iterate(heap, self).back();
    }
    return make_undefined(heap, "No last item, sequence was empty.");
}

Value join(In& in, const Value& self, Args& args) {
    Heap& heap = in.heap();
    const std::string separator =
        args.positional[0].is(Kind::missing) ? "" : to_text(heap, args.positional[0]);
    const AttributePath path(in, args.positional[1]);
    StringBuilder text(heap);
    bool is_first = true;
    for (const Value& item : iterate(heap, self)) {
        if (!is_first) text.append(separator);
        is_first = false;
        print(heap, text, path.of(item));
    }
    return make_string(heap, text.take());
}

Value reverse(In& in, const Value& self, Args&) {
    Heap& heap = in.heap();
    if (self.is(Kind::string)) return slice(heap, self, Value::none(), Value::none(), Value::integer(-1));
    if (!is_iterable(self) && !self.is(Kind::dict)) raise("FilterArgumentError", "argument must be iterable");
    auto items = iterate(heap, self);
    std::reverse(items.begin(), items.end());
    const bool is_list = self.is(Kind::iterator);
    return is_list ? make_list(heap, std::move(items))
                   : make_iterator(heap, std::move(items), "list_reverseiterator");
}

Value sort(In& in, const Value& self, Args& args) {
    const bool case_sensitive = flag(in, args.positional[1]);
    std::vector<AttributePath> paths;
    if (args.positional[2].is(Kind::string)) {
        std::string_view rest = text_of(args.positional[2]);
        while (true) {
            const size_t comma = rest.find(',');
            paths.emplace_back(in, make_string(in.heap(), std::string(rest.substr(0, comma))));
            if (comma == std::string_view::npos) break;
            rest = rest.substr(comma + 1);
        }
    } else {
        paths.emplace_back(in, args.positional[2]);
    }
    const auto items = iterate(in.heap(), self);
    ListBuilder keys(in.heap());
    for (const Value& item : items) {
        std::vector<Value> key;
        for (const auto& path : paths) key.push_back(ignoring_case(in, path.of(item), case_sensitive));
        keys.push(make_list(in.heap(), std::move(key)));
    }
    return make_list(in.heap(), sorted(in.heap(), items, keys.take(), flag(in, args.positional[0])));
}

Value dictsort(In& in, const Value& self, Args& args) {
    const std::string_view by =
        args.positional[1].is(Kind::missing) ? "key" : expect_text(args.positional[1], "by");
    if (by != "key" && by != "value") {
        raise("FilterArgumentError", "You can only sort by either \"key\" or \"value\"");
    }
    if (self.is(Kind::undefined)) fail_undefined(self);
    if (!self.is(Kind::dict)) {
        raise("AttributeError", fmt::format("'{}' object has no attribute 'items'", type_name(self)));
    }
    ListBuilder pairs(in.heap()), keys(in.heap());
    for (const auto& [key, v] : self.as<Dict>().entries) {
        pairs.push(make_list(in.heap(), {key, v}, Kind::tuple));
        keys.push(ignoring_case(in, by == "key" ? key : v, flag(in, args.positional[0])));
    }
    return make_list(in.heap(), sorted(in.heap(), pairs.take(), keys.take(), flag(in, args.positional[2])));
}

Value unique(In& in, const Value& self, Args& args) {
    const AttributePath path(in, args.positional[1]);
    const Value seen(in.heap().make<Dict>(0));
    ListBuilder kept(in.heap());
    for (const Value& item : iterate(in.heap(), self)) {
        const Value key = ignoring_case(in, path.of(item), flag(in, args.positional[0]));
        if (dict_find(in.heap(), seen.as<Dict>(), key)) continue;
        dict_set(in.heap(), seen.as<Dict>(), key, Value::none());
        kept.push(item);
    }
    return make_iterator(in.heap(), kept.take());
}

template <bool largest>
Value extreme(In& in, const Value& self, Args& args) {
    const AttributePath path(in, args.positional[1]);
    const auto items = iterate(in.heap(), self);
    if (items.empty()) return make_undefined(in.heap(), "No aggregated item, sequence was empty.");
    const auto key = [&](const Value& v) {
        return ignoring_case(in, path.of(v), flag(in, args.positional[0]));
    };
    size_t best = 0;
    Value best_key = key(items[0]);
    for (size_t i = 1; i < items.size(); ++i) {
        Value k = key(items[i]);
        if (largest ? less(in.heap(), best_key, k, ">") : less(in.heap(), k, best_key)) {
            best = i;
            best_key = std::move(k);
        }
    }
    return items[best];
}

Value sum(In& in, const Value& self, Args& args) {
    const AttributePath path(in, args.positional[0]);
    Value total = args.positional[1].is(Kind::missing) ? Value::integer(0) : args.positional[1];
    if (total.is(Kind::string)) raise("TypeError", "sum() can't sum strings [use ''.join(seq) instead]");
    for (const Value& item : iterate(in.heap(), self)) {
        in.heap().step();
        total = arithmetic(in.heap(), Arithmetic::add, total, path.of(item));
    }
    return total;
}

Value items(In& in, const Value& self, Args&) {
    if (self.is(Kind::undefined)) return make_iterator(in.heap(), {});
    if (!self.is(Kind::dict)) raise("TypeError", "Can only get item pairs from a mapping.");
    ListBuilder pairs(in.heap());
    for (const auto& [key, v] : self.as<Dict>().entries)
        pairs.push(make_list(in.heap(), {key, v}, Kind::tuple));
    return make_iterator(in.heap(), pairs.take());
}

// {% filter %} by name with the arguments behind the first `skip`.
Args remaining(Args& args, size_t skip) {
    Args rest;
    rest.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(skip),
                           args.positional.end());
    rest.named = args.named;
    return rest;
}

Value map(In& in, const Value& self, Args& args) {
    ListBuilder mapped(in.heap());
    if (args.positional.empty() && !args.named.empty()) {
        Value path, if_undefined;
        for (auto& [name, v] : args.named) {
            if (name != "attribute" && name != "default") {
                raise("FilterArgumentError", fmt::format("Unexpected keyword argument {}", text_repr(name)));
            }
            (name == "attribute" ? path : if_undefined) = v;
        }
        if (path.is(Kind::missing)) raise("FilterArgumentError", "map requires a filter argument");
        if (if_undefined.is(Kind::none)) if_undefined = Value();
        const AttributePath attribute(in, path);
        for (const Value& item : iterate(in.heap(), self)) mapped.push(attribute.of(item, if_undefined));
        return make_iterator(in.heap(), mapped.take());
    }
    if (args.positional.empty()) raise("FilterArgumentError", "map requires a filter argument");
    const std::string name(expect_text(args.positional[0], "filter name"));
    const Builtin* filter = find_filter(name);
    if (!filter) raise("TemplateRuntimeError", fmt::format("No filter named {}.", text_repr(name)));
    for (const Value& item : iterate(in.heap(), self)) {
        const Nesting nesting(in.heap());
        Args rest = remaining(args, 1);
        mapped.push(in.call(*filter, item, rest));
    }
    return make_iterator(in.heap(), mapped.take());
}

template <bool by_attribute, bool keep>
Value select(In& in, const Value& self, Args& args) {
    size_t used = 0;
    Value path;
    if (by_attribute) {
        if (args.positional.empty()) raise("FilterArgumentError", "Missing parameter for attribute name");
        path = args.positional[used++];
    }
    const AttributePath attribute(in, path);
    const Builtin* test = nullptr;
    if (args.positional.size() > used) {
        const std::string name(expect_text(args.positional[used++], "test name"));
        test = find_test(name);
        if (!test) raise("TemplateRuntimeError", fmt::format("No test named {}.", text_repr(name)));
    }
    ListBuilder kept(in.heap());
    for (const Value& item : iterate(in.heap(), self)) {
        const Nesting nesting(in.heap());
        const Value v = attribute.of(item);
        Args rest = remaining(args, used);
        const bool passed = truth(in.heap(), test ? in.call(*test, v, rest) : v);
        if (passed == keep) kept.push(item);
    }
    return make_iterator(in.heap(), kept.take());
}

Value batch(In& in, const Value& self, Args& args) {
    const int64_t size = expect_integer(args.positional[0]);
    const Value& fill = args.positional[1];
    ListBuilder batches(in.heap()), now(in.heap());
    int64_t n = 0;
    for (const Value& item : iterate(in.heap(), self)) {
        if (n == size) {
            batches.push(make_list(in.heap(), now.take()));
            n = 0;
        }
        now.push(item);
        ++n;
    }
    if (n > 0) {
        for (; n < size && !fill.is(Kind::missing) && !fill.is(Kind::none); ++n) now.push(fill);
        batches.push(make_list(in.heap(), now.take()));
    }
    return make_iterator(in.heap(), batches.take());
}

Value slices(In& in, const Value& self, Args& args) {
    const int64_t n = expect_integer(args.positional[0]);
    const Value& fill = args.positional[1];
    const auto items = iterate(in.heap(), self);
    if (n == 0) raise("ZeroDivisionError", "integer division or modulo by zero");
    const auto size = static_cast<int64_t>(items.size());
    const int64_t each = n > 0 ? size / n : 0, extra = n > 0 ? size % n : 0;
    ListBuilder result(in.heap());
    int64_t at = 0;
    for (int64_t i = 0; i < n; ++i) {
        in.heap().step();
        const int64_t end = at + each + (i < extra ? 1 : 0);
        std::vector<Value> part(items.begin() + at, items.begin() + end);
        if (i >= extra && !fill.is(Kind::missing) && !fill.is(Kind::none)) part.push_back(fill);
        result.push(make_list(in.heap(), std::move(part)));
        at = end;
    }
    return make_iterator(in.heap(), result.take());
}

Value groupby(In& in, const Value& self, Args& args) {
    Heap& heap = in.heap();
    const AttributePath path(in, args.positional[0]);
    const bool case_sensitive = flag(in, args.positional[2]);
    const auto items = iterate(heap, self);
    ListBuilder keys(heap);
    for (const Value& item : items)
        keys.push(ignoring_case(in, path.of(item, args.positional[1]), case_sensitive));
    ListBuilder groups(heap);
    std::vector<Value> members;
    Value grouper, group_key;
    const auto close = [&] {
        if (members.empty()) return;
        Value group = make_list(heap, {grouper, make_list(heap, std::exchange(members, {}))}, Kind::tuple);
        group.as<List>().is_group = true;
        groups.push(std::move(group));
    };
    for (Value& item : sorted(heap, items, keys.take(), false)) {
        const Value original = path.of(item, args.positional[1]);
        Value key = ignoring_case(in, original, case_sensitive);
        if (members.empty() || !equals(heap, key, group_key)) {
            close();
            grouper = original;
            group_key = std::move(key);
        }
        members.push_back(std::move(item));
    }
    close();
    return make_list(heap, groups.take());
}

constexpr Builtin filters[] = {
    {"first", "", first},
    {"last", "", last},
    {"join", "d? attribute?", join},
    {"list", "",
     [](In& in, const Value& self, Args&) { return make_list(in.heap(), iterate(in.heap(), self)); }},
    {"length", "",
     [](In& in, const Value& v, Args&) {
         return Value::integer(static_cast<int64_t>(length(in.heap(), v)));
     }},
    {"count", "",
     [](In& in, const Value& v, Args&) {
         return Value::integer(static_cast<int64_t>(length(in.heap(), v)));
     }},
    {"reverse", "", reverse},
    {"sort", "reverse? case_sensitive? attribute?", sort},
    {"dictsort", "case_sensitive? by? reverse?", dictsort},
    {"unique", "case_sensitive? attribute?", unique},
    {"min", "case_sensitive? attribute?", extreme<false>},
    {"max", "case_sensitive? attribute?", extreme<true>},
    {"sum", "attribute? start?", sum},
    {"items", "", items},
    {"map", "* **", map},
    {"select", "* **", select<false, true>},
    {"reject", "* **", select<false, false>},
    {"selectattr", "* **", select<true, true>},
    {"rejectattr", "* **", select<true, false>},
    {"batch", "linecount fill_with?", batch},
    {"slice", "slices fill_with?", slices},
    {"groupby", "attribute default? case_sensitive?", groupby},
};

}  // namespace

std::span<const Builtin> sequence_filters() {
    return filters;
}

}  // namespace smelt::jinja
