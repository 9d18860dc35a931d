// The file: a head with the list of blocks and its checksum, then for each block a checksum and its bytes.
#include "engine/prefix_file.h"

#include <cstring>

#include "base/atomic_file.h"
#include "base/byte_reader.h"
#include "base/mapped_file.h"

namespace smelt {

namespace {

constexpr std::string_view magic = "smeltKV2";

// Against damage, not against people: whoever may write the file may write answers.
uint64_t checksum(std::span<const std::byte> bytes) {
    uint64_t h = bytes.size();
    while (!bytes.empty()) {
        uint64_t word = 0;
        const size_t n = std::min(sizeof word, bytes.size());
        std::memcpy(&word, bytes.data(), n);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
        bytes = bytes.subspan(n);
    }
    return h;
}

template <class T>
void append(std::string& out, const T& value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

// What comes before the list: a file where it is not the same to the byte is of no use.
std::string make_head(const std::string& owner, const ModelRunner& runner) {
    const KvBlockBytes bytes = runner.block_bytes();
    std::string head(magic);
    append(head, static_cast<uint64_t>(owner.size()));
    head += owner;
    append(head, static_cast<int64_t>(runner.shape().block_len));
    append(head, static_cast<int64_t>(runner.shape().windows.window));
    append(head, static_cast<uint64_t>(bytes.full));
    append(head, static_cast<uint64_t>(bytes.windowed));
    return head;
}

size_t n_bytes(const KvBlockBytes& bytes, bool has_part) {
    return bytes.full + (has_part ? bytes.windowed : 0);
}

std::vector<CachedBlock> read_list(ByteReader& in, std::span<const std::byte> file,
                                   const RunnerShape& shape) {
    const auto len = static_cast<uint64_t>(shape.block_len);
    const uint64_t n = in.check_count(in.read<uint64_t>("count"), 4 * len, "blocks");
    std::vector<CachedBlock> list(n);
    for (size_t i = 0; i < n; ++i) {
        CachedBlock& b = list[i];
        b.parent = in.read<int32_t>("parent");
        b.has_part = in.read<int32_t>("part") != 0;
        b.n_prompt = in.read<int32_t>("roles");
        b.salt = in.read<uint64_t>("salt");
        b.ids.resize(len);
        std::memcpy(b.ids.data(), in.take(4 * len, "ids").data(), 4 * len);
        if (b.parent < -1 || b.parent >= static_cast<int32_t>(i)) {
            throw Error("{}: block {}: expected a parent before it, found {}", in.source(), i, b.parent);
        }
        if (b.n_prompt < 0 || b.n_prompt > shape.block_len) {
            throw Error("{}: block {}: expected 0 to {} tokens of a prompt, found {}", in.source(), i,
                        shape.block_len, b.n_prompt);
        }
    }
    const uint64_t expected = checksum(file.first(in.position()));
    if (in.read<uint64_t>("checksum") != expected) throw Error("{}: the list is damaged", in.source());
    return list;
}

}  // namespace

size_t save_prefixes(const PrefixFile& file, const KvCache& cache, ModelRunner& runner) {
    std::string head = make_head(file.owner, runner), list;
    uint64_t n = 0;
    cache.visit_cached([&](const CachedBlock& b, int32_t, int32_t) {
        append(list, b.parent);
        append(list, static_cast<int32_t>(b.has_part));
        append(list, static_cast<int32_t>(b.n_prompt));
        append(list, b.salt);
        list.append(reinterpret_cast<const char*>(b.ids.data()), 4 * b.ids.size());
        ++n;
    });
    append(head, n);
    head += list;
    append(head, checksum(bytes_of(head)));

    AtomicFile out(file.path, AtomicFile::Readers::nobody);
    out.write(head);
    const KvBlockBytes bytes = runner.block_bytes();
    std::vector<std::byte> content;
    cache.visit_cached([&](const CachedBlock& b, int32_t block, int32_t part) {
        content.resize(n_bytes(bytes, b.has_part));
        runner.read_block(block, part, content);
        const uint64_t sum = checksum(content);
        out.write(std::as_bytes(std::span(&sum, 1)));
        out.write(content);
    });
    out.commit();
    return n;
}

size_t load_prefixes(const PrefixFile& file, KvCache& cache, ModelRunner& runner) {
    if (!std::filesystem::exists(file.path)) return 0;
    const MappedFile mapped(file.path);
    const auto all = mapped.bytes();
    const std::string head = make_head(file.owner, runner);
    if (all.size() < head.size() || std::memcmp(all.data(), head.data(), head.size()) != 0) return 0;
    ByteReader in(all, file.path.string());
    in.seek(head.size(), "list");
    const std::vector<CachedBlock> list = read_list(in, all, runner.shape());

    // All of it is looked at before anything of it is used.
    const KvBlockBytes bytes = runner.block_bytes();
    std::vector<std::span<const std::byte>> contents;
    for (const CachedBlock& b : list) {
        const auto expected = in.read<uint64_t>("checksum");
        contents.push_back(in.take(n_bytes(bytes, b.has_part), "K and V"));
        if (checksum(contents.back()) != expected) {
            throw Error("{}: block {} is damaged", in.source(), contents.size() - 1);
        }
    }
    return cache.restore(list, [&, i = size_t{0}](const CachedBlock&, int32_t block, int32_t part) mutable {
        runner.write_block(block, part, contents[i++]);
    });
}

}  // namespace smelt
