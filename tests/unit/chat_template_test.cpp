// Chat templates: published ones against renders by Jinja itself, small ones against recorded results,
// budgets.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <iterator>

namespace smelt {
namespace {

const std::string folder = std::string(SMELT_TEST_DATA) + "/templates/";

std::string read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    EXPECT_TRUE(in) << path;
    return {std::istreambuf_iterator<char>(in), {}};
}

// The time at which the expected renders were made.
RenderOptions at_noon() {
    std::tm now{};
    now.tm_year = 2026 - 1900;
    now.tm_mon = 10;
    now.tm_mday = 20;
    now.tm_hour = 12;
    now.tm_wday = 5;
    now.tm_yday = 323;
    return {now};
}

std::string render(std::string_view source, const Json& variables = Json::object(),
                   TemplateLimits limits = {}) {
    try {
        return ChatTemplate(source, limits).render(variables, at_noon());
    } catch (const TemplateError& e) {
        return e.type() + ": " + e.message();
    }
}

TEST(ChatTemplate, PublishedTemplatesRenderAsInJinja) {
    const Json cases = parse_json(read(folder + "cases.json"), "cases.json");
    EXPECT_EQ(cases.size(), 128u);
    for (const Json& c : cases) {
        const std::string source = read(folder + c["template"].get<std::string>() + ".jinja");
        EXPECT_EQ(render(source, c["input"]), c.contains("text") ? c["text"] : c["error"])
            << c["template"] << " " << c["case"];
    }
}

TEST(ChatTemplate, BundledModelsRenderTheirGoldenPrompts) {
    for (const std::string model : {"demo-23m", "demo-5m"}) {
        const std::string path = std::string(SMELT_MODELS) + "/" + model + "/";
        const Json config = parse_json(read(path + "tokenizer_config.json"), "tokenizer_config.json");
        const Json golden = parse_json(read(path + "golden.json"), "golden.json");
        EXPECT_GT(golden.size(), 3u);
        for (Json c : golden) {
            c["add_generation_prompt"] = true;
            EXPECT_EQ(render(config["chat_template"].get<std::string>(), c), c["prompt"]) << c["name"];
        }
    }
}

TEST(ChatTemplate, LanguageAgreesWithJinja) {
    const Json file = parse_json(read(folder + "language.json"), "language.json");
    EXPECT_GT(file["cases"].size(), 500u);
    for (const Json& c : file["cases"]) {
        const std::string source = c["template"];
        const std::string result = render(source, file["variables"]);
        if (c.contains("text")) {
            EXPECT_EQ(result, c["text"]) << source;
            continue;
        }
        const std::string expected = c["error"];
        const bool only_type = expected.find(':') == std::string::npos;
        EXPECT_EQ(only_type ? result.substr(0, result.find(':')) : result, expected) << source;
    }
}

}  // namespace
}  // namespace smelt
