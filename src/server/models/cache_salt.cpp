// SipHash over both texts.
#include "server/models/cache_salt.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"

namespace smelt {

namespace {

using Secret = std::array<uint64_t, 2>;

// SipHash-2-4 (Aumasson and Bernstein), with a key that nobody knows: nobody can make two texts meet.
uint64_t keyed_hash(const Secret& secret, std::string_view text) {
    std::array<uint64_t, 4> v = {secret[0] ^ 0x736f6d6570736575u, secret[1] ^ 0x646f72616e646f6du,
                                 secret[0] ^ 0x6c7967656e657261u, secret[1] ^ 0x7465646279746573u};
    const auto rounds = [&](int n) {
        for (; n > 0; --n) {
            v[0] += v[1], v[1] = std::rotl(v[1], 13) ^ v[0], v[0] = std::rotl(v[0], 32);
            v[2] += v[3], v[3] = std::rotl(v[3], 16) ^ v[2];
            v[0] += v[3], v[3] = std::rotl(v[3], 21) ^ v[0];
            v[2] += v[1], v[1] = std::rotl(v[1], 17) ^ v[2], v[2] = std::rotl(v[2], 32);
        }
    };
    uint64_t word = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        word |= uint64_t{static_cast<unsigned char>(text[i])} << (8 * (i % 8));
        if (i % 8 < 7) continue;
        v[3] ^= word;
        rounds(2);
        v[0] ^= std::exchange(word, 0);
    }
    word |= uint64_t{text.size()} << 56;
    v[3] ^= word;
    rounds(2);
    v[0] ^= word;
    v[2] ^= 0xff;
    rounds(4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

}  // namespace

CacheSalts::CacheSalts() {
    std::random_device device;
    for (uint64_t& word : secret_) word = (uint64_t{device()} << 32) | device();
}

CacheSalts::CacheSalts(const std::filesystem::path& file) : CacheSalts() {
    if (!std::filesystem::exists(file)) {
        AtomicFile out(file, AtomicFile::Readers::nobody);
        out.write(std::as_bytes(std::span(secret_)));
        out.commit();
    }
    const MappedFile kept(file);
    if (kept.bytes().size() != sizeof(Secret)) {
        throw Error("{}: expected {} bytes, found {}; without the file, a new one is made", file.string(),
                    sizeof(Secret), kept.bytes().size());
    }
    std::memcpy(secret_.data(), kept.bytes().data(), sizeof(Secret));
}

uint64_t CacheSalts::of(std::string_view key, std::string_view salt) const {
    if (key.empty() && salt.empty()) return 0;
    return keyed_hash(secret_, fmt::format("{}:{}{}", key.size(), key, salt));
}

}  // namespace smelt
