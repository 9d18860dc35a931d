// Pointers into device, constant and threadgroup memory that know their bounds. The generator writes them
// where a kernel says `device T*`; an address space is part of the type, as in MSL.
#pragma once

#include <type_traits>

#include "softmetal/launch.h"

namespace softmetal {

struct Device {};
struct Constant {};
struct Threadgroup {};

// An element of threadgroup memory, whose reads and writes are looked at for races.
template <class T>
class Element {
 public:
    explicit Element(T* at) : at_(at) {}
    operator T() const {
        touch_threadgroup_memory(at_, sizeof(T), false);
        return *at_;
    }
    T operator=(T value) const {
        touch_threadgroup_memory(at_, sizeof(T), true);
        return *at_ = value;
    }
    T operator=(const Element& other) const { return *this = static_cast<T>(other); }
    T operator+=(T value) const { return *this = static_cast<T>(static_cast<T>(*this) + value); }
    T operator-=(T value) const { return *this = static_cast<T>(static_cast<T>(*this) - value); }
    T operator*=(T value) const { return *this = static_cast<T>(static_cast<T>(*this) * value); }
    T operator/=(T value) const { return *this = static_cast<T>(static_cast<T>(*this) / value); }
    T operator|=(T value) const { return *this = static_cast<T>(static_cast<T>(*this) | value); }
    T operator++() const { return *this += 1; }

 private:
    T* at_;
};
template <class T>
inline constexpr bool has_elements = std::is_arithmetic_v<T>;  // also the small floats, see small_float.h

template <class Space, class T>
class ptr {
 public:
    ptr() = default;
    ptr(std::nullptr_t) {}
    ptr(T* address, const Range* range) : address_(address), range_(range) {}
    // Adds const; or, explicitly, reads the bytes as another type.
    template <class U>
    explicit(!std::is_convertible_v<U*, T*>) ptr(const ptr<Space, U>& other)
        : address_((T*)(other.address())), range_(other.range()) {}

    T* address() const { return address_; }
    const Range* range() const { return range_; }

    template <class I>
    decltype(auto) operator[](I i) const {
        return at(address_ + i);
    }
    decltype(auto) operator*() const { return at(address_); }
    T* operator->() const {
        check(address_);
        return address_;
    }
    explicit operator bool() const { return address_ != nullptr; }

    template <class I>
    ptr operator+(I n) const {
        return {address_ + n, range_};
    }
    template <class I>
    requires std::is_integral_v<I> ptr operator-(I n) const { return {address_ - n, range_}; }
    ptrdiff_t operator-(const ptr& other) const { return address_ - other.address_; }
    template <class I>
    ptr& operator+=(I n) {
        address_ += n;
        return *this;
    }
    template <class I>
    ptr& operator-=(I n) {
        address_ -= n;
        return *this;
    }
    ptr& operator++() { return *this += 1; }
    ptr& operator--() { return *this -= 1; }
    ptr operator++(int) {
        const ptr old = *this;
        ++*this;
        return old;
    }
    bool operator==(const ptr& other) const { return address_ == other.address_; }
    auto operator<=>(const ptr& other) const { return address_ <=> other.address_; }

    void check(const T* at) const {
        const uintptr_t offset =
            reinterpret_cast<uintptr_t>(at) - reinterpret_cast<uintptr_t>(range_ ? range_->begin : nullptr);
        if (range_ == nullptr || range_->size < sizeof(T) || offset > range_->size - sizeof(T) ||
            reinterpret_cast<uintptr_t>(at) % alignof(T) != 0) [[unlikely]]
            fail(at);
    }

 private:
    decltype(auto) at(T* place) const {
        if constexpr (std::is_array_v<T>) {  // a row of a two-dimensional array
            return ptr<Space, std::remove_extent_t<T>>(&(*place)[0], range_);
        } else if constexpr (std::is_same_v<Space, Threadgroup> && std::is_const_v<T>) {
            check(place);
            touch_threadgroup_memory(place, sizeof(T), false);
            return static_cast<T&>(*place);
        } else if constexpr (std::is_same_v<Space, Threadgroup> && has_elements<T>) {
            check(place);
            return Element<T>(place);
        } else {
            check(place);
            return static_cast<T&>(*place);
        }
    }
    [[noreturn, gnu::cold, gnu::noinline]] void fail(const T* at) const {
        static const Range null{};
        report_access(range_ ? *range_ : null, at, sizeof(T), alignof(T));
    }
    T* address_ = nullptr;
    const Range* range_ = nullptr;
};

template <class To, class From>
To cast(const From& from) {
    return To(from);
}

// `constant T name[n] = {...}` at program scope.
template <class T, int n>
struct table {
    T values[n];
    template <class I>
    constexpr const T& operator[](I i) const {
        if (static_cast<uint64_t>(i) >= n) [[unlikely]]
            report_index("a table of program scope", static_cast<int64_t>(i), n);
        return values[i];
    }
    operator ptr<Constant, const T>() const {
        static const Range range{reinterpret_cast<char*>(const_cast<T*>(values)), sizeof values,
                                 "a table of program scope"};
        return {values, &range};
    }
};

// --- Arguments of a kernel ---

struct PointerArgument {
    const Range* range;
    template <class Space, class T>
    operator ptr<Space, T>() const {
        return {reinterpret_cast<T*>(range->begin), range};
    }
};

struct ReferenceArgument {
    const Range* range;
    template <class T>
    operator T&() const {
        ptr<Device, T>(reinterpret_cast<T*>(range->begin), range).check(reinterpret_cast<T*>(range->begin));
        return *reinterpret_cast<T*>(range->begin);
    }
};

inline PointerArgument pointer_argument(const Launch& l, int index) {
    return {&l.buffers[index]};
}
inline ReferenceArgument reference_argument(const Launch& l, int index) {
    return {&l.buffers[index]};
}
inline PointerArgument threadgroup_argument(const Launch&, int index) {
    return {&threadgroup_argument_range(index)};
}

// An array that a kernel declares in threadgroup memory.
template <class T>
ptr<Threadgroup, T> shared(const void* site, const char* name, size_t n) {
    const Range& range = shared_range(site, name, n * sizeof(T), alignof(T));
    return {reinterpret_cast<T*>(range.begin), &range};
}

}  // namespace softmetal
