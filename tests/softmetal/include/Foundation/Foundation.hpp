// Foundation of the software Metal device: the part of Apple's metal-cpp that hosts of compute kernels use,
// with its names and signatures. Objects are counted; a call to one that is gone throws softmetal::Violation.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace NS {

using UInteger = std::uintptr_t;
using Integer = std::intptr_t;
using TimeInterval = double;

struct Range {
    static Range Make(UInteger loc, UInteger len) { return {loc, len}; }
    Range(UInteger loc, UInteger len) : location(loc), length(len) {}
    UInteger Max() const { return location + length; }
    UInteger location, length;
};

class Object {
 public:
    Object() = default;
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
    UInteger retainCount() const { return static_cast<UInteger>(count_.load()); }

 protected:
    virtual ~Object() = default;
    // The last reference is gone. The object itself stays for a while, so that late calls are noticed.
    virtual void dispose() {}
    void retain_();
    void release_();
    void autorelease_();
    void alive(const char* method) const;  // throws

 private:
    friend class AutoreleasePool;
    friend class Graveyard;
    std::atomic<int> count_ = 1;
};

template <class Class, class Base = Object>
class Referencing : public Base {
 public:
    Class* retain() {
        this->retain_();
        return static_cast<Class*>(this);
    }
    void release() { this->release_(); }
    Class* autorelease() {
        this->autorelease_();
        return static_cast<Class*>(this);
    }
};
template <class Class, class Base = Object>
class Copying : public Referencing<Class, Base> {};

class AutoreleasePool : public Object {
 public:
    static AutoreleasePool* alloc();
    AutoreleasePool* init();
    void drain() { release(); }
    void release();

 private:
    friend class Object;
    std::vector<Object*> objects_;
};

enum StringEncoding : UInteger { ASCIIStringEncoding = 1, UTF8StringEncoding = 4 };

class String : public Referencing<String> {
 public:
    static String* string(const char* text, StringEncoding encoding);
    static String* alloc() { return new String(); }
    String* init() { return this; }
    String* init(const char* text, StringEncoding encoding);
    const char* utf8String() const;
    const char* cString(StringEncoding) const { return utf8String(); }
    UInteger length() const { return text_.size(); }
    bool isEqualToString(const String* other) const { return text_ == other->text_; }

 private:
    std::string text_;
};

using ErrorDomain = String*;

class Error : public Referencing<Error> {
 public:
    static Error* error(ErrorDomain domain, Integer code, class Dictionary* = nullptr);
    static Error* make(const char* domain, Integer code, const std::string& description);  // the device's own
    Integer code() const { return code_; }
    String* domain() const;
    String* localizedDescription() const;

 private:
    Integer code_ = 0;
    std::string domain_, description_;
};

class Array : public Referencing<Array> {
 public:
    static Array* make(std::vector<Object*> objects);  // the device's own
    UInteger count() const { return objects_.size(); }
    template <class T = Object>
    T* object(UInteger index) const {
        return static_cast<T*>(objects_.at(index));
    }

 private:
    void dispose() override { objects_.clear(); }
    std::vector<Object*> objects_;
};

class URL : public Referencing<URL> {
 public:
    static URL* fileURLWithPath(const String* path);
    const char* fileSystemRepresentation() const { return path_.c_str(); }

 private:
    std::string path_;
};

struct OperatingSystemVersion {
    Integer majorVersion, minorVersion, patchVersion;
};

class ProcessInfo : public Referencing<ProcessInfo> {
 public:
    static ProcessInfo* processInfo();
    String* operatingSystemVersionString() const;
    OperatingSystemVersion operatingSystemVersion() const;
    bool isOperatingSystemAtLeastVersion(OperatingSystemVersion v) const;
    UInteger physicalMemory() const;
};

template <class Class>
class SharedPtr {
 public:
    SharedPtr() = default;
    SharedPtr(std::nullptr_t) {}
    SharedPtr(const SharedPtr& other) : object_(other.object_) {
        if (object_) object_->retain();
    }
    SharedPtr(SharedPtr&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    SharedPtr& operator=(SharedPtr other) {
        std::swap(object_, other.object_);
        return *this;
    }
    ~SharedPtr() {
        if (object_) object_->release();
    }
    Class* get() const { return object_; }
    Class* operator->() const { return object_; }
    explicit operator bool() const { return object_ != nullptr; }
    void reset() { *this = SharedPtr(); }
    void detach() { object_ = nullptr; }

 private:
    template <class C>
    friend SharedPtr<C> TransferPtr(C*);
    Class* object_ = nullptr;
};
template <class Class>
SharedPtr<Class> TransferPtr(Class* object) {
    SharedPtr<Class> p;
    p.object_ = object;
    return p;
}
template <class Class>
SharedPtr<Class> RetainPtr(Class* object) {
    if (object) object->retain();
    return TransferPtr(object);
}

}  // namespace NS
