// OpenSSL's, which uses the processor's instructions for it.
#include "base/digest.h"

#include <openssl/evp.h>

#include <array>

#include "base/error.h"

namespace smelt {

struct Digest::Impl {
    std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

Digest::Digest(Kind kind) : impl_(std::make_unique<Impl>()) {
    const EVP_MD* type = kind == Kind::sha256 ? EVP_sha256() : EVP_sha1();
    if (!impl_->context || EVP_DigestInit_ex(impl_->context.get(), type, nullptr) != 1) {
        throw Error("OpenSSL has no {}", kind == Kind::sha256 ? "SHA-256" : "SHA-1");
    }
}

Digest::~Digest() = default;

void Digest::add(std::span<const char> bytes) {
    EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size());
}

std::string Digest::hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes = {};
    unsigned n = 0;
    EVP_DigestFinal_ex(impl_->context.get(), bytes.data(), &n);
    std::string text;
    for (unsigned i = 0; i < n; ++i) text += fmt::format("{:02x}", bytes[i]);
    return text;
}

}  // namespace smelt
