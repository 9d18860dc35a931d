// llama.cpp's importance matrices: for each matrix the sums of the squares of what its columns read. Both of
// its files, GGUF and the older .dat. How they are made is the lab's business.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace smelt {

struct ImportanceMatrix {
    struct Entry {
        std::vector<float> counts;  // tokens, one number for each matrix of the tensor: experts have many
        std::vector<float> sums;    // (matrices, columns), of x²
        size_t n_columns() const { return counts.empty() ? 0 : sums.size() / counts.size(); }
    };
    std::map<std::string, Entry> entries;  // by GGUF's tensor names
    std::string text = {};                 // file that it was made with
    int64_t n_windows = 0, window = 512;
};

// Either file. Throws Error: another file, numbers that are not finite or negative.
ImportanceMatrix read_imatrix(const std::filesystem::path& path);
// NAME.dat is the older file, all others are GGUF.
void write_imatrix(const ImportanceMatrix& matrix, const std::filesystem::path& path);

// Means of x² as rounding takes them, (matrices, columns): ones where no token came, and no column counts for
// nothing.
using Importance = std::map<std::string, std::vector<float>>;
Importance importance_of(const ImportanceMatrix& matrix);

}  // namespace smelt
