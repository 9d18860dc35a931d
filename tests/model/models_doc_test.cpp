// docs/MODELS.md against the code: families, architectures, number formats.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "files/families.h"
#include "files/files_support.h"
#include "quant/format.h"

namespace smelt {
namespace {

using Row = std::vector<std::string>;

// The rows of the table whose first column has this title.
std::vector<Row> read_table(const std::string& text, const std::string& title) {
    std::vector<Row> rows;
    size_t at = text.find("\n| " + title + " |");
    EXPECT_NE(at, std::string::npos) << title;
    if (at == std::string::npos) return rows;
    for (++at; at < text.size() && text[at] == '|';) {
        const size_t end = std::min(text.find('\n', at), text.size());
        Row row;
        for (size_t cell = at + 2; cell < end;) {
            const size_t bar = text.find(" |", cell);
            row.push_back(text.substr(cell, bar - cell));
            cell = bar + 3;
        }
        rows.push_back(std::move(row));
        at = end + 1;
    }
    rows.erase(rows.begin(), rows.begin() + 2);  // titles, and the line below them
    return rows;
}

const std::string& document() {
    static const std::string text = read_file(SMELT_DOCS "/MODELS.md");
    return text;
}

TEST(ModelsDoc, FamiliesAreThoseOfTheCode) {
    std::vector<Row> expected;
    for (const Family* f : all_families()) {
        const std::string containers = f->model_type == "qwen3" ? "HF, GGUF, qwen3.c" : "HF, GGUF";
        expected.push_back({std::string(f->models), std::string(f->model_type), std::string(f->hf_class),
                            std::string(f->architecture), "yes", containers, std::string(f->tokenizer)});
    }
    EXPECT_EQ(read_table(document(), "models"), expected);
}

TEST(ModelsDoc, FormatsAreThoseOfTheCode) {
    std::vector<Row> said, expected;
    for (const Row& row : read_table(document(), "format")) {
        ASSERT_EQ(row.size(), 5u);
        said.push_back({row[0], row[1], row[2], row[3]});
    }
    for (const FormatInfo& f : all_formats()) {
        const double bits = 8.0 * (f.block_bytes + f.scale_bytes) / f.block_len;
        expected.push_back({std::string(f.name), f.gguf_id < 0 ? "–" : std::to_string(f.gguf_id),
                            fmt::format("{:.6g}", bits), f.can_encode && f.gguf_id >= 0 ? "yes" : "no"});
    }
    std::ranges::sort(said);
    std::ranges::sort(expected);
    EXPECT_EQ(said, expected);
}

}  // namespace
}  // namespace smelt
