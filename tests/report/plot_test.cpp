// What a picture shows, and what is read out of results.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "report/csv.h"
#include "report/page.h"
#include "report/pictures.h"
#include "report/plots.h"

namespace smelt {
namespace {

size_t count(const std::string& text, const std::string& part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

Plot two_lines() {
    return {.id = "p",
            .title = "A < B & \"C\"",
            .x_title = "tokens",
            .y_title = "ms",
            .series = {{.name = "one", .x = {1, 10, 100}, .y = {1, 2, 3}},
                       {.name = "two", .x = {1, 10}, .y = {5, 6}}}};
}

TEST(Plot, SeriesAreToldApartWithoutColour) {
    const std::string svg = draw_plot(two_lines()).text;
    EXPECT_EQ(count(svg, "<polyline"), 2u);
    EXPECT_EQ(count(svg, "<circle"), 3u);              // the first's marks
    EXPECT_EQ(count(svg, "d=\"M-3-3H3V3H-3Z\""), 2u);  // the second's
    EXPECT_EQ(count(svg, "stroke-dasharray"), 1u);
    EXPECT_EQ(count(svg, ">one</text>"), 1u);
    EXPECT_EQ(count(svg, ">two</text>"), 1u);
    EXPECT_NE(svg.find("A &lt; B &amp; &quot;C&quot;"), std::string::npos);
}

TEST(Plot, ALogarithmicAxisLeavesOutWhatItCannotShow) {
    Plot plot = two_lines();
    plot.log_x = plot.log_y = true;
    plot.series[0].y[1] = 0;
    plot.series[0].y[2] = NAN;
    const std::string svg = draw_plot(plot).text;
    EXPECT_EQ(count(svg, "<circle"), 1u);
    EXPECT_EQ(count(svg, "nan"), 0u);
    EXPECT_EQ(count(svg, "inf"), 0u);
}

TEST(Plot, NothingToShowIsAPictureToo) {
    for (const bool log : {false, true}) {
        Plot plot{.id = "p", .title = "empty", .series = {{.name = "none"}}, .log_x = log, .log_y = log};
        EXPECT_EQ(count(draw_plot(plot).text, "nan"), 0u);
        plot.categories = {"a"};
        EXPECT_EQ(count(draw_plot(plot).text, "nan"), 0u);
    }
}

TEST(Plot, NamesAtTheEndsOfLinesDoNotMeet) {
    Plot plot{.id = "p", .title = "many"};
    for (int i = 0; i < 8; ++i)
        plot.series.push_back({.name = std::to_string(i), .x = {1, 2}, .y = {1, 1.0 + 0.001 * i}});
    const std::string svg = draw_plot(plot).text;
    std::vector<double> heights;
    for (size_t at = svg.find("class=\"name\""); at != std::string::npos;
         at = svg.find("class=\"name\"", at + 1)) {
        const size_t y = svg.rfind(" y=\"", at);
        heights.push_back(std::stod(svg.substr(y + 4)));
    }
    ASSERT_EQ(heights.size(), 8u);
    std::ranges::sort(heights);
    for (size_t i = 1; i < heights.size(); ++i) EXPECT_GE(heights[i] - heights[i - 1], 10);
}

TEST(Plot, BarsSayTheirNumbers) {
    const Plot plot{.id = "p",
                    .title = "bars",
                    .series = {{.name = "cpu", .y = {12, 3}}, {.name = "gpu", .y = {90, NAN}}},
                    .categories = {"greedy", "beam"}};
    const std::string svg = draw_plot(plot).text;
    EXPECT_EQ(count(svg, "<rect"), 3u);
    EXPECT_EQ(count(svg, ">12 cpu<"), 1u);
    EXPECT_EQ(count(svg, ">90 gpu<"), 1u);
}

class ResultFile {
 public:
    ResultFile(const std::string& name, const std::string& text)
        : path_(std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + name)) {
        std::ofstream(path_) << text;
    }
    ~ResultFile() { std::filesystem::remove(path_); }
    Results read() const { return read_results({path_}); }

 private:
    std::filesystem::path path_;
};

TEST(Results, RoundsOfAPeerComparisonBecomeOneRow) {
    const Results r = ResultFile("c.csv",
                                 "file,threads,prompt,decode,depth,round,program,tokens_per_s\n"
                                 "n.gguf,2,512,0,0,0,smelt,500\nn.gguf,2,512,0,0,1,smelt,510\n"
                                 "n.gguf,2,512,0,0,2,smelt,400\nn.gguf,2,0,64,4096,0,smelt,30\n")
                          .read();
    ASSERT_EQ(r.rows.size(), 2u);
    bool seen = false;
    for (const Json& row : r.rows) {
        if (row["kind"] != "prompt") continue;
        seen = true;
        EXPECT_EQ(number_at(row, "prefill_tokens_per_s"), 500);
        EXPECT_EQ(number_at(row, "prefill_tokens_per_s.min"), 400);
    }
    EXPECT_TRUE(seen);
}

TEST(Results, PromptTestsTableIsRead) {
    const Results r =
        ResultFile("p.txt",
                   "2026-12-01 09:00:00\nModel: m\n"
                   "| Machine | Engine | Prompt Tokens | PP/s | TTFT | Generated Tokens | TG/s | Duration |\n"
                   "| ------- | ------ | ------------- | ---- | ---- | ---------------- | ---- | -------- |\n"
                   "| RTX3090 | LCPP | 264 | 1033.18 | 0.26 | 968 | 115.4 | 8.6 |\n\nTotal duration: 9s\n")
            .read();
    ASSERT_EQ(r.rows.size(), 1u);
    EXPECT_EQ(r.rows[0]["program"], "LCPP");
    EXPECT_EQ(number_at(r.rows[0], "ttft_ms"), 260);
    EXPECT_EQ(number_at(r.rows[0], "tokens_per_s"), 115.4);
}

TEST(Results, WhatIsNoResultIsNamed) {
    const std::pair<const char*, const char*> files[] = {
        {"a.json", "{\"foo\": 1}"},
        {"b.json", "[1]"},
        {"c.json", "{\"rows\": 3}"},
        {"d.json", "{\"phases\": [{}]}"},
        {"e.csv", "a,b\n1,2\n"},
        {"f.csv", ""},
        {"g.txt", "| Machine |\n"},
        {"h.json", "{"},
        {"i.csv", "file,threads,prompt,decode,depth,round,program,tokens_per_s\nx,2,many,0,0,0,smelt,1\n"}};
    for (const auto& [name, text] : files) {
        try {
            ResultFile(name, text).read();
            ADD_FAILURE() << name;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
        }
    }
}

TEST(Pictures, ArePngAndPdf) {
    std::string missing;
    const auto maker = open_picture_maker(missing);
    if (!maker) GTEST_SKIP() << missing;
    const Svg svg = draw_plot(two_lines());
    const std::string png = maker->png(with_style(svg), svg.width, svg.height, 2);
    ASSERT_GT(png.size(), 24u);
    EXPECT_EQ(png.substr(1, 3), "PNG");
    EXPECT_EQ(static_cast<unsigned char>(png[18]) * 256 + static_cast<unsigned char>(png[19]), 800);  // width
    const Svg page{with_style(svg), svg.width, svg.height};
    const std::string pdf = maker->pdf(std::vector{page, page});
    EXPECT_TRUE(pdf.starts_with("%PDF"));
    EXPECT_THROW(maker->png("<svg", 10, 10, 1), Error);
}

TEST(Csv, ComesBackAsItWas) {
    const CsvTable table = {{"a", "b,\"c\""}, {"", "two\nlines"}};
    EXPECT_EQ(parse_csv(csv_text(table)), table);
    EXPECT_EQ(parse_csv("a,b\r\n1,2"), (CsvTable{{"a", "b"}, {"1", "2"}}));  // no end of the last line
    EXPECT_TRUE(parse_csv("").empty());
}

}  // namespace
}  // namespace smelt
