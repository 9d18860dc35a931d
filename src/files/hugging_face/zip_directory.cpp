// Zip and zip64, from the record at the end to the central directory to the entries. Field names are those of
// PKWARE's APPNOTE; sizes are the central directory's, because writers of streams leave them out elsewhere.
#include "files/hugging_face/zip_directory.h"

#include <algorithm>
#include <cstring>

#include "base/byte_reader.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

namespace {

constexpr uint32_t end_magic = 0x06054b50, end64_magic = 0x06064b50, locator64_magic = 0x07064b50,
                   local_magic = 0x04034b50, entry_magic = 0x02014b50;
constexpr uint64_t end_bytes = 22, locator64_bytes = 20, entry_bytes = 46;
constexpr uint64_t longest_comment = 0xffff;
constexpr uint16_t zip64_extra = 1;

struct Directory {
    uint64_t n_entries, n_bytes, offset;
};

void expect_magic(ByteReader& in, uint32_t expected, std::string_view what) {
    const uint64_t at = in.position();
    if (const auto found = in.read<uint32_t>(what); found != expected) {
        throw Error("{}: offset {}: {}: expected signature {:08x}, found {:08x}", in.source(), at, what,
                    expected, found);
    }
}

// The end record has no fixed place: a comment of any length follows it.
uint64_t find_end(std::span<const std::byte> bytes, const std::string& source) {
    const uint64_t n = bytes.size();
    for (uint64_t comment = 0; n >= end_bytes + comment && comment <= longest_comment; ++comment) {
        const uint64_t at = n - end_bytes - comment;
        uint32_t magic = 0;
        uint16_t length = 0;
        std::memcpy(&magic, bytes.data() + at, sizeof(magic));
        std::memcpy(&length, bytes.data() + at + end_bytes - sizeof(length), sizeof(length));
        if (magic == end_magic && length == comment) return at;
    }
    throw Error("{}: zip file without its directory at the end; is it whole?", source);
}

Directory find_directory(std::span<const std::byte> bytes, const std::string& source) {
    const uint64_t end = find_end(bytes, source);
    ByteReader in(bytes, source);
    in.seek(end + 10, "end of the zip directory");
    Directory d = {};
    d.n_entries = in.read<uint16_t>("number of entries");
    d.n_bytes = in.read<uint32_t>("size of the zip directory");
    d.offset = in.read<uint32_t>("offset of the zip directory");
    if (d.n_entries != 0xffff && d.n_bytes != 0xffffffff && d.offset != 0xffffffff) return d;

    if (end < locator64_bytes) throw Error("{}: zip64 directory is missing", source);
    in.seek(end - locator64_bytes, "zip64 locator");
    expect_magic(in, locator64_magic, "zip64 locator");
    in.take(4, "zip64 locator");
    in.seek(in.read<uint64_t>("zip64 locator"), "zip64 end of the directory");
    expect_magic(in, end64_magic, "zip64 end of the directory");
    in.take(28, "zip64 end of the directory");
    d.n_entries = in.read<uint64_t>("number of entries");
    d.n_bytes = in.read<uint64_t>("size of the zip directory");
    d.offset = in.read<uint64_t>("offset of the zip directory");
    return d;
}

// Puts 64-bit numbers from the extra field in place of those that did not fit into 32 bits, in this order.
void widen(std::span<const std::byte> extra, const std::string& source,
           std::initializer_list<uint64_t*> numbers) {
    ByteReader in(extra, source + ": extra field of a zip entry");
    while (in.remaining() >= 4) {
        const auto id = in.read<uint16_t>("id");
        const auto data = in.take(in.read<uint16_t>("length"), "data");
        if (id != zip64_extra) continue;
        ByteReader wide(data, in.source());
        for (uint64_t* number : numbers) {
            if (*number == 0xffffffff) *number = wide.read<uint64_t>("64-bit number");
        }
        return;
    }
}

// What lies between the directory's offset and the bytes: a local header with a name and an extra field of
// its own.
std::span<const std::byte> entry_data(std::span<const std::byte> bytes, const std::string& source,
                                      uint64_t offset, uint64_t n) {
    ByteReader in(bytes, source);
    in.seek(offset, "zip entry");
    expect_magic(in, local_magic, "zip entry");
    in.take(22, "zip entry");
    const uint64_t name = in.read<uint16_t>("name length"), extra = in.read<uint16_t>("extra length");
    in.take(name + extra, "name of a zip entry");
    return in.take(n, "data of a zip entry");
}

}  // namespace

ZipDirectory read_zip_directory(std::span<const std::byte> bytes, const std::string& source) {
    const Directory directory = find_directory(bytes, source);
    ByteReader in(bytes, source);
    in.seek(directory.offset, "zip directory");
    in.check_count(directory.n_entries, entry_bytes, "zip directory");
    if (directory.n_entries > limits::tensors) {
        throw Error("{}: {} zip entries, at most {} are accepted", source, directory.n_entries,
                    limits::tensors);
    }
    ZipDirectory result;
    for (uint64_t i = 0; i < directory.n_entries; ++i) {
        expect_magic(in, entry_magic, "zip directory");
        in.take(4, "zip directory");
        const auto flags = in.read<uint16_t>("flags"), method = in.read<uint16_t>("compression method");
        in.take(8, "zip directory");
        uint64_t packed = in.read<uint32_t>("size"), size = in.read<uint32_t>("size");
        const uint64_t name_bytes = in.read<uint16_t>("name length"),
                       extra_bytes = in.read<uint16_t>("extra length"),
                       comment_bytes = in.read<uint16_t>("comment length");
        in.take(8, "zip directory");
        uint64_t offset = in.read<uint32_t>("offset");
        const auto name_span = in.take(name_bytes, "name");
        const std::string name(reinterpret_cast<const char*>(name_span.data()), name_span.size());
        check_name(name, "zip entry", source);
        widen(in.take(extra_bytes, "extra field"), source, {&size, &packed, &offset});
        in.take(comment_bytes, "comment");
        if (method != 0 || (flags & 1) != 0 || packed != size) {
            throw Error("{}: zip entry {}: expected one stored as it is, found compression method {}{}",
                        source, name, method, (flags & 1) != 0 ? ", encrypted" : "");
        }
        if (!result.emplace(name, entry_data(bytes, source, offset, size)).second) {
            throw Error("{}: zip entry {} occurs twice", source, name);
        }
    }
    return result;
}

}  // namespace smelt
