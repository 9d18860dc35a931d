// GGUF: NAME.in_sum2 (matrices, columns) and NAME.counts (matrices, 1), floats. The .dat: entries of a name,
// how often it was called, and means times that.
#include "files/gguf/imatrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "files/gguf/gguf_types.h"
#include "files/readers.h"
#include "files/writers.h"

namespace smelt {

namespace {

constexpr std::string_view sums_ending = ".in_sum2", counts_ending = ".counts";
constexpr int32_t most_entries = 1 << 20;  // more than any model has matrices

std::vector<float> floats_of(const TensorView& t) {
    std::vector<float> values(static_cast<size_t>(t.n_elements()));
    decode_row({t.format, t.data.data(), nullptr, t.n_elements()}, values);
    return values;
}

ImportanceMatrix read_gguf_matrix(const MappedFile& file, const std::string& source) {
    ModelFile content;
    content.path = source;
    read_gguf(file.bytes(), source, content);
    const std::string* type = content.metadata.get_string("general.type");
    if (type == nullptr || *type != "imatrix") {
        throw Error("{}: general.type: expected imatrix, found {}", source, type == nullptr ? "none" : *type);
    }
    ImportanceMatrix matrix;
    if (const auto* texts = content.metadata.get_strings("imatrix.datasets"); texts && !texts->empty())
        matrix.text = texts->front();
    matrix.n_windows = content.metadata.get_int("imatrix.chunk_count").value_or(0);
    matrix.window = content.metadata.get_int("imatrix.chunk_size").value_or(512);
    for (const TensorView& t : content.tensors) {
        if (!t.name.ends_with(sums_ending)) continue;
        const std::string name = t.name.substr(0, t.name.size() - sums_ending.size());
        const TensorView& counts = content.require(name + std::string(counts_ending));
        if (format_info(t.format).block_len != 1 || format_info(counts.format).block_len != 1 ||
            counts.n_elements() == 0 || t.n_rows() != counts.n_elements()) {
            throw Error("{}: {}: expected floats and one count for each of {} rows, found {} counts", source,
                        t.name, t.n_rows(), counts.n_elements());
        }
        matrix.entries[name] = {floats_of(counts), floats_of(t)};
    }
    return matrix;
}

// Takes numbers off the front.
class Bytes {
 public:
    Bytes(std::span<const std::byte> bytes, const std::string& source) : rest_(bytes), source_(source) {}
    std::span<const std::byte> take(size_t n) {
        if (n > rest_.size())
            throw Error("{}: expected an importance matrix, found a file that ends early", source_);
        const auto part = rest_.first(n);
        rest_ = rest_.subspan(n);
        return part;
    }
    int32_t number(int32_t low, int32_t high, const char* what) {
        int32_t v = 0;
        std::memcpy(&v, take(sizeof(v)).data(), sizeof(v));
        if (v < low || v > high) {
            throw Error("{}: expected an importance matrix of llama.cpp, found {} as {}", source_, v, what);
        }
        return v;
    }
    bool empty() const { return rest_.empty(); }

 private:
    std::span<const std::byte> rest_;
    const std::string& source_;
};

ImportanceMatrix read_dat(const MappedFile& file, const std::string& source) {
    ImportanceMatrix matrix;
    Bytes bytes(file.bytes(), source);
    const int32_t n = bytes.number(1, most_entries, "number of entries");
    for (int32_t i = 0; i < n; ++i) {
        const auto name = bytes.take(static_cast<size_t>(bytes.number(1, 4096, "length of a name")));
        const auto calls = static_cast<float>(bytes.number(0, INT32_MAX, "number of calls"));
        const auto n_values = static_cast<size_t>(bytes.number(1, INT32_MAX, "number of values"));
        const auto values = bytes.take(n_values * sizeof(float));
        ImportanceMatrix::Entry entry{{calls}, std::vector<float>(n_values)};
        std::memcpy(entry.sums.data(), values.data(), values.size());
        const std::string text(reinterpret_cast<const char*>(name.data()), name.size());
        matrix.entries[check_name(text, "name", source)] = std::move(entry);
    }
    if (bytes.empty()) return matrix;  // the first version ends here
    matrix.n_windows = bytes.number(0, INT32_MAX, "number of chunks");
    const auto text = bytes.take(static_cast<size_t>(bytes.number(0, 1 << 16, "length of a file name")));
    matrix.text = std::string(reinterpret_cast<const char*>(text.data()), text.size());
    return matrix;
}

void check(const ImportanceMatrix& matrix, const std::string& source) {
    if (matrix.entries.empty()) throw Error("{}: expected an importance matrix, found no entries", source);
    for (const auto& [name, entry] : matrix.entries) {
        const auto good = [](float v) { return std::isfinite(v) && v >= 0; };
        if (!std::ranges::all_of(entry.sums, good) || !std::ranges::all_of(entry.counts, good)) {
            throw Error("{}: {}: expected finite sums of squares, found others", source, name);
        }
    }
}

template <class T>
void append(std::string& out, const T& value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void write_dat(const ImportanceMatrix& matrix, const std::filesystem::path& path) {
    std::string out;
    append(out, static_cast<int32_t>(matrix.entries.size()));
    // A call is a window; values are the mean of x² times their number. Of matrices that no token reached: 1.
    const auto calls = static_cast<int32_t>(std::max<int64_t>(matrix.n_windows, 1));
    for (const auto& [name, entry] : matrix.entries) {
        append(out, static_cast<int32_t>(name.size()));
        out += name;
        append(out, calls);
        append(out, static_cast<int32_t>(entry.sums.size()));
        for (size_t i = 0; i < entry.sums.size(); ++i) {
            const float count = entry.counts[i / entry.n_columns()];
            append(out,
                   count > 0 ? entry.sums[i] / count * static_cast<float>(calls) : static_cast<float>(calls));
        }
    }
    append(out, calls);
    append(out, static_cast<int32_t>(matrix.text.size()));
    out += matrix.text;
    AtomicFile file(path);
    file.write(out);
    file.commit();
}

}  // namespace

ImportanceMatrix read_imatrix(const std::filesystem::path& path) {
    const MappedFile file(path);
    uint32_t magic = 0;
    if (file.bytes().size() >= sizeof(magic)) std::memcpy(&magic, file.bytes().data(), sizeof(magic));
    const std::string source = path.string();
    ImportanceMatrix matrix = magic == gguf_magic ? read_gguf_matrix(file, source) : read_dat(file, source);
    check(matrix, source);
    return matrix;
}

void write_imatrix(const ImportanceMatrix& matrix, const std::filesystem::path& path) {
    if (path.extension() == ".dat") return write_dat(matrix, path);
    Metadata metadata;
    metadata.set("general.type", std::string("imatrix"));
    metadata.set("imatrix.chunk_count", matrix.n_windows);
    metadata.set("imatrix.chunk_size", matrix.window);
    metadata.set("imatrix.datasets", std::vector<std::string>{matrix.text});
    std::vector<TensorView> tensors;
    for (const auto& [name, entry] : matrix.entries) {
        const auto n = static_cast<int64_t>(entry.counts.size());
        tensors.push_back({name + std::string(sums_ending),
                           Format::F32,
                           {n, static_cast<int64_t>(entry.n_columns())},
                           std::as_bytes(std::span(entry.sums)),
                           {},
                           path.string()});
        tensors.push_back({name + std::string(counts_ending),
                           Format::F32,
                           {n, 1},
                           std::as_bytes(std::span(entry.counts)),
                           {},
                           path.string()});
    }
    write_gguf_tensors(tensors, metadata, path);
}

Importance importance_of(const ImportanceMatrix& matrix) {
    constexpr float least = 1e-4f;  // of the mean
    Importance importance;
    for (const auto& [name, entry] : matrix.entries) {
        std::vector<float>& means = importance[name];
        means.assign(entry.sums.size(), 1);
        const size_t n = entry.n_columns();
        for (size_t m = 0; m < entry.counts.size(); ++m) {
            const std::span<const float> sums = std::span(entry.sums).subspan(m * n, n);
            const std::span<float> out = std::span(means).subspan(m * n, n);
            double total = 0;
            for (const float v : sums) total += static_cast<double>(v);
            if (!(entry.counts[m] > 0) || !(total > 0)) continue;
            const auto mean = static_cast<float>(total / static_cast<double>(n));
            for (size_t i = 0; i < n; ++i) out[i] = std::max(sums[i], least * mean) / entry.counts[m];
        }
    }
    return importance;
}

}  // namespace smelt
