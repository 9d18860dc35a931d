// A library that is opened at run time, so that nothing links it: what it is for is left out where it is not
// here. It stays open as long as the process lives.
#pragma once

#include <initializer_list>
#include <string>

namespace smelt {

// The first of several possible names, and its functions.
class SharedLibrary {
 public:
    explicit SharedLibrary(std::initializer_list<const char*> names);
    explicit operator bool() const { return handle_ != nullptr; }
    // Sets `function`; false and `missing` names the symbol where the library has none.
    template <class F>
    bool find(F*& function, const char* symbol, std::string& missing) const {
        function = reinterpret_cast<F*>(address(symbol));
        if (function == nullptr && missing.empty()) missing = symbol;
        return function != nullptr;
    }
    const std::string& reason() const { return reason_; }  // why there is none

 private:
    void* address(const char* symbol) const;

    void* handle_ = nullptr;
    std::string reason_;
};

}  // namespace smelt
