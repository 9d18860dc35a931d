#include "text/jinja/value.h"

#include <algorithm>

#include "base/error.h"
#include "text/jinja/ops.h"

namespace smelt::jinja {

void raise(std::string_view type, std::string message) {
    throw Raised{std::string(type), std::move(message)};
}

Value Value::real(double d) {
    Value v(Kind::real, 0);
    v.real_ = d;
    return v;
}

// Cycles (a namespace that holds itself, a macro in its own scope) are still here at the end. Pinned first,
// so that no object goes while another one still lets go of it.
Heap::~Heap() {
    for (Object* o = objects_; o; o = o->next) ++o->references;
    for (Object* o = objects_; o; o = o->next) o->clear();
    while (objects_) {
        Object* o = objects_;
        objects_ = o->next;
        delete o;
    }
}

void Heap::adopt(Object* object, size_t cost) {
    object->heap = this;
    object->cost = cost;
    live_ += cost;
    object->next = objects_;
    if (objects_) objects_->previous = object;
    objects_ = object;
}

void Heap::drop(Object* object) {
    live_ -= object->cost;
    delete object;
}

// What an object held may die with it: it queues up here instead of nesting on the stack.
void Heap::bury(Object* object) {
    (object->previous ? object->previous->next : objects_) = object->next;
    if (object->next) object->next->previous = object->previous;
    object->previous = nullptr;
    object->next = dead_;
    dead_ = object;
    if (burying_) return;
    burying_ = true;
    while (dead_) {
        Object* o = dead_;
        dead_ = o->next;
        drop(o);
    }
    burying_ = false;
}

void Heap::out_of_steps() const {
    raise("BudgetError", fmt::format("the template takes more than {} steps", limits_.max_steps));
}

void Heap::out_of_memory() const {
    raise("BudgetError",
          fmt::format("the template makes more than {} bytes of text and values", limits_.max_output));
}

void Heap::too_deep() {
    --depth_;  // the guard that called is not constructed, so it will not leave
    raise("BudgetError", fmt::format("the template nests deeper than {} levels", limits_.max_depth));
}

// Half as much again, not twice: near the limit there is no room for twice.
void StringBuilder::grow(size_t size) {
    const size_t capacity = std::max(size, text_.size() + text_.size() / 2);
    heap_.hold(capacity - held_);
    held_ = capacity;
    text_.reserve(capacity);
}

void ListBuilder::grow() {
    const size_t capacity = items_.size() + items_.size() / 2 + 4;
    heap_.hold(capacity * sizeof(Value) - held_);
    held_ = capacity * sizeof(Value);
    items_.reserve(capacity);
}

Value make_string(Heap& heap, std::string text) {
    const size_t n = text.size();
    return Value(heap.make<String>(n, std::move(text)));
}

Value borrow_string(Heap& heap, std::string_view text) {
    return Value(heap.make<String>(0, text));
}

Value make_list(Heap& heap, std::vector<Value> items, Kind kind) {
    const size_t bytes = items.size() * sizeof(Value);
    return Value(heap.make<List>(bytes, kind, std::move(items)));
}

Value make_iterator(Heap& heap, std::vector<Value> items, std::string_view name) {
    const size_t bytes = items.size() * sizeof(Value);
    return Value(heap.make<Iterator>(bytes, std::move(items), name));
}

Value make_undefined(Heap& heap, std::string hint) {
    const size_t n = hint.size();
    return Value(heap.make<Undefined>(n, Undefined::Reason::hint, std::move(hint)));
}

Value make_undefined(Heap& heap, Undefined::Reason reason, std::string_view name, const Value& object) {
    return Value(
        heap.make<Undefined>(name.size(), reason, std::string(name), object.kind(), type_name(object)));
}

}  // namespace smelt::jinja
