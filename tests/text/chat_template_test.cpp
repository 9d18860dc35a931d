// Chat templates: published ones against renders by Jinja itself, small ones against recorded results,
// budgets.
#include "text/chat_template.h"

#include <gtest/gtest.h>

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

// What Jinja2 3.1 has built in: all of it but the filter random, whose output nobody could check.
TEST(ChatTemplate, EveryBuiltinOfJinjaIsKnown) {
    const std::string filters =
        "abs attr batch capitalize center count d default dictsort e escape filesizeformat first float "
        "forceescape format groupby indent int items join last length list lower map max min pprint reject "
        "rejectattr replace reverse round safe select selectattr slice sort string striptags sum title "
        "tojson "
        "trim truncate unique upper urlencode urlize wordcount wordwrap xmlattr ";
    const std::string tests =
        "!= < <= == > >= boolean callable defined divisibleby eq equalto escaped even false filter float ge "
        "greaterthan gt in integer iterable le lessthan lower lt mapping ne none number odd sameas sequence "
        "string test true undefined upper ";
    size_t n = 0;
    for (const auto& [names, what] : {std::pair{filters, "filter"}, std::pair{tests, "test"}}) {
        std::istringstream words(names);
        for (std::string name; words >> name; ++n)
            EXPECT_EQ(render(fmt::format("{{{{ '{}' is {} }}}}", name, what), Json::object()), "True")
                << name;
    }
    EXPECT_EQ(n, 92u);
    EXPECT_EQ(render("{% if x %}{{ [1] | random }}{% endif %}", {{"x", true}}),
              "TemplateRuntimeError: No filter named 'random' found.");
    for (const std::string name : {"cycler", "dict", "joiner", "namespace", "range"})
        EXPECT_EQ(render("{{ " + name + " is defined }}", Json::object()), "True") << name;
    EXPECT_EQ(render("{{ lipsum is defined }}", Json::object()), "False");
}

// Each of these would take hours, gigabytes or the stack without its budget.
TEST(ChatTemplate, LongWordsAreLookedThroughOnce) {
    for (const std::string word :
         {"'a@b.c.' * 100000 ~ '-'", "'a@' * 300000", "'x' ~ '(' * 300000 ~ ')' * 300000"})
        EXPECT_EQ(render("{{ (" + word + ") | urlize == (" + word + ") }}", Json::object(), {}), "True")
            << word;
}

TEST(ChatTemplate, BudgetsEndWhatNeverEnds) {
    const std::string forever = "{% for a in range(100000) %}{% for b in range(100000) %}";
    const std::string done = "{% endfor %}{% endfor %}";
    const std::string grow = "{% set ns = namespace(s='x', l=[1], t=()) %}{% for i in range(100000) %}";
    const std::vector<std::string> sources = {
        "{{ 'x' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        grow + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        grow + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
        grow + "{% set ns.l = ns.l + ns.l %}{% endfor %}",
        grow + "{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
        grow + "{% set ns.s = [ns.s, ns.s] | join('y') %}{% endfor %}",
        grow + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        grow + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
        grow + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | pprint }}",
        grow + "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        grow + "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | pprint }}",
        grow + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | pprint }}",
        grow + "{% set ns.s = ns.s ~ ' http://x.com' | urlize %}{% set x = ns.s | urlize %}{% endfor %}",
        "{{ ('http://' ~ 'a.' * 2000000 ~ 'de') | urlize }}",
        grow + "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l == [ns.l] }}",
        grow + "{% set ns.t = (ns.t,) %}{% endfor %}{{ {ns.t: 1} }}",
        grow + "{{ 'x' * 1000000 }}{% endfor %}",
        "{{ 'x' | center(10**12) }}{{ 'x'.zfill(10**12) }}",
        "{{ '%1000000000d' % 5 }}",
        "{{ '{:>1000000000}'.format('x') }}",
        "{{ [1] | tojson(indent=10**12) }}",
        "{{ (' http://a.com' * 10000000) | urlize }}",
        "{% set s = 'http://a.com/?' ~ 'a@' * 100000 %}" + forever + "{% set x = s | urlize %}" + done,
        "{% set s = ' abc' * 100000 %}" + forever + "{% set x = s | pprint %}" + done,
        "{{ [1] | batch(10**12, 0) | list }}",
        forever + done,
        forever + "{{ a }}" + done,
        forever + "{% set x = 'a,b'.split(',') | map('upper') | join %}" + done,
        forever + "{% set x = strftime_now('%c%c%c%c%c%c%c%c%c%c') %}" + done,
        "{% set s = 'a' * 10000000 %}{% set t = 'a' * 1000000 ~ 'b' %}" + forever + "{% set x = t in s %}" +
            done,
        "{% set s = 'a' * 10000000 %}{% set t = 'b' ~ 'a' * 1000000 %}" + forever +
            "{% set x = s.rfind(t) %}" + done,
        "{% set s = 'é ' * 1000000 %}" + forever + "{% set x = s | title %}" + done,
        "{% set s = range(100000) | list %}" + forever + "{% set x = s | sort %}" + done,
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ 'x' * 60000000 }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    };
    for (const std::string& source : sources) {
        const std::string result = render(source, Json::object(), {.max_steps = 2'000'000});
        EXPECT_TRUE(result.starts_with("BudgetError: ")) << source << "\n" << result.substr(0, 200);
    }
}

std::string repeat(std::string_view unit, int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += unit;
    return text;
}

TEST(ChatTemplate, DeepSourcesAreRefused) {
    for (const char* unit : {"(", "[", "{1:", "-", "not ", "a[", "a(", "1 if 1 else ", "1 is in ["}) {
        EXPECT_TRUE(render("{{ " + repeat(unit, 50'000) + "1 }}").starts_with("TemplateSyntaxError: "))
            << unit;
    }
    for (const char* unit :
         {"{% if 1 %}", "{% for a in b %}", "{% macro m() %}", "{% set x %}", "{% with %}"}) {
        EXPECT_TRUE(render(repeat(unit, 50'000)).starts_with("TemplateSyntaxError: ")) << unit;
    }
    for (const char* unit : {" | e", " and 1", " or 0", "[0]"}) {
        EXPECT_TRUE(render("{{ 1" + repeat(unit, 50'000) + " }}").starts_with("BudgetError: ")) << unit;
    }
    EXPECT_EQ(render("{{ 1" + repeat(" + 1", 50'000) + " }}"), "50001");  // long, but not deep
}

TEST(ChatTemplate, DeepAndCyclicValuesAreFreed) {
    const std::string grow = "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}";
    EXPECT_EQ(render(grow + "{% set ns.l = [ns.l] %}{% endfor %}x"), "x");
    EXPECT_EQ(render("{% set ns = namespace(a=1) %}{% set ns.me = ns %}{{ ns }}"),
              "<Namespace {'a': 1, 'me': <Namespace {...}>}>");
    EXPECT_EQ(render("{% set ns = namespace() %}{% macro m() %}{{ ns.m.name }}{% endmacro %}{% set ns.m = m "
                     "%}{{ m() }}"),
              "m");
}

TEST(ChatTemplate, IntegersOverflowAsErrors) {
    for (const char* e : {"9223372036854775807 + 1", "-9223372036854775807 - 2", "2 ** 63",
                          "4611686018427387904 * 2", "'99999999999999999999' | int", "1e19 | int"}) {
        EXPECT_TRUE(render(std::string("{{ ") + e + " }}").starts_with("OverflowError: ")) << e;
    }
    EXPECT_EQ(render("{{ n }}", {{"n", 18446744073709551615u}}), "18446744073709551615");
}

TEST(ChatTemplate, ErrorsSayWhere) {
    try {
        ChatTemplate("line 1\n{{ 1 }}\n{{ messages.nope.x }}").render({{"messages", Json::object()}});
        FAIL();
    } catch (const TemplateError& e) {
        EXPECT_EQ(e.line(), 3);
        EXPECT_STREQ(e.what(),
                     "chat template, line 3: UndefinedError: 'dict object' has no attribute 'nope'");
    }
    try {
        ChatTemplate("\n{% if true %}\n{{ 1 + }}{% endif %}");
        FAIL();
    } catch (const TemplateError& e) {
        EXPECT_EQ(e.line(), 3);
        EXPECT_EQ(e.type(), "TemplateSyntaxError");
    }
    EXPECT_EQ(render("\xff"), "TemplateSyntaxError: byte 0 is not UTF-8");
    EXPECT_TRUE(render(std::string(2 << 20, 'x')).starts_with("BudgetError: "));
}

}  // namespace
}  // namespace smelt
