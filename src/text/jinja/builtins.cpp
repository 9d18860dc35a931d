// Argument matching, the globals of chat templates, and the methods of everything that is not a string.
#include "text/jinja/builtins.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <unordered_map>

#include "text/jinja/interpreter.h"
#include "text/jinja/ops.h"

namespace smelt::jinja {

namespace {

using In = Interpreter;
using Args = CallArguments;

constexpr int64_t max_range = 100'000;  // Jinja's sandbox

Value raise_exception(In& in, const Value&, Args& args) {
    raise("TemplateError", to_text(in.heap(), args.positional[0]));
}

// One directive at a time, and without widths: "%99999999d" must not fill memory.
Value strftime_now(In& in, const Value&, Args& args) {
    const std::string format(expect_text(args.positional[0], "strftime() argument 1"));
    std::tm now{};
    if (in.options().now) {
        now = *in.options().now;
    } else {
        const std::time_t t = std::time(nullptr);
        localtime_r(&t, &now);
    }
    StringBuilder out(in.heap());
    for (size_t i = 0; i < format.size(); ++i) {
        if (format[i] != '%' || i + 1 == format.size()) {
            out.append(format[i]);
            continue;
        }
        in.heap().step(20);
        std::string directive = "%";
        if (std::string_view("-_0^#").find(format[i + 1]) != std::string_view::npos &&
            i + 2 < format.size()) {
            directive += format[++i];
        }
        const char letter = format[++i];
        directive += letter;
        if (letter == 'f') {
            out.append("000000");
        } else if (letter == 'z' || letter == 'Z') {
            continue;  // the time has no zone
        } else if (std::string_view("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY%").find(letter) !=
                   std::string_view::npos) {
            char text[128];
            out.append(std::string_view(text, std::strftime(text, sizeof text, directive.c_str(), &now)));
        } else {
            out.append(directive);
        }
    }
    return make_string(in.heap(), out.take());
}

Value range(In& in, const Value&, Args& args) {
    const auto& p = args.positional;
    const bool one = p[1].is(Kind::missing);
    const int64_t start = one ? 0 : expect_integer(p[0]);
    const int64_t stop = expect_integer(one ? p[0] : p[1]);
    const int64_t step = p[2].is(Kind::missing) ? 1 : expect_integer(p[2]);
    if (step == 0) raise("ValueError", "range() arg 3 must not be zero");
    const bool empty = step > 0 ? start >= stop : start <= stop;
    const uint64_t span = step > 0 ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start)
                                   : static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
    const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
    const uint64_t n = empty ? 0 : (span - 1) / stride + 1;
    if (n > max_range) {
        raise("OverflowError",
              fmt::format("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", max_range));
    }
    return Value(in.heap().make<Range>(0, start, stop, step, static_cast<int64_t>(n)));
}

// namespace(a_dict_or_pairs, name=value, ...) and dict(...)
Value make_mapping(In& in, Kind kind, Args& args) {
    Heap& heap = in.heap();
    Value mapping(heap.make<Dict>(0, kind));
    auto& dict = mapping.as<Dict>();
    const Value& source = args.positional[0];
    if (source.is(Kind::dict)) {
        for (const auto& [key, v] : source.as<Dict>().entries) dict_set(heap, dict, key, v);
    } else if (!source.is(Kind::missing)) {
        for (const Value& pair : iterate(heap, source)) {
            const auto parts = iterate(heap, pair);
            if (parts.size() != 2) {
                raise("ValueError",
                      fmt::format("dictionary update sequence element has length {}; 2 is required",
                                  parts.size()));
            }
            dict_set(heap, dict, parts[0], parts[1]);
        }
    }
    for (auto& [name, v] : args.named) dict_set(heap, dict, make_string(heap, name), v);
    return mapping;
}

Value cycler(In& in, const Value&, Args& args) {
    if (args.positional.empty()) raise("RuntimeError", "at least one item has to be provided");
    const size_t bytes = args.positional.size() * sizeof(Value);
    return Value(in.heap().make<Cycler>(bytes, std::move(args.positional)));
}

Value joiner(In& in, const Value&, Args& args) {
    Value& separator = args.positional[0];
    if (separator.is(Kind::missing)) separator = borrow_string(in.heap(), ", ");
    return Value(in.heap().make<Joiner>(0, std::move(separator)));
}

constexpr Builtin globals[] = {
    {"raise_exception", "message", raise_exception},
    {"strftime_now", "format", strftime_now},
    {"range", "start stop? step?", range},
    {"namespace", "source? **",
     [](In& in, const Value&, Args& a) { return make_mapping(in, Kind::name_space, a); }},
    {"dict", "source? **", [](In& in, const Value&, Args& a) { return make_mapping(in, Kind::dict, a); }},
    {"cycler", "*", cycler},
    {"joiner", "sep?", joiner},
};

Value dict_view(In& in, const Value& self, Kind kind) {
    ListBuilder items(in.heap());
    for (const auto& [key, v] : self.as<Dict>().entries) {
        in.heap().step();
        items.push(kind == Kind::keys     ? key
                   : kind == Kind::values ? v
                                          : make_list(in.heap(), {key, v}, Kind::tuple));
    }
    return make_list(in.heap(), items.take(), kind);
}

Value dict_get(In& in, const Value& self, Args& args) {
    if (const Value* found = dict_find(in.heap(), self.as<Dict>(), args.positional[0])) return *found;
    return args.positional[1].is(Kind::missing) ? Value::none() : args.positional[1];
}

Value dict_copy(In& in, const Value& self, Args&) {
    Value copy(in.heap().make<Dict>(0));
    for (const auto& [key, v] : self.as<Dict>().entries) dict_set(in.heap(), copy.as<Dict>(), key, v);
    return copy;
}

constexpr Builtin dict_methods[] = {
    {"get", "key default?", dict_get},
    {"items", "", [](In& in, const Value& self, Args&) { return dict_view(in, self, Kind::items); }},
    {"keys", "", [](In& in, const Value& self, Args&) { return dict_view(in, self, Kind::keys); }},
    {"values", "", [](In& in, const Value& self, Args&) { return dict_view(in, self, Kind::values); }},
    {"copy", "", dict_copy},
    {"clear", "", nullptr},
    {"pop", "", nullptr},
    {"popitem", "", nullptr},
    {"setdefault", "", nullptr},
    {"update", "", nullptr},
};

Value list_count(In& in, const Value& self, Args& args) {
    const auto& items = self.as<List>().items;
    return Value::integer(std::count_if(items.begin(), items.end(), [&](const Value& v) {
        return equals(in.heap(), v, args.positional[0]);
    }));
}

Value list_index(In& in, const Value& self, Args& args) {
    const auto& items = self.as<List>().items;
    for (size_t i = 0; i < items.size(); ++i) {
        if (equals(in.heap(), items[i], args.positional[0])) return Value::integer(static_cast<int64_t>(i));
    }
    raise("ValueError", self.is(Kind::list) ? to_text(in.heap(), args.positional[0]) + " is not in list"
                                            : "tuple.index(x): x not in tuple");
}

Value list_copy(In& in, const Value& self, Args&) {
    return make_list(in.heap(), iterate(in.heap(), self));
}

constexpr Builtin list_methods[] = {
    {"count", "value", list_count}, {"index", "value", list_index}, {"copy", "", list_copy},
    {"append", "", nullptr},        {"clear", "", nullptr},         {"pop", "", nullptr},
    {"reverse", "", nullptr},       {"insert", "", nullptr},        {"sort", "", nullptr},
    {"extend", "", nullptr},        {"remove", "", nullptr},
};

constexpr Builtin tuple_methods[] = {{"count", "value", list_count}, {"index", "value", list_index}};

Value loop_cycle(In&, const Value& self, Args& args) {
    if (args.positional.empty()) raise("TypeError", "no items for cycling given");
    return args.positional[self.as<Loop>().index0 % args.positional.size()];
}

Value loop_changed(In& in, const Value& self, Args& args) {
    Value& last = self.as<Loop>().last_changed;
    Value now = make_list(in.heap(), std::move(args.positional), Kind::tuple);
    if (!last.is(Kind::missing) && equals(in.heap(), last, now)) return Value::boolean(false);
    last = std::move(now);
    return Value::boolean(true);
}

constexpr Builtin loop_methods[] = {{"cycle", "*", loop_cycle}, {"changed", "*", loop_changed}};

Value cycler_next(In&, const Value& self, Args&) {
    auto& cycler = self.as<Cycler>();
    const Value now = cycler.items[cycler.position];
    cycler.position = (cycler.position + 1) % cycler.items.size();
    return now;
}

Value cycler_reset(In&, const Value& self, Args&) {
    self.as<Cycler>().position = 0;
    return Value::none();
}

constexpr Builtin cycler_methods[] = {{"next", "", cycler_next}, {"reset", "", cycler_reset}};

constexpr Builtin real_methods[] = {
    {"is_integer", "",
     [](In&, const Value& self, Args&) {
         return Value::boolean(std::floor(self.as_real()) == self.as_real());
     }},
};

const Builtin* find_in(std::span<const Builtin> table, std::string_view name) {
    const auto found =
        std::find_if(table.begin(), table.end(), [&](const Builtin& b) { return b.name == name; });
    return found == table.end() ? nullptr : &*found;
}

}  // namespace

const Builtin* find_global(std::string_view name) {
    return find_in(globals, name);
}

const Builtin* find_filter(std::string_view name) {
    for (const auto table : {string_filters(), value_filters(), sequence_filters(), markup_filters()}) {
        if (const Builtin* found = find_in(table, name)) return found;
    }
    return nullptr;
}

const Builtin* find_method(Kind kind, std::string_view name) {
    switch (kind) {
        case Kind::string:
            return find_in(string_methods(), name);
        case Kind::dict:
            return find_in(dict_methods, name);
        case Kind::list:
            return find_in(list_methods, name);
        case Kind::tuple:
            return find_in(tuple_methods, name);
        case Kind::loop:
            return find_in(loop_methods, name);
        case Kind::cycler:
            return find_in(cycler_methods, name);
        case Kind::real:
            return find_in(real_methods, name);
        default:
            return nullptr;
    }
}

void bind(const Builtin& builtin, CallArguments& args) {
    auto& positional = args.positional;
    size_t n = 0;
    bool more_positional = false, more_named = false;
    std::string_view rest = builtin.parameters;
    while (!rest.empty()) {
        std::string_view parameter = rest.substr(0, rest.find(' '));
        rest = rest.size() > parameter.size() ? rest.substr(parameter.size() + 1) : "";
        if (parameter == "*" || parameter == "**") {
            (parameter == "*" ? more_positional : more_named) = true;
            continue;
        }
        const bool optional = parameter.ends_with('?');
        if (optional) parameter.remove_suffix(1);
        ++n;
        if (positional.size() >= n) continue;
        const auto found = std::find_if(args.named.begin(), args.named.end(),
                                        [&](const auto& named) { return named.first == parameter; });
        if (found == args.named.end()) {
            if (!optional) {
                raise("TypeError",
                      fmt::format("{}() missing required argument: '{}'", builtin.name, parameter));
            }
            positional.emplace_back();
        } else {
            positional.push_back(std::move(found->second));
            args.named.erase(found);
        }
    }
    if (positional.size() > n && !more_positional) {
        raise("TypeError",
              fmt::format("{}() takes at most {} arguments ({} given)", builtin.name, n, positional.size()));
    }
    if (!args.named.empty() && !more_named) {
        raise("TypeError", fmt::format("{}() got an unexpected keyword argument {}", builtin.name,
                                       text_repr(args.named[0].first)));
    }
}

}  // namespace smelt::jinja
