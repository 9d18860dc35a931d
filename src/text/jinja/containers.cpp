// Dicts, iteration, subscripts and slices of template values.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

constexpr size_t indexed_from = 9;  // entries; below, comparing all beats hashing

size_t hash_text(Heap& heap, std::string_view text) {
    heap.touch(text.size());
    return std::hash<std::string_view>()(text);
}

void index_entry(Heap& heap, Dict& dict, size_t h, size_t position) {
    heap.step(4);
    heap.charge(dict, 48);  // a node and its share of buckets
    dict.index.emplace(h, static_cast<uint32_t>(position));
}

void append_entry(Heap& heap, Dict& dict, const Value& key, Value value) {
    heap.step(2);
    heap.charge(dict, 2 * sizeof(Value));
    dict.entries.emplace_back(key, std::move(value));
    const size_t n = dict.entries.size();
    if (n == indexed_from) {
        for (size_t i = 0; i < n; ++i) index_entry(heap, dict, hash(heap, dict.entries[i].first), i);
    } else if (n > indexed_from) {
        index_entry(heap, dict, hash(heap, key), n - 1);
    }
}

int64_t clamp_bound(const Value& bound, int64_t n, int64_t if_none, int64_t low, int64_t high) {
    if (bound.is(Kind::none)) return if_none;
    if (bound.is(Kind::undefined)) fail_undefined(bound);
    if (!is_integral(bound)) {
        raise("TypeError", "slice indices must be integers or None or have an __index__ method");
    }
    const int64_t i = bound.as_integer();
    return std::clamp(i < 0 ? i + n : i, low, high);
}

struct SliceBounds {
    int64_t start, step, count;
};

SliceBounds slice_bounds(int64_t n, const Value& start, const Value& stop, const Value& step) {
    const int64_t s = step.is(Kind::none) ? 1 : clamp_bound(step, 0, 1, INT64_MIN, INT64_MAX);
    if (s == 0) raise("ValueError", "slice step cannot be zero");
    const bool up = s > 0;
    const int64_t a = up ? clamp_bound(start, n, 0, 0, n) : clamp_bound(start, n, n - 1, -1, n - 1);
    const int64_t b = up ? clamp_bound(stop, n, n, 0, n) : clamp_bound(stop, n, -1, -1, n - 1);
    const int64_t span = up ? b - a : a - b;
    const uint64_t stride = up ? static_cast<uint64_t>(s) : 0 - static_cast<uint64_t>(s);
    const int64_t count =
        span <= 0 ? 0 : static_cast<int64_t>((static_cast<uint64_t>(span) - 1) / stride) + 1;
    return {a, s, count};
}

Value slice_string(Heap& heap, const Value& v, SliceBounds b) {
    if (b.count == 0) return borrow_string(heap, "");
    if (b.step == 1) return make_string(heap, std::string(string_slice(heap, v, b.start, b.start + b.count)));
    const std::string_view text = text_of(v);
    heap.touch(text.size());
    heap.room_for(text.size() * 5);
    std::vector<uint32_t> offsets;
    for (size_t at = 0; at < text.size(); next_char(text, at)) offsets.push_back(static_cast<uint32_t>(at));
    std::string result;
    for (int64_t i = 0; i < b.count; ++i) {
        size_t at = offsets[static_cast<size_t>(b.start + i * b.step)];
        append_char(result, next_char(text, at));
    }
    return make_string(heap, std::move(result));
}

}  // namespace

size_t hash(Heap& heap, const Value& v) {
    switch (v.kind()) {
        case Kind::string:
            return hash_text(heap, text_of(v));
        case Kind::none:
            return 1;
        case Kind::boolean:
        case Kind::integer:
            return std::hash<int64_t>()(v.as_integer());
        case Kind::big:
            return std::hash<double>()(to_real(v));
        case Kind::real: {
            const double d = v.as_real();
            const bool integral = std::floor(d) == d && std::fabs(d) < 9e18;
            return integral ? std::hash<int64_t>()(static_cast<int64_t>(d)) : std::hash<double>()(d);
        }
        case Kind::tuple: {
            const Nesting nesting(heap);
            size_t h = 7;
            for (const Value& item : v.as<List>().items) h = h * 1000003 + hash(heap, item);
            return h;
        }
        case Kind::list:
        case Kind::dict:
        case Kind::keys:
        case Kind::items:
            raise("TypeError", fmt::format("unhashable type: '{}'", type_name(v)));
        case Kind::undefined:
            return 3;
        default:
            return std::hash<const void*>()(v.object());
    }
}

Value* dict_find(Heap& heap, Dict& dict, const Value& key) {
    if (key.is(Kind::string)) return dict_find(heap, dict, text_of(key));
    const size_t h = hash(heap, key);
    if (dict.index.empty()) {
        for (auto& [k, v] : dict.entries) {
            if (equals(heap, k, key)) return &v;
        }
        return nullptr;
    }
    for (auto [it, end] = dict.index.equal_range(h); it != end; ++it) {
        if (equals(heap, dict.entries[it->second].first, key)) return &dict.entries[it->second].second;
    }
    return nullptr;
}

Value* dict_find(Heap& heap, Dict& dict, std::string_view key) {
    const auto matches = [&](const Value& k) {
        if (!k.is(Kind::string) || text_of(k).size() != key.size()) return false;
        heap.touch(key.size());
        return text_of(k) == key;
    };
    if (dict.index.empty()) {
        for (auto& [k, v] : dict.entries) {
            if (matches(k)) return &v;
        }
        return nullptr;
    }
    for (auto [it, end] = dict.index.equal_range(hash_text(heap, key)); it != end; ++it) {
        heap.step();
        if (matches(dict.entries[it->second].first)) return &dict.entries[it->second].second;
    }
    return nullptr;
}

void dict_set(Heap& heap, Dict& dict, const Value& key, Value value) {
    heap.step();
    if (Value* found = dict_find(heap, dict, key)) {
        *found = std::move(value);
    } else {
        append_entry(heap, dict, key, std::move(value));
    }
}

int64_t string_length(Heap& heap, const Value& s) {
    auto& string = s.as<String>();
    if (string.n_chars < 0) {
        heap.touch(string.text.size());
        string.n_chars = static_cast<int64_t>(count_chars(string.text));
    }
    return string.n_chars;
}

std::string_view string_slice(Heap& heap, const Value& s, int64_t begin, int64_t end) {
    const std::string_view text = text_of(s);
    const auto first = static_cast<size_t>(begin), n = static_cast<size_t>(end - begin);
    const bool ascii = static_cast<size_t>(string_length(heap, s)) == text.size();
    heap.touch(ascii ? n : text.size());
    if (ascii) return text.substr(first, n);
    const size_t from = char_offset(text, first);
    return text.substr(from, char_offset(text.substr(from), n));
}

size_t length(Heap& heap, const Value& v) {
    switch (v.kind()) {
        case Kind::undefined:
            return 0;
        case Kind::string:
            return static_cast<size_t>(string_length(heap, v));
        case Kind::list:
        case Kind::tuple:
        case Kind::keys:
        case Kind::values:
        case Kind::items:
            return v.as<List>().items.size();
        case Kind::dict:
            return v.as<Dict>().entries.size();
        case Kind::range:
            return static_cast<size_t>(v.as<Range>().size);
        case Kind::loop:
            return 1;  // a loop variable is only seen while an item is
        default:
            raise("TypeError", fmt::format("object of type '{}' has no len()", type_name(v)));
    }
}

bool is_iterable(const Value& v) {
    return v.is(Kind::undefined) || v.is(Kind::string) || is_list_like(v) || v.is(Kind::range) ||
           v.is(Kind::iterator) || v.is(Kind::loop);
}

std::vector<Value> iterate(Heap& heap, const Value& v) {
    ListBuilder items(heap);
    switch (v.kind()) {
        case Kind::undefined:
            break;
        case Kind::string: {
            const std::string_view text = text_of(v);
            for (size_t at = 0; at < text.size();) {
                const size_t begin = at;
                next_char(text, at);
                heap.step();
                items.push(make_string(heap, std::string(text.substr(begin, at - begin))));
            }
            break;
        }
        case Kind::list:
        case Kind::tuple:
        case Kind::keys:
        case Kind::values:
        case Kind::items: {
            const auto& list = v.as<List>().items;
            heap.room_for(list.size() * sizeof(Value));
            heap.touch(list.size() * sizeof(Value));
            return list;
        }
        case Kind::dict:
            for (const auto& entry : v.as<Dict>().entries) items.push(entry.first);
            break;
        case Kind::range: {
            const auto& r = v.as<Range>();
            for (int64_t i = 0; i < r.size; ++i) items.push(Value::integer(r.start + i * r.step));
            break;
        }
        case Kind::iterator: {
            auto& it = v.as<Iterator>();
            while (it.next_item < it.items.size()) items.push(std::move(it.items[it.next_item++]));
            break;
        }
        default:
            raise("TypeError", fmt::format("'{}' object is not iterable", type_name(v)));
    }
    return items.take();
}

std::optional<Value> subscript(Heap& heap, const Value& v, const Value& key) {
    switch (v.kind()) {
        case Kind::undefined:
            fail_undefined(v);
        case Kind::dict: {
            if (key.is(Kind::list) || key.is(Kind::dict)) return std::nullopt;
            const Value* found = dict_find(heap, v.as<Dict>(), key);
            return found ? std::optional(*found) : std::nullopt;
        }
        case Kind::string:
        case Kind::list:
        case Kind::tuple:
        case Kind::range:
            break;
        default:
            return std::nullopt;
    }
    if (!is_integral(key)) return std::nullopt;
    const auto n = static_cast<int64_t>(length(heap, v));
    int64_t i = key.as_integer();
    if (i < -n || i >= n) return std::nullopt;
    if (i < 0) i += n;
    if (v.is(Kind::string)) return make_string(heap, std::string(string_slice(heap, v, i, i + 1)));
    if (v.is(Kind::range)) return Value::integer(v.as<Range>().start + i * v.as<Range>().step);
    return v.as<List>().items[static_cast<size_t>(i)];
}

Value slice(Heap& heap, const Value& v, const Value& start, const Value& stop, const Value& step) {
    if (v.is(Kind::undefined)) fail_undefined(v);
    const bool sliceable = v.is(Kind::string) || v.is(Kind::list) || v.is(Kind::tuple) || v.is(Kind::range);
    if (!sliceable) return Value();
    const auto n = static_cast<int64_t>(length(heap, v));
    const SliceBounds b = slice_bounds(n, start, stop, step);
    if (v.is(Kind::string)) return slice_string(heap, v, b);
    if (v.is(Kind::range)) {
        const auto& r = v.as<Range>();
        const int64_t stride = b.count > 1 ? r.step * b.step : r.step;
        const int64_t first = r.start + b.start * r.step;
        return Value(heap.make<Range>(0, first, first + b.count * stride, stride, b.count));
    }
    const auto& items = v.as<List>().items;
    heap.room_for(static_cast<size_t>(b.count) * sizeof(Value));
    heap.touch(static_cast<size_t>(b.count) * sizeof(Value));
    std::vector<Value> picked;
    picked.reserve(static_cast<size_t>(b.count));
    for (int64_t i = 0; i < b.count; ++i) picked.push_back(items[static_cast<size_t>(b.start + i * b.step)]);
    return make_list(heap, std::move(picked), v.kind());
}

std::vector<Value> sorted(Heap& heap, const std::vector<Value>& items, const std::vector<Value>& keys,
                          bool reverse) {
    heap.room_for(items.size() * (sizeof(Value) + 2 * sizeof(uint32_t)));
    std::vector<uint32_t> order(items.size()), merged(items.size());
    std::iota(order.begin(), order.end(), 0);
    // Merge sort of its own: std::stable_sort must not see an order that contradicts itself (NaN).
    for (size_t width = 1; width < order.size(); width *= 2) {
        for (size_t begin = 0; begin < order.size(); begin += 2 * width) {
            const size_t middle = std::min(begin + width, order.size());
            const size_t end = std::min(begin + 2 * width, order.size());
            size_t left = begin, right = middle;
            for (size_t at = begin; at < end; ++at) {
                const bool take_right =
                    right < end &&
                    (left >= middle || (reverse ? less(heap, keys[order[left]], keys[order[right]])
                                                : less(heap, keys[order[right]], keys[order[left]])));
                merged[at] = order[take_right ? right++ : left++];
            }
        }
        order.swap(merged);
    }
    std::vector<Value> result;
    result.reserve(items.size());
    for (const uint32_t i : order) result.push_back(items[i]);
    return result;
}

Value from_json(Heap& heap, const Json& json) {
    const Nesting nesting(heap);
    const auto from_text = [&](const std::string& text) {
        if (find_invalid_utf8(text) != std::string::npos) raise("ValueError", "the input is not UTF-8");
        return borrow_string(heap, text);
    };
    switch (json.type()) {
        case Json::value_t::boolean:
            return Value::boolean(json.get<bool>());
        case Json::value_t::number_integer:
            return Value::integer(json.get<int64_t>());
        case Json::value_t::number_unsigned: {
            const auto u = json.get<uint64_t>();
            return u <= INT64_MAX ? Value::integer(static_cast<int64_t>(u)) : Value(heap.make<Big>(0, u));
        }
        case Json::value_t::number_float:
            return Value::real(json.get<double>());
        case Json::value_t::string:
            return from_text(json.get_ref<const std::string&>());
        case Json::value_t::array: {
            std::vector<Value> items;
            items.reserve(json.size());
            for (const auto& item : json) items.push_back(from_json(heap, item));
            return make_list(heap, std::move(items));
        }
        case Json::value_t::object: {
            Value dict(heap.make<Dict>(0));
            for (const auto& [key, item] : json.items()) {
                dict_set(heap, dict.as<Dict>(), from_text(key), from_json(heap, item));
            }
            return dict;
        }
        default:
            return Value::none();
    }
}

}  // namespace smelt::jinja
