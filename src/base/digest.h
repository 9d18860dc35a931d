// SHA-256 and SHA-1 of what is fed piece by piece.
#pragma once

#include <memory>
#include <span>
#include <string>

namespace smelt {

class Digest {
 public:
    enum class Kind { sha256, sha1 };
    explicit Digest(Kind kind);
    ~Digest();
    Digest(const Digest&) = delete;
    Digest& operator=(const Digest&) = delete;

    void add(std::span<const char> bytes);
    std::string hex();  // once, at the end

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace smelt
