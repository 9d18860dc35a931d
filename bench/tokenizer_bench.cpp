// How fast text becomes ids: load time, MB/s on the given text files, and on 10 MB of texts that are hard for
// tokenizers. One thread. usage: tokenizer_bench MODEL [TEXTFILE...]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "text/tokenizer.h"

namespace smelt {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Median of `n_runs` after one that is not counted.
void measure(const Tokenizer& tokenizer, const std::string& name, std::string_view text, int n_runs) {
    size_t n_ids = tokenizer.encode(text).size();
    std::vector<double> times;
    for (int i = 0; i < n_runs; ++i) {
        const auto start = Clock::now();
        n_ids = tokenizer.encode(text).size();
        times.push_back(seconds_since(start));
    }
    std::sort(times.begin(), times.end());
    const double median = times[times.size() / 2];
    fmt::print("{:<28} {:8.2f} MB {:9} tokens {:7.3f} s {:8.1f} MB/s  ({:.3f} to {:.3f} s)\n", name,
               static_cast<double>(text.size()) / 1e6, n_ids, median,
               static_cast<double>(text.size()) / 1e6 / median, times.front(), times.back());
}

std::string repeat(std::string_view unit, size_t n_bytes) {
    std::string text;
    while (text.size() < n_bytes) text += unit;
    return text;
}

void run(int argc, char** argv) {
    if (argc < 2) throw Error("usage: tokenizer_bench MODEL [TEXTFILE...]");
    const auto start = Clock::now();
    const Tokenizer tokenizer = load_tokenizer(std::filesystem::path(argv[1]));
    fmt::print("loaded {} tokens in {:.1f} ms\n", tokenizer.n_tokens(), seconds_since(start) * 1e3);

    for (int i = 2; i < argc; ++i) measure(tokenizer, argv[i], MappedFile(argv[i]).text(), 15);
    constexpr size_t n = 10'000'000;  // bytes
    const std::pair<const char*, std::string_view> hard[] = {
        {"one letter", "a"},
        {"letters of two kinds", "ab"},
        {"spaces", " "},
        {"newlines", "\n"},
        {"spaces and a newline", "    \n"},
        {"punctuation", "!"},
        {"emoji", "\xf0\x9f\x98\x80"},
        {"Chinese", "\xe4\xbd\xa0\xe5\xa5\xbd"},
        {"combining marks", "\xcc\x81\xcc\xa3"},
        {"broken UTF-8", "\xff\xc3"},
        {"added tokens", "<|im_end|>"},
        {"nearly added tokens", "<|im_end|<"},
    };
    for (const auto& [name, unit] : hard) measure(tokenizer, name, repeat(unit, n), 3);

    std::mt19937 rng(1);
    std::string letters(n, 'a');
    for (char& c : letters) c = static_cast<char>('a' + rng() % 26);
    measure(tokenizer, "random letters", letters, 3);
}

}  // namespace

}  // namespace smelt

int main(int argc, char** argv) {
    try {
        smelt::run(argc, argv);
    } catch (const smelt::Error& e) {
        fmt::print(stderr, "tokenizer_bench: {}\n", e.what());
        return 1;
    }
    return 0;
}
