// Counted objects, autorelease pools, strings and errors of the software Metal device.
#include <unistd.h>

#include <deque>
#include <mutex>

#include "softmetal/softmetal.h"

namespace NS {

// Objects whose last reference is gone, oldest first: late calls to them are noticed.
class Graveyard {
 public:
    ~Graveyard() {
        for (const Object* o : dead_) delete o;
    }
    void bury(const Object* object) {
        const Object* oldest = nullptr;
        {
            const std::lock_guard lock(mutex_);
            dead_.push_back(object);
            if (dead_.size() > 4096) {
                oldest = dead_.front();
                dead_.pop_front();
            }
        }
        delete oldest;
    }

 private:
    std::mutex mutex_;
    std::deque<const Object*> dead_;
};

namespace {
// Never destroyed: objects of static storage may be released after it would be.
Graveyard& graveyard() {
    static Graveyard* const yard = new Graveyard();
    return *yard;
}
thread_local std::vector<AutoreleasePool*> pools;
}  // namespace

void Object::alive(const char* method) const {
    if (count_.load() <= 0) softmetal::reject(std::string(method) + ": the object was released before");
}

void Object::retain_() {
    alive("retain");
    count_.fetch_add(1);
}

void Object::release_() {
    alive("release");
    if (count_.fetch_sub(1) != 1) return;
    dispose();
    graveyard().bury(this);
}

void Object::autorelease_() {
    alive("autorelease");
    if (pools.empty()) {
        release_();
        softmetal::reject("autorelease with no pool in place: the object would leak");
    }
    pools.back()->objects_.push_back(this);
}

AutoreleasePool* AutoreleasePool::alloc() {
    return new AutoreleasePool();
}

AutoreleasePool* AutoreleasePool::init() {
    pools.push_back(this);
    return this;
}

void AutoreleasePool::release() {
    alive("AutoreleasePool::release");
    if (pools.empty() || pools.back() != this)
        softmetal::reject("AutoreleasePool: released before a pool inside it, or by another thread");
    while (!objects_.empty()) {
        Object* object = objects_.back();
        objects_.pop_back();
        object->release_();
    }
    pools.pop_back();
    release_();
}

String* String::string(const char* text, StringEncoding) {
    String* s = new String();
    s->text_ = text;
    return s->autorelease();
}

String* String::init(const char* text, StringEncoding) {
    text_ = text;
    return this;
}

const char* String::utf8String() const {
    alive("NS::String::utf8String");
    return text_.c_str();
}

Error* Error::error(ErrorDomain domain, Integer code, Dictionary*) {
    return make(domain->utf8String(), code, "");
}

Error* Error::make(const char* domain, Integer code, const std::string& description) {
    Error* e = new Error();
    e->domain_ = domain;
    e->code_ = code;
    e->description_ = description;
    return e->autorelease();
}

String* Error::domain() const {
    return String::string(domain_.c_str(), UTF8StringEncoding);
}

String* Error::localizedDescription() const {
    alive("NS::Error::localizedDescription");
    return String::string(description_.c_str(), UTF8StringEncoding);
}

Array* Array::make(std::vector<Object*> objects) {
    Array* a = new Array();
    a->objects_ = std::move(objects);
    return a;
}

URL* URL::fileURLWithPath(const String* path) {
    URL* u = new URL();
    u->path_ = path->utf8String();
    return u->autorelease();
}

ProcessInfo* ProcessInfo::processInfo() {
    static ProcessInfo* const info = new ProcessInfo();
    return info;
}

String* ProcessInfo::operatingSystemVersionString() const {
    const std::string version = std::to_string(softmetal::settings().macos) + ".0";
    return String::string(("Version " + version + " (software Metal device)").c_str(), UTF8StringEncoding);
}

OperatingSystemVersion ProcessInfo::operatingSystemVersion() const {
    return {softmetal::settings().macos, 0, 0};
}
bool ProcessInfo::isOperatingSystemAtLeastVersion(OperatingSystemVersion v) const {
    return v.majorVersion <= softmetal::settings().macos;
}

UInteger ProcessInfo::physicalMemory() const {
    return static_cast<UInteger>(::sysconf(_SC_PHYS_PAGES)) * static_cast<UInteger>(::sysconf(_SC_PAGESIZE));
}

}  // namespace NS
