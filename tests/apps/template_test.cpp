// smelt template through the binary: the bundled model's prompts, templates from files, what it refuses.
#include <gtest/gtest.h>
#include <unistd.h>

#include "apps/command.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-5m";
const std::string folder = SMELT_TEST_DATA "/templates/";

TEST(Template, RendersTheModelsGoldenPrompts) {
    const Json golden = parse_json(MappedFile(model + "/golden.json").text(), "golden.json");
    ASSERT_GT(golden.size(), 3u);
    for (size_t i = 0; i < 4; ++i) {
        Json input = golden[i];
        input["add_generation_prompt"] = true;
        const CommandResult r = smelt_command("template " + model, to_string(input));
        EXPECT_EQ(r.status, 0) << r.err;
        EXPECT_EQ(r.out, golden[i]["prompt"]);
    }
}

TEST(Template, RendersFilesAsOfAGivenTime) {
    const Json cases = parse_json(MappedFile(folder + "cases.json").text(), "cases.json");
    for (size_t i = 0; i < cases.size(); i += 11) {
        const Json& c = cases[i];
        const CommandResult r = smelt_command("template --now '2026-11-20 12:00:00' --template-file " +
                                                  folder + c["template"].get<std::string>() + ".jinja",
                                              to_string(c["input"]));
        EXPECT_EQ(r.status, c.contains("text") ? 0 : 1) << r.err;
        EXPECT_EQ(r.out, c.contains("text") ? c["text"] : "") << c["template"] << c["case"];
    }
}

TEST(Template, RefusesWithOneLine) {
    const CommandResult said = smelt_command(
        "template --template-file " + folder + "mistralai-Mistral-Nemo-Instruct-2407.jinja",
        R"({"messages": [{"role": "assistant", "content": "Hi"}], "bos_token": "", "eos_token": ""})");
    EXPECT_EQ(said.status, 1);
    EXPECT_EQ(said.err.find("smelt: chat template: After the optional system message"), 0u) << said.err;
    EXPECT_EQ(smelt_command("template " + model, "[]").status, 1);
    EXPECT_EQ(smelt_command("template").status, 2);
    EXPECT_EQ(smelt_command("template " + model + " --now noon", "{}").status, 2);
}

}  // namespace
}  // namespace smelt
