// The values that a template computes with, and the heap that owns and counts them during one render.
// Nothing here knows the syntax. Values are Python's as far as templates can tell.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/chat_template.h"

namespace smelt::jinja {

// A Python exception on its way out; render() adds the line.
struct Raised {
    std::string type;
    std::string message;
};
[[noreturn]] void raise(std::string_view type, std::string message);

enum class Kind : uint8_t {
    missing,  // no value: an argument that was not passed
    none,
    boolean,
    integer,
    real,
    // Below: objects on the heap.
    big,  // integers of the input in [2^63, 2^64): printed, but not computed with
    undefined,
    string,
    list,  // from here to items: a List
    tuple,
    keys,  // dict views
    values,
    items,
    dict,
    iterator,
    range,
    name_space,
    function,
    macro,
    loop,
    cycler,
    joiner,
    scope,
};

class Heap;

struct Object {
    explicit Object(Kind k) : kind(k) {}
    virtual ~Object() = default;
    virtual void clear() {}                                      // lets go of every value it holds
    virtual std::string describe() const { return "<object>"; }  // repr() of what has no printed form
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;

    const Kind kind;
    uint32_t references = 0;
    size_t cost = 0;  // bytes charged
    Heap* heap = nullptr;
    Object *previous = nullptr, *next = nullptr;
};

class Value {
 public:
    Value() : integer_(0) {}
    Value(const Value& other) : kind_(other.kind_), integer_(other.integer_) { retain(); }
    Value(Value&& other) noexcept : kind_(other.kind_), integer_(other.integer_) {
        other.kind_ = Kind::missing;
    }
    Value& operator=(Value other) noexcept {
        std::swap(kind_, other.kind_);
        std::swap(integer_, other.integer_);
        return *this;
    }
    explicit Value(Object* object) : kind_(object->kind), object_(object) { retain(); }
    ~Value() { release(); }

    static Value none() { return Value(Kind::none, 0); }
    static Value boolean(bool b) { return Value(Kind::boolean, b); }
    static Value integer(int64_t i) { return Value(Kind::integer, i); }
    static Value real(double d);

    Kind kind() const { return kind_; }
    bool is(Kind k) const { return kind_ == k; }
    bool is_object() const { return kind_ > Kind::real; }
    bool as_bool() const { return integer_ != 0; }
    int64_t as_integer() const { return integer_; }  // also of a boolean
    double as_real() const { return real_; }
    Object* object() const { return object_; }
    template <class T>
    T& as() const {
        return static_cast<T&>(*object_);
    }

 private:
    Value(Kind kind, int64_t payload) : kind_(kind), integer_(payload) {}
    void retain() const {
        if (is_object()) ++object_->references;
    }
    inline void release();

    Kind kind_ = Kind::missing;
    union {
        int64_t integer_;
        double real_;
        Object* object_;
    };
};

// Counts steps, depth and live bytes of one render against the limits, and frees objects without recursion,
// however deep they nest.
class Heap {
 public:
    explicit Heap(TemplateLimits limits)
        : limits_(limits),
          max_touched_(std::min(limits.max_steps, SIZE_MAX / touches_per_step) * touches_per_step) {}
    ~Heap();
    Heap(const Heap&) = delete;
    Heap& operator=(const Heap&) = delete;

    // One evaluated node, or work of about 50 ns.
    void step(size_t n = 1) { touch(n * touches_per_step); }
    // Work on n bytes or the like that are no nodes.
    void touch(size_t n) {
        touched_ += n;
        if (touched_ > max_touched_) [[unlikely]]
            out_of_steps();
    }
    // To be called before n bytes are allocated.
    void room_for(size_t n) const {
        if (n > limits_.max_output || live_ > limits_.max_output - n) [[unlikely]]
            out_of_memory();
    }
    size_t max_bytes() const { return limits_.max_output; }

    // Bytes of a string or list that is still in the making.
    void hold(size_t n) {
        room_for(n);
        live_ += n;
    }
    void let_go(size_t n) { live_ -= n; }

    void enter() {
        if (++depth_ > limits_.max_depth) [[unlikely]]
            too_deep();
    }
    void leave() { --depth_; }

    template <class T, class... Args>
    T* make(size_t payload, Args&&... args) {
        const size_t cost = sizeof(T) + payload;
        room_for(cost);
        T* object = new T(std::forward<Args>(args)...);
        adopt(object, cost);
        return object;
    }
    void charge(Object& object, size_t n) {
        room_for(n);
        object.cost += n;
        live_ += n;
    }
    void bury(Object* object);

 private:
    void adopt(Object* object, size_t cost);
    void drop(Object* object);
    [[noreturn]] void out_of_steps() const;
    [[noreturn]] void out_of_memory() const;
    [[noreturn]] void too_deep();

    TemplateLimits limits_;
    static constexpr size_t touches_per_step = 32;
    size_t max_touched_;
    size_t touched_ = 0, live_ = 0;
    int depth_ = 0;
    Object* objects_ = nullptr;
    Object* dead_ = nullptr;
    bool burying_ = false;
};

inline void Value::release() {
    if (is_object() && --object_->references == 0) object_->heap->bury(object_);
}

// Depth of C++ recursion while it lives.
class Nesting {
 public:
    explicit Nesting(Heap& heap) : heap_(heap) { heap.enter(); }
    ~Nesting() { heap_.leave(); }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

 private:
    Heap& heap_;
};

struct Big : Object {
    explicit Big(uint64_t v) : Object(Kind::big), value(v) {}
    uint64_t value;
};

// What an operation on it complains about is put into words only then: most are just tested.
struct Undefined : Object {
    enum class Reason : uint8_t { hint, name, attribute, unsafe };
    Undefined(Reason r, std::string t, Kind k = Kind::none, std::string_view n = {})
        : Object(Kind::undefined), reason(r), object_kind(k), object_type(n), text(std::move(t)) {}
    Reason reason;
    Kind object_kind;              // of the object that has no such attribute
    std::string_view object_type;  // its type_name()
    std::string text;              // the hint, or the name that was asked for
};

struct String : Object {
    explicit String(std::string s) : Object(Kind::string), owned(std::move(s)), text(owned) {}
    // `borrowed` outlives the render: input or template text.
    explicit String(std::string_view borrowed) : Object(Kind::string), text(borrowed) {}
    const std::string owned;
    const std::string_view text;  // UTF-8
    int64_t n_chars = -1;         // code points; -1 where not counted yet
    bool markup = false;          // |safe, |escape
};

// list, tuple, and the views of a dict.
struct List : Object {
    List(Kind k, std::vector<Value> v) : Object(k), items(std::move(v)) {}
    void clear() override { items.clear(); }
    std::vector<Value> items;
    bool is_group = false;  // a pair of |groupby: also .grouper and .list
};

// What Python would compute lazily: can be walked once.
struct Iterator : Object {
    Iterator(std::vector<Value> v, std::string_view n)
        : Object(Kind::iterator), items(std::move(v)), name(n) {}
    void clear() override { items.clear(); }
    std::string describe() const override { return "<generator object>"; }
    std::vector<Value> items;
    size_t next_item = 0;
    std::string_view name;
};

// dict and namespace. Keeps the order of insertion.
struct Dict : Object {
    explicit Dict(Kind k = Kind::dict) : Object(k) {}
    void clear() override { entries.clear(); }
    std::vector<std::pair<Value, Value>> entries;
    std::unordered_multimap<size_t, uint32_t> index;  // hash -> entry; empty while there are few
};

struct Range : Object {
    Range(int64_t a, int64_t b, int64_t s, int64_t n)
        : Object(Kind::range), start(a), stop(b), step(s), size(n) {}
    int64_t start, stop, step, size;
};

struct Cycler : Object {
    explicit Cycler(std::vector<Value> v) : Object(Kind::cycler), items(std::move(v)) {}
    void clear() override { items.clear(); }
    std::vector<Value> items;
    size_t position = 0;
};

struct Joiner : Object {
    explicit Joiner(Value s) : Object(Kind::joiner), separator(std::move(s)) {}
    void clear() override { separator = Value(); }
    Value separator;
    bool used = false;
};

Value make_string(Heap& heap, std::string text);
Value borrow_string(Heap& heap, std::string_view text);
Value make_list(Heap& heap, std::vector<Value> items, Kind kind = Kind::list);
Value make_iterator(Heap& heap, std::vector<Value> items, std::string_view name = "generator");
Value make_undefined(Heap& heap, std::string hint);
Value make_undefined(Heap& heap, Undefined::Reason reason, std::string_view name, const Value& object = {});

inline std::string_view text_of(const Value& v) {
    return v.as<String>().text;
}

// A string and a list in the making, counted while they grow.
class StringBuilder {
 public:
    explicit StringBuilder(Heap& heap) : heap_(heap) {}
    ~StringBuilder() { heap_.let_go(held_); }
    StringBuilder(const StringBuilder&) = delete;
    StringBuilder& operator=(const StringBuilder&) = delete;

    void append(std::string_view s) {
        if (text_.size() + s.size() > text_.capacity()) grow(text_.size() + s.size());
        heap_.touch(s.size() + 8);
        text_.append(s);
    }
    void append(char c) { append(std::string_view(&c, 1)); }
    size_t size() const { return text_.size(); }
    std::string take() {
        heap_.let_go(std::exchange(held_, 0));
        return std::exchange(text_, {});
    }

 private:
    void grow(size_t size);

    Heap& heap_;
    std::string text_;
    size_t held_ = 0;
};

class ListBuilder {
 public:
    explicit ListBuilder(Heap& heap) : heap_(heap) {}
    ~ListBuilder() { heap_.let_go(held_); }
    ListBuilder(const ListBuilder&) = delete;
    ListBuilder& operator=(const ListBuilder&) = delete;

    void push(Value v) {
        if (items_.size() == items_.capacity()) grow();
        heap_.touch(sizeof(Value));
        items_.push_back(std::move(v));
    }
    std::vector<Value> take() {
        heap_.let_go(std::exchange(held_, 0));
        return std::exchange(items_, {});
    }

 private:
    void grow();

    Heap& heap_;
    std::vector<Value> items_;
    size_t held_ = 0;
};

}  // namespace smelt::jinja
