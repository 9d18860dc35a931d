// pytorch_model.bin: files as torch.save writes them, and files that it would not write.
#include <algorithm>

#include "files/files_support.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {
namespace {

struct File {
    explicit File(const std::string& text)
        : bytes(reinterpret_cast<const std::byte*>(text.data()),
                reinterpret_cast<const std::byte*>(text.data()) + text.size()) {}

    std::vector<SafetensorsEntry> read() const { return read_torch_bin(bytes, "test"); }
    std::string error() const {
        try {
            (void)read();
            return {};
        } catch (const Error& e) {
            return e.what();
        }
    }

    std::vector<std::byte> bytes;
};

// Opcodes.
std::string text(const std::string& s) {
    std::string result = "X";
    append(result, static_cast<uint32_t>(s.size()));
    return result + s;
}
std::string integer(int32_t n) {
    std::string result = "J";
    append(result, n);
    return result;
}
std::string global(const std::string& module, const std::string& name) {
    return "c" + module + "\n" + name + "\n";
}
std::string tuple(const std::string& items) {
    return "(" + items + "t";
}
std::string pickle(const std::string& value) {
    return "\x80\x02" + value + ".";
}
std::string dict(const std::string& items) {
    return "}(" + items + "u";
}

std::string storage(const std::string& type, const std::string& key, int32_t n) {
    return tuple(text("storage") + global("torch", type) + text(key) + text("cpu") + integer(n)) + "Q";
}
std::string tensor(const std::string& storage, int32_t offset, const std::string& size,
                   const std::string& strides) {
    return global("torch._utils", "_rebuild_tensor_v2") +
           tuple(storage + integer(offset) + tuple(size) + tuple(strides) + "\x89}") + "R";
}

struct ZipEntry {
    std::string name, data;
    uint16_t method = 0, flags = 0;
};

// With `wide` the numbers of the directory are zip64's.
std::string zip(const std::vector<ZipEntry>& entries, bool wide = false) {
    std::string bytes, directory;
    for (const ZipEntry& e : entries) {
        const uint64_t offset = bytes.size(), n = e.data.size();
        bytes += "PK\x03\x04" + std::string(22, '\0');
        append(bytes, static_cast<uint16_t>(e.name.size()));
        append(bytes, uint16_t{4});
        bytes += e.name + std::string("FB\0\0", 4) + e.data;

        std::string extra;
        if (wide) {
            extra = std::string("FB\0\0\x01\0\x18\0", 8);
            for (const uint64_t number : {n, n, offset}) append(extra, number);
        }
        const auto narrow = [&](uint64_t number) {
            return wide ? ~uint32_t{0} : static_cast<uint32_t>(number);
        };
        directory += std::string("PK\x01\x02\0\0\0\0", 8);
        append(directory, e.flags);
        append(directory, e.method);
        directory += std::string(8, '\0');
        append(directory, narrow(n));
        append(directory, narrow(n));
        append(directory, static_cast<uint16_t>(e.name.size()));
        append(directory, static_cast<uint16_t>(extra.size()));
        directory += std::string(10, '\0');
        append(directory, narrow(offset));
        directory += e.name + extra;
    }
    const uint64_t at = bytes.size(), end = at + directory.size();
    bytes += directory;
    if (wide) {
        bytes += std::string("PK\x06\x06", 4) + std::string(28, '\0');
        for (const uint64_t number : {uint64_t{entries.size()}, uint64_t{directory.size()}, at}) {
            append(bytes, number);
        }
        bytes += std::string("PK\x06\x07\0\0\0\0", 8);
        append(bytes, end);
        append(bytes, uint32_t{1});
    }
    bytes += std::string("PK\x05\x06\0\0\0\0\0\0", 10);
    append(bytes, static_cast<uint16_t>(wide ? 0xffff : entries.size()));
    append(bytes, static_cast<uint32_t>(wide ? 0xffffffff : directory.size()));
    append(bytes, static_cast<uint32_t>(wide ? 0xffffffff : at));
    return bytes + std::string("\x05\0hello", 7);
}

// A zip with this object, and storage 0 of six floats.
std::string saved(const std::string& object) {
    return zip({{"m/data.pkl", pickle(object)}, {"m/data/0", std::string(24, '\1')}});
}
std::string saved_tensor(const std::string& value) {
    return saved(dict(text("a") + value));
}

TEST(TorchBin, BothLayoutsHoldTheSame) {
    const File zip_file(torch_bin("zip")), legacy(torch_bin("legacy"));
    const auto a = zip_file.read(), b = legacy.read();
    ASSERT_EQ(a.size(), 4u);
    ASSERT_EQ(b.size(), 4u);
    for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].name, b[i].name);
        EXPECT_EQ(a[i].dtype, b[i].dtype);
        EXPECT_EQ(a[i].shape, b[i].shape);
        EXPECT_TRUE(std::ranges::equal(a[i].data, b[i].data));
    }
    EXPECT_EQ(a[0].name, "a");
    EXPECT_EQ(a[0].dtype, "F32");
    EXPECT_EQ(a[0].shape, (std::vector<int64_t>{2, 3}));
    float last = 0;
    std::memcpy(&last, a[0].data.data() + 20, sizeof(last));
    EXPECT_EQ(last, 5);
    EXPECT_EQ(a[1].dtype, "F16");
    EXPECT_EQ(a[3].name, "lm_head.weight");
    EXPECT_EQ(a[2].data.data(), a[3].data.data()) << "tied: one storage, no copy";
}

TEST(TorchBin, TensorsAreWindowsOfStorages) {
    const std::string s = storage("FloatStorage", "0", 6);
    const File file(saved(dict(
        text("a") + tensor(s, 2, integer(2) + integer(1) + integer(2), integer(2) + integer(9) + integer(1)) +
        text("scalar") + tensor(s, 5, "", "") + text("none") +
        tensor(s, 6, integer(0) + integer(4), integer(1) + integer(7)))));
    const auto entries = file.read();
    ASSERT_EQ(entries.size(), 3u);
    EXPECT_EQ(entries[0].shape, (std::vector<int64_t>{2, 1, 2}));
    EXPECT_EQ(entries[0].data.size(), 16u);
    EXPECT_EQ(entries[1].name, "scalar");
    EXPECT_EQ(entries[1].data.data() - entries[0].data.data(), 12);
    EXPECT_EQ(entries[2].data.size(), 0u);
}

TEST(TorchBin, NoCodeIsRun) {
    const std::string call = global("os", "system") + tuple(text("true")) + "R";
    EXPECT_NE(File(saved_tensor(call)).error().find("found os.system; smelt runs no code"),
              std::string::npos);
    EXPECT_NE(File(saved_tensor(global("torch._utils", "_rebuild_qtensor"))).error().find("_rebuild_qtensor"),
              std::string::npos);
    EXPECT_NE(File(saved_tensor(global("a\x1b[2J", "b"))).error().find("control characters"),
              std::string::npos);
}

TEST(TorchBin, BadTensorsAreNamed) {
    const std::string s = storage("FloatStorage", "0", 6), one = integer(1), two = integer(2),
                      three = integer(3), six = integer(6);
    const std::pair<std::string, const char*> cases[] = {
        {tensor(s, 0, three + two, one + three), "tensor a: expected a contiguous one, found strides (1, 3)"},
        {tensor(s, 0, two + three, integer(0) + one), "expected a contiguous one"},
        {tensor(s, 0, two + three, one), "expected a contiguous one"},
        {tensor(s, 1, six, one), "6 elements from 1 are not inside its storage of 6"},
        {tensor(s, -1, six, one), "not inside its storage"},
        {tensor(s, 0, integer(-1), one), "expected sizes and strides of 0 and above"},
        {tensor(s, 0, integer(1 << 30) + integer(1 << 30), integer(1 << 30) + one), "too many elements"},
        {tensor(storage("FloatStorage", "7", 6), 0, six, one), "storage 7 is missing"},
        {tensor(storage("FloatStorage", "0", 5), 0, one, one), "m/data/0: expected 20 bytes, found 24"},
        {tensor(storage("FloatStorage", "0", -5), 0, one, one), "storage of -5 elements"},
        {tensor(tuple(text("module")) + "Q", 0, one, one), "persistent id is not that of a storage"},
        {tensor(one, 0, one, one), "expected a storage"},
        {one, "a: expected a tensor"},
        {"N", "a: expected a tensor"},
        {tensor(s, 0, six, one) + text("a") + tensor(s, 0, six, one), "tensor a occurs twice"},
        {tensor(s, 0, six, one) + one + tensor(s, 0, six, one), "expected names of tensors"},
        {tensor(s, 0, six, one) + text("b") + tensor(storage("IntStorage", "0", 6), 0, six, one),
         "two types or two sizes"},
        {tensor(s, 0, six, one) + text("b"), "a key without a value"},
    };
    for (const auto& [value, says] : cases) {
        const std::string error = File(saved_tensor(value)).error();
        EXPECT_NE(error.find(says), std::string::npos) << says << "\n" << error;
    }
    EXPECT_NE(File(saved("]")).error().find("expected a dictionary of tensors"), std::string::npos);
}

// Copies are made of tensors that are transposed or not aligned: one storage must not fill the memory.
TEST(TorchBin, SharingHasALimit) {
    const auto error = [](int n_tensors) {
        std::string items =
            text("0") + tensor(storage("FloatStorage", "0", 4096), 0, integer(4096), integer(1)) + "q\1";
        for (int i = 1; i < n_tensors; ++i) items += text(std::to_string(i)) + "h\1";
        return File(zip({{"m/data.pkl", pickle(dict(items))}, {"m/data/0", std::string(16384, '\1')}}))
            .error();
    };
    EXPECT_EQ(error(4), "");
    EXPECT_EQ(error(5), "test: tensors share their bytes more than 4 times");
}

TEST(TorchBin, BadPicklesAreErrors) {
    const auto says = [](const std::string& opcodes, const char* part) {
        const std::string error = File(zip({{"m/data.pkl", opcodes}})).error();
        EXPECT_NE(error.find(part), std::string::npos) << part << "\n" << error;
    };
    says("\x80\x04.", "expected protocol 2, found 4");
    says("\x80\x02", "m/data.pkl: offset 2: pickle: expected 1 bytes, the file has 0 left");
    says(".", "a value is missing");
    says("NN.", "left on the stack");
    says("(N.", "left on the stack");
    says("N(.", "a value is missing");
    says("Nt.", "a mark is missing");
    says("N(\x86.", "a value is missing");
    says("NNR.", "expected a call of a global");
    says("N}b.", "expected attributes of an OrderedDict");
    says("NNa.", "expected a list");
    says("](u.", "expected a dictionary");
    says("(u.", "a value is missing");
    says("h\3.", "place 3 of the memo is empty");
    says("Nr\xff\xff\xff\xff.", "memo has 4194304 places");
    says("X\xff\xff\xff\x7f.", "expected 2147483647 bytes");
    says(
        "\x8a\x09"
        "123456789.",
        "integer of 9 bytes");
    says("\x81.", "opcode 0x81 is not accepted");
    says(std::string(2000, 'c'), "the name of a global is too long");
    says(std::string(limits::pickle_opcodes + 1, 'N'), "more than 4194304 opcodes");
    says("]q\1h\1a.", "expected a dictionary of tensors");  // a list in itself
    std::string deep(1'000'000, ']');
    says(deep + std::string(999'999, 'a') + ".", "expected a dictionary of tensors");
    says(std::string(1'000'000, '('), "expected 1 bytes");
}

TEST(TorchBin, IntegersOfAnyLength) {
    const std::string type = global("torch", "FloatStorage"), one = integer(1);
    for (const std::string& six : {std::string("\x8a\1\6", 3), std::string("\x8a\3\6\0\0", 5),
                                   std::string("M\6\0", 3), std::string("K\6")}) {
        const std::string id = tuple(text("storage") + type + text("0") + text("cpu") + six) + "Q";
        EXPECT_EQ(File(saved_tensor(tensor(id, 0, integer(6), one))).error(), "");
    }
    const std::string minus = tuple(text("storage") + type + text("0") + text("cpu") + "\x8a\1\xfe") + "Q";
    EXPECT_NE(File(saved_tensor(tensor(minus, 0, one, one))).error().find("storage of -2 elements"),
              std::string::npos);
}

TEST(TorchBin, Zips) {
    const std::string object =
        pickle(dict(text("a") + tensor(storage("FloatStorage", "0", 6), 0, integer(6), integer(1))));
    const std::vector<ZipEntry> whole = {{"m/data.pkl", object}, {"m/data/0", std::string(24, '\1')}};
    for (const bool wide : {false, true}) {
        const File file(zip(whole, wide));
        const auto entries = file.read();
        ASSERT_EQ(entries.size(), 1u);
        EXPECT_EQ(entries[0].data.size(), 24u);
        EXPECT_EQ(entries[0].data[0], std::byte{1});
    }
    const auto says = [&](std::vector<ZipEntry> entries, const char* part) {
        const std::string error = File(zip(entries)).error();
        EXPECT_NE(error.find(part), std::string::npos) << part << "\n" << error;
    };
    auto entries = whole;
    entries[1].method = 8;
    says(entries, "zip entry m/data/0: expected one stored as it is, found compression method 8");
    entries = whole;
    entries[1].flags = 1;
    says(entries, "encrypted");
    entries = whole;
    entries.push_back(whole[1]);
    says(entries, "zip entry m/data/0 occurs twice");
    entries = whole;
    entries.push_back({"m/byteorder", "big"});
    says(entries, "expected byteorder little");
    says({{"m/other", ""}}, "zip file without m/data.pkl");
    says({}, "zip");
    for (const bool wide : {false, true}) {
        const std::string bytes = zip(whole, wide);
        for (size_t n = 0; n < bytes.size(); ++n) {
            ASSERT_NE(File(bytes.substr(0, n)).error(), "") << n;
        }
    }
}

TEST(TorchBin, OldLayoutIsChecked) {
    const std::string whole = torch_bin("legacy");
    const auto says = [&](const std::string& from, const std::string& to, const char* part) {
        std::string bytes = whole;
        const size_t at = bytes.find(from);
        ASSERT_NE(at, std::string::npos);
        bytes.replace(at, from.size(), to);
        const std::string error = File(bytes).error();
        EXPECT_NE(error.find(part), std::string::npos) << part << "\n" << error;
    };
    says(std::string("M\xe9\x03."), "M\xe8\x03.", "expected version 1001");
    says("little_endian", "lithic_endian", "expected the file of a little-endian machine");
    says(std::string("\6\0\0\0\0\0\0\0", 8), std::string("\7\0\0\0\0\0\0\0", 8),
         "expected 6 elements, found 7");
    says("\x80", "\x81", "expected a file of torch.save");
}

struct Folder {
    Folder() { write_file(t.path() / "config.json", R"({"model_type": "novel"})"); }
    TemporaryFolder t;
};

TEST(TorchBin, FoldersPreferSafetensors) {
    Folder f;
    const fs::path bin = f.t.path() / "pytorch_model.bin";
    write_file(bin, saved_tensor(tensor(storage("ByteStorage", "0", 24), 0, integer(24), integer(1))));
    const auto model = open_model(f.t.path());
    EXPECT_EQ(model->container_version, "pytorch_model.bin");
    ASSERT_EQ(model->unsupported.size(), 1u);
    EXPECT_EQ(model->unsupported[0].type, "U8");
    EXPECT_NE(open_error(bin).find("open the folder that it is in"), std::string::npos);
    write_file(bin, torch_bin("legacy"));
    EXPECT_NE(open_error(bin).find("open the folder that it is in"), std::string::npos);

    write_file(f.t.path() / "model.safetensors",
               safetensors(R"({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})", "abcd"));
    EXPECT_EQ(open_model(f.t.path())->container_version, "safetensors");
}

TEST(TorchBin, AlignedTensorsStayInTheFile) {
    Folder f;
    write_file(f.t.path() / "pytorch_model.bin", torch_bin("zip"));
    const auto model = open_model(f.t.path());
    EXPECT_EQ(model->tensors.size(), 4u);
    EXPECT_TRUE(model->owned.empty());
}

TEST(TorchBin, AnIndexNamesBinFiles) {
    Folder f;
    const auto error = [&](const std::string& file) {
        write_file(f.t.path() / "pytorch_model.bin.index.json", R"({"weight_map": {"a": ")" + file + "\"}}");
        return open_error(f.t.path());
    };
    write_file(f.t.path() / "x.bin", torch_bin("zip"));
    EXPECT_EQ(error("x.bin"), "");
    EXPECT_NE(error("x.safetensors").find("expected a .bin file of this folder"), std::string::npos);
}

}  // namespace
}  // namespace smelt
