// JSON schemas, keyword by keyword: which texts are accepted, which schemas are refused.
#include <gtest/gtest.h>

#include <chrono>

#include "grammar_support.h"
#include "sanitizer.h"

namespace smelt {
namespace {

struct SchemaCase {
    const char* schema;
    std::vector<const char*> in, out;
};

class Schema : public ::testing::TestWithParam<SchemaCase> {};

TEST_P(Schema, AcceptsWhatItAllows) {
    const auto& [schema, in, out] = GetParam();
    const Grammar g = compiled(GrammarSpec::json_schema(Json::parse(schema)));
    for (const char* text : in) EXPECT_TRUE(accepts(g, text)) << schema << "\n" << text;
    for (const char* text : out) EXPECT_FALSE(accepts(g, text)) << schema << "\n" << text;
}

INSTANTIATE_TEST_SUITE_P(
    Scalars, Schema,
    ::testing::Values(
        SchemaCase{"true", {"1", "\"x\"", "null", "[1, {\"a\": []}]", "{}"}, {"", " 1", "1 ", "nul"}},
        SchemaCase{R"({"type":"null"})", {"null"}, {"0", "\"\"", "NULL"}},
        SchemaCase{R"({"type":"boolean"})", {"true", "false"}, {"True", "1"}},
        SchemaCase{R"({"type":"integer"})",
                   {"0", "-1", "42", "999999999999999"},
                   {"00", "-0", "1.0", "1e3", "+1", "01"}},
        SchemaCase{R"({"type":"number"})",
                   {"0", "-0", "1.5", "-2e10", "1E-5", "3.25e+2"},
                   {".5", "1.", "01", "1e", "--1", "1e400"}},
        SchemaCase{R"({"type":["string","null"]})", {"null", "\"\""}, {"1"}},
        SchemaCase{R"({"type":"string","nullable":true})", {"null", "\"\""}, {"1"}},
        SchemaCase{R"({"enum":["a",1,null,{"k":[1,2]}]})",
                   {"\"a\"", "1", "null", "{\"k\": [1, 2]}", "{\"k\":[1,2]}"},
                   {"\"b\"", "2", "{\"k\": [2, 1]}"}},
        SchemaCase{R"({"const":"x\"\n"})", {R"("x\"\n")"}, {"\"x\""}},
        SchemaCase{
            R"({"enum":["a","abc",5,7.5],"type":"string","maxLength":1})", {"\"a\""}, {"\"abc\"", "5"}},
        SchemaCase{R"({"enum":[1,5,9],"minimum":4,"x-order":1})", {"5", "9"}, {"1"}}));

INSTANTIATE_TEST_SUITE_P(
    Numbers, Schema,
    ::testing::Values(
        SchemaCase{R"({"type":"integer","minimum":3,"maximum":120})",
                   {"3", "9", "10", "99", "100", "120"},
                   {"2", "121", "-3", "0", "1000"}},
        SchemaCase{R"({"type":"integer","minimum":-15,"maximum":7})",
                   {"-15", "-9", "-1", "0", "7"},
                   {"-16", "8", "-20", "-0", "10"}},
        SchemaCase{
            R"({"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":10})", {"1", "9"}, {"0", "10"}},
        SchemaCase{R"({"type":"integer","minimum":0,"exclusiveMinimum":true})", {"1"}, {"0"}},
        SchemaCase{R"({"type":"integer","minimum":-20.5,"maximum":-3.5})", {"-20", "-4"}, {"-21", "-3", "4"}},
        SchemaCase{
            R"({"type":"integer","minimum":1000000})", {"1000000", "123456789"}, {"999999", "0", "-1000000"}},
        SchemaCase{R"({"type":"integer","maximum":-1})", {"-1", "-100"}, {"0", "1"}},
        SchemaCase{R"({"type":"integer","multipleOf":7,"minimum":0,"maximum":100})",
                   {"0", "7", "98"},
                   {"1", "99", "105"}},
        SchemaCase{R"({"type":"integer","multipleOf":4})", {"-8", "0", "400"}, {"2", "-6"}},
        SchemaCase{R"({"type":"number","multipleOf":5,"minimum":10})", {"10", "15"}, {"5", "12"}},
        SchemaCase{R"({"type":"number","multipleOf":0.01})",
                   {"0", "12", "0.5", "-3.25", "1.10", "999999999999.01"},
                   {"0.001", "1.255", "1.", ".5", "1e2", "0.5.5", "-"}},
        SchemaCase{R"({"type":"number","multipleOf":0.25,"minimum":0,"maximum":2})",
                   {"0", "0.25", "0.5", "0.50", "1.75", "2", "2.00"},
                   {"0.1", "0.20", "0.35", "2.25", "-0.25", "0.125"}},
        SchemaCase{
            R"({"type":"number","multipleOf":2.5})", {"0", "5", "2.5", "-7.5", "100"}, {"1", "0.5", "4"}},
        SchemaCase{R"({"type":"number","multipleOf":1e-3,"exclusiveMinimum":1})",
                   {"1.001", "2", "17.5"},
                   {"1", "1.000", "1.0001", "0.5"}},
        SchemaCase{R"({"type":"integer","multipleOf":0.75})", {"0", "3", "-6"}, {"1", "2", "4"}},
        SchemaCase{R"({"allOf":[{"multipleOf":0.2},{"multipleOf":3}],"type":"number"})",
                   {"0", "3", "9", "-12"},
                   {"0.2", "1", "0.6"}},
        SchemaCase{R"({"enum":[0.07,0.075,0.3,1],"multipleOf":0.01})", {"0.07", "0.3", "1"}, {"0.075"}},
        SchemaCase{R"({"type":"number","minimum":0,"maximum":1})",
                   {"0", "0.5", "1", "1.0", "0.000001", "1.000000"},
                   {"-0.1", "1.1", "1.000001", "2", "1e0"}},
        SchemaCase{R"({"type":"number","exclusiveMinimum":0,"maximum":2.5})",
                   {"0.1", "2.5", "2.49", "1", "0.01", "2.50"},
                   {"0", "0.0", "2.51", "3", "-1"}},
        SchemaCase{R"({"type":"number","minimum":-1.25,"exclusiveMaximum":3})",
                   {"-1.25", "-1.2", "-1", "0", "2.999", "-0.5"},
                   {"-1.26", "-2", "3", "3.0", "-1.3"}},
        SchemaCase{R"({"type":"number","minimum":0.25,"maximum":0.75})",
                   {"0.25", "0.5", "0.75", "0.3", "0.250"},
                   {"0.2", "0.8", "0", "1", "0.751"}},
        SchemaCase{R"({"type":"number","minimum":-0.5,"maximum":-0.25})",
                   {"-0.5", "-0.25", "-0.3"},
                   {"-0.6", "-0.2", "0.3", "0", "-0"}},
        SchemaCase{
            R"({"type":"number","minimum":99.5})", {"99.5", "100", "123456.75"}, {"99.4", "9", "-100"}},
        SchemaCase{R"({"type":"number","exclusiveMaximum":0})", {"-0.5", "-3"}, {"0", "-0", "0.1", "-0.0"}}));

INSTANTIATE_TEST_SUITE_P(
    Strings, Schema,
    ::testing::Values(
        SchemaCase{R"({"type":"string"})",
                   {R"("")", R"("häß €😀")", R"("\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00")", "\"\x7f\""},
                   {R"("\x")", R"("\u12")", R"("\uD83D")", R"("\uDE00\uD83D")", "\"\n\"", "\"\xff\"",
                    "\"\xc3\"", "\"\xed\xa0\x80\"", "\"a", "'a'"}},
        SchemaCase{R"({"type":"string","minLength":2,"maxLength":3})",
                   {R"("ab")", R"("äöü")", R"("\n\uD83D\uDE00")", "\"😀😀\""},
                   {R"("a")", R"("abcd")", R"("")"}},
        SchemaCase{R"({"type":"string","maxLength":0})", {R"("")"}, {R"("a")"}},
        SchemaCase{R"({"type":"string","maxLength":2147483647})", {R"("a")"}, {}},
        SchemaCase{
            R"({"type":"string","pattern":"^[a-z]+$"})", {R"("abc")"}, {R"("")", R"("aBc")", R"("a b")"}},
        SchemaCase{R"({"type":"string","pattern":"b+"})",
                   {R"("abba")", R"("b")", R"("éb\"")"},
                   {R"("aca")", R"("")"}},
        SchemaCase{R"({"type":"string","pattern":"^a\"\\\\\\n$"})", {R"("a\"\\\n")"}, {R"("a\u0022\\\n")"}},
        SchemaCase{R"({"type":"string","pattern":"^(a|b)*$","minLength":2,"maxLength":4})",
                   {R"("ab")", R"("bbbb")"},
                   {R"("a")", R"("ababa")", R"("ac")"}},
        SchemaCase{R"({"allOf":[{"pattern":"^a"},{"pattern":"z$"},{"maxLength":3}]})",
                   {R"("az")", R"("abz")"},
                   {R"("a")", R"("abcz")", R"("za")"}},
        SchemaCase{R"({"type":"string","format":"date"})",
                   {R"("2024-02-28")", R"("1999-12-31")"},
                   {R"("2024-02-30")", R"("2024-13-01")", R"("2024-1-1")"}},
        SchemaCase{R"({"type":"string","format":"date-time"})",
                   {R"("2024-02-28T23:59:59Z")", R"("2024-02-28T00:00:00.5+01:30")"},
                   {R"("2024-02-28 23:59:59Z")", R"("2024-02-28T24:00:00Z")"}},
        SchemaCase{R"({"type":"string","format":"uuid"})",
                   {R"("01234567-89ab-cdef-0123-456789abcdef")"},
                   {R"("01234567")"}},
        SchemaCase{R"({"type":"string","format":"ipv4"})",
                   {R"("127.0.0.1")", R"("255.249.99.0")"},
                   {R"("256.0.0.1")", R"("1.2.3")"}},
        SchemaCase{R"({"type":"string","format":"ipv6"})",
                   {R"("::1")", R"("fe80::1")", R"("1:2:3:4:5:6:7:8")"},
                   {R"(":1")", R"("1:2")"}},
        SchemaCase{
            R"({"type":"string","format":"email"})", {R"("a.b@example.org")"}, {R"("a@b")", R"("a b@c.de")"}},
        SchemaCase{
            R"({"type":"string","format":"uri"})", {R"("https://example.org/a?b=c#d")"}, {R"("example")"}}));

INSTANTIATE_TEST_SUITE_P(
    Objects, Schema,
    ::testing::Values(
        SchemaCase{
            R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{}},"required":["b"]})",
            {R"({"b":""})", R"({"a":1,"b":"x"})", R"({ "a": 1, "b": "x", "c": [null] })",
             "{\n  \"b\": \"\"\n}"},
            {R"({})", R"({"a":1})", R"({"b":"","a":1})", R"({"b":"",})", R"({,"b":""})", R"({"b":"","d":1})",
             R"({"b":"" "c":1})", R"({"b":"","b":""})", "{\n\n\n\"b\":\"\"}"}},
        SchemaCase{R"({"type":"object","properties":{}})", {"{}"}, {"[]"}},
        SchemaCase{R"({"type":"object"})",
                   {"{}", R"({"x": {"y": [1]}, "z": null})"},
                   {"[]", R"({"x"})", R"({1:2})"}},
        SchemaCase{R"({"properties":{"a":true},"additionalProperties":{"type":"integer"}})",
                   {R"({"a":"s"})", R"({"a":1,"aa":2})", R"({"b":2,"":3})", "{}"},
                   {R"({"b":"s"})", R"({"b":1,"a":1})", R"({"a":1,"a":2})", R"({"\u0061":"s"})"}},
        SchemaCase{R"({"properties":{"a":true},"additionalProperties":false})",
                   {R"({"a":1})", "{}"},
                   {R"({"b":1})"}},
        SchemaCase{R"({"type":"object","required":["x"]})", {R"({"x":1})"}, {"{}", R"({"y":1})"}},
        SchemaCase{
            R"({"type":"object","patternProperties":{"^n":{"type":"integer"},"s$":{"type":"string"}},"additionalProperties":false})",
            {R"({"n1":1,"s":"x","as":""})", "{}"},
            {R"({"n1":"x"})", R"({"s":1})", R"({"q":1})", R"({"ns":1})", R"({"ns":""})"}},
        SchemaCase{R"({"properties":{"n":{"minimum":5}},"patternProperties":{"^n":{"type":"integer"}}})",
                   {R"({"n":7,"n2":1})"},
                   {R"({"n":3})", R"({"n2":""})", R"({"q":1})"}},
        SchemaCase{
            R"({"type":"object","propertyNames":{"pattern":"^[a-c]$"},"additionalProperties":{"type":"null"}})",
            {R"({"a":null,"c":null})"},
            {R"({"d":null})", R"({"ab":null})"}},
        SchemaCase{R"({"properties":{"a":true,"bb":true},"propertyNames":{"maxLength":1}})",
                   {R"({"a":1})"},
                   {R"({"bb":1})"}},
        SchemaCase{R"({"properties":{"a":true,"b":true,"c":true},"minProperties":2})",
                   {R"({"a":1,"c":1})", R"({"a":1,"b":1,"c":1})"},
                   {R"({"a":1})", "{}"}},
        SchemaCase{R"({"properties":{"a":true,"b":true,"c":true},"maxProperties":1})",
                   {R"({"c":1})", "{}"},
                   {R"({"a":1,"b":1})"}},
        SchemaCase{R"({"type":"object","minProperties":1,"maxProperties":2})",
                   {R"({"c":1})", R"({"c":1,"d":2})"},
                   {"{}", R"({"c":1,"d":2,"e":3})"}},
        SchemaCase{
            R"({"properties":{"é\"/~":{"const":1}},"required":["é\"/~"]})", {R"({"é\"/~": 1})"}, {"{}"}},
        SchemaCase{
            R"({"properties":{"a":false,"b":{"type":"null"}}})", {R"({"b":null})", "{}"}, {R"({"a":1})"}}));

INSTANTIATE_TEST_SUITE_P(
    Arrays, Schema,
    ::testing::Values(
        SchemaCase{
            R"({"type":"array"})", {"[]", "[1, \"x\", [2]]", "[\n  1\n]"}, {"[1,]", "[,1]", "{}", "[1 2]"}},
        SchemaCase{R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":4})",
                   {"[1,2]", "[1, 2, 3, 4]"},
                   {"[]", "[1]", "[1,2,3,4,5]", "[\"a\",\"b\"]"}},
        SchemaCase{R"({"type":"array","items":{"type":"null"},"minItems":3})",
                   {"[null,null,null]", "[null,null,null,null]"},
                   {"[null,null]"}},
        SchemaCase{R"({"type":"array","items":{"const":1},"maxItems":1})", {"[]", "[1]"}, {"[1,1]"}},
        SchemaCase{R"({"type":"array","items":{"const":1},"maxItems":1000000000})", {"[]", "[1]"}, {}},
        SchemaCase{R"({"prefixItems":[{"type":"integer"},{"type":"string"}]})",
                   {"[]", "[1]", "[1,\"x\"]"},
                   {"[\"x\"]", "[1,\"x\",2]"}},
        SchemaCase{R"({"prefixItems":[{"type":"integer"}],"items":{"type":"boolean"},"minItems":2})",
                   {"[1,true]", "[1,true,false]"},
                   {"[1]", "[1,2]"}},
        SchemaCase{R"({"items":[{"type":"integer"}],"additionalItems":{"type":"null"}})",
                   {"[1]", "[1,null]"},
                   {"[1,1]"}},
        SchemaCase{R"({"type":"array","items":false})", {"[]"}, {"[1]"}},
        SchemaCase{R"({"type":"array","prefixItems":[true,true],"items":false,"minItems":2})",
                   {"[1,2]"},
                   {"[1]", "[1,2,3]"}}));

INSTANTIATE_TEST_SUITE_P(
    Combinations, Schema,
    ::testing::Values(
        SchemaCase{
            R"({"anyOf":[{"type":"string"},{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}]})",
            {"\"x\"", R"({"a":1})"},
            {"1", "{}"}},
        SchemaCase{
            R"({"type":"object","properties":{"k":{"type":"string"}},"required":["k"],"anyOf":[{"properties":{"v":{"type":"integer"}},"required":["v"]},{"properties":{"w":{"type":"null"}},"required":["w"]}]})",
            {R"({"k":"","v":1})", R"({"k":"","w":null})"},
            {R"({"k":""})", R"({"k":"","v":""})"}},
        SchemaCase{R"({"oneOf":[{"type":"string"},{"type":"integer"}]})", {"\"\"", "1"}, {"null"}},
        SchemaCase{
            R"({"oneOf":[{"properties":{"t":{"const":"a"},"x":{"type":"integer"}},"required":["t","x"],"type":"object"},{"type":"object","properties":{"t":{"const":"b"}},"required":["t"]}]})",
            {R"({"t":"a","x":1})", R"({"t":"b"})"},
            {R"({"t":"a"})", R"({"t":"b","x":1})"}},
        SchemaCase{R"({"oneOf":[{"type":"integer","maximum":3},{"type":"integer","minimum":4}]})",
                   {"3", "4"},
                   {"\"\""}},
        SchemaCase{R"({"oneOf":[{"const":1},{"enum":[2,3]}]})", {"1", "2"}, {"4"}},
        SchemaCase{
            R"({"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"a":{"minimum":3},"b":true}}]})",
            {R"({"a":3})", R"({"a":3,"b":0})"},
            {R"({"a":2})", "{}"}},
        SchemaCase{
            R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"]}}})",
            {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
            {R"({"v":1,"next":{"v":2}})", R"({"v":1})"}},
        SchemaCase{R"({"type":"array","items":{"$ref":"#"}})", {"[]", "[[],[[]]]"}, {"[1]"}},
        SchemaCase{R"({"properties":{"a":{"$ref":"#/definitions/x~1y"}},"definitions":{"x/y":{"const":1}}})",
                   {R"({"a":1})"},
                   {R"({"a":2})"}},
        SchemaCase{R"({"$ref":"#/$defs/a","maximum":5,"$defs":{"a":{"type":"integer","minimum":3}}})",
                   {"3", "5"},
                   {"2", "6"}},
        SchemaCase{
            R"({"anyOf":[{"type":"integer"},{"type":"string"}],"oneOf":[{"maximum":3,"type":"integer"},{"type":"string","maxLength":1}]})",
            {"3", "\"x\""},
            {"4", "\"xx\""}},
        SchemaCase{R"({"anyOf":[false,{"type":"null"}]})", {"null"}, {"1"}}));

TEST(SchemaRefused, WhatCannotBeEnforced) {
    const struct {
        const char *schema, *path, *keyword;
    } cases[] = {
        {R"({"type":"array","uniqueItems":true})", "", "uniqueItems"},
        {R"({"type":"array","uniqueItems":3})", "", "uniqueItems"},
        {R"({"not":{"type":"array","items":{"const":1}}})", "/not", "not"},
        {R"({"not":{"$ref":"#"}})", "", "$ref"},
        {R"({"disallow":"string"})", "", "disallow"},
        {R"({"if":"text"})", "", "if"},
        {R"({"not":"text"})", "", "not"},
        {R"({"type":"array","contains":"text"})", "", "contains"},
        {R"({"type":"object","dependentRequired":3})", "", "dependentRequired"},
        {R"({"maximum":true})", "", "maximum"},
        {R"({"multipleOf":true})", "", "multipleOf"},
        {R"({"enum":[[1]],"prefixItems":{"a":1}})", "", "prefixItems"},
        {R"({"type":"strnig"})", "", "type"},
        {R"({"type":3})", "", "type"},
        {R"j({"properties":{"a":{"pattern":"(x)\\1"}}})j", "/properties/a", "pattern"},
        {R"({"properties":{"a":{"format":3}}})", "/properties/a", "format"},
        {R"({"items":{"$ref":"http://x/y"}})", "/items", "$ref"},
        {R"({"items":{"$ref":"#/nowhere"}})", "/items", "$ref"},
        {R"({"items":{"maxLength":-3.3e46}})", "/items", "maxLength"},
        {R"({"$ref":"#"})", "", "$ref"},
        {R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})", "", "$ref"},
        {R"({"oneOf":[{"type":"array","items":{"type":"string"}},{"type":"array","items":{"maxLength":3}}]})",
         "/oneOf", "oneOf"},
        {R"({"type":"number","multipleOf":0.12345})", "", "multipleOf"},
        {R"({"type":"integer","multipleOf":0})", "", "multipleOf"},
        {R"({"type":"integer","minimum":"3"})", "", "minimum"},
        {R"({"minLength":-1})", "", "minLength"},
        {R"({"minItems":1.5})", "", "minItems"},
        {R"({"type":"object","minProperties":2})", "", "minProperties"},
        {R"({"enum":3})", "", "enum"},
        {R"({"required":"a"})", "", "required"},
        {R"({"properties":[1]})", "", "properties"},
        {R"([1])", "", ""},
        {R"({"items":3})", "/items", ""},
        {R"({"anyOf":[]})", "", "anyOf"},
        {R"({"type":"number","minimum":1e30})", "", "minimum"},
    };
    for (const auto& c : cases) {
        const GrammarError e = refused(GrammarSpec::json_schema(Json::parse(c.schema)));
        EXPECT_EQ(e.path, c.path) << c.schema << ": " << e.message();
        EXPECT_EQ(e.keyword, c.keyword) << c.schema << ": " << e.message();
        EXPECT_FALSE(e.text.empty()) << c.schema;
    }
    // Nothing is valid.
    for (const char* schema :
         {"false", R"({"type":"integer","minimum":5,"maximum":4})",
          R"({"type":"string","minLength":3,"maxLength":2})",
          R"({"allOf":[{"type":"string"},{"type":"null"}]})",
          R"({"properties":{"a":{"$ref":"#"}},"required":["a"]})", R"({"enum":[1],"type":"string"})",
          R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", R"({"not":{}})", R"({"not":true})",
          R"({"properties":{"a":false},"required":["a"]})"}) {
        refused(GrammarSpec::json_schema(Json::parse(schema)));
    }
}

TEST(SchemaLayout, Compact) {
    const Grammar g = compiled(GrammarSpec::json_schema(Json::parse(
                                   R"({"properties":{"a":{"items":true,"type":"array"}},"required":["a"]})")),
                               {.compact = true});
    EXPECT_TRUE(accepts(g, R"({"a":[1,2]})"));
    EXPECT_FALSE(accepts(g, R"({"a": [1,2]})"));
    EXPECT_FALSE(accepts(g, R"({ "a":[1,2]})"));
}

TEST(SchemaRefused, HostileSizes) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<Json> schemas;
    // Exponentially many combinations.
    Json all = Json::array();
    for (int i = 0; i < 30; ++i) {
        all.push_back({{"anyOf",
                        {{{"properties", {{fmt::format("a{}", i), true}}}},
                         {{"properties", {{fmt::format("b{}", i), true}}}}}}});
    }
    schemas.push_back({{"type", "object"}, {"allOf", all}});
    Json names;
    for (int i = 0; i < 9'000; ++i) names[fmt::format("p{}", i)] = {{"type", "integer"}};
    schemas.push_back({{"properties", names}});
    schemas.push_back({{"properties", names}, {"additionalProperties", true}});
    Json values = Json::array();
    for (int i = 0; i < 20'000; ++i) values.push_back(fmt::format("value {}", i));
    schemas.push_back({{"enum", values}});
    Json refs = {{"$defs", Json::object()}, {"$ref", "#/$defs/0"}};
    for (int i = 0; i < 2'000; ++i)
        refs["$defs"][std::to_string(i)] = {{"$ref", fmt::format("#/$defs/{}", i + 1)}};
    refs["$defs"]["2000"] = {{"type", "null"}};
    schemas.push_back(refs);
    schemas.push_back({{"type", "string"}, {"pattern", "^(.*a.{30}|.*b.{30})$"}, {"maxLength", 5'000}});
    schemas.push_back({{"type", "string"}, {"pattern", "^((a+)+)+$"}, {"minLength", 100'000}});
    schemas.push_back({{"type", "integer"}, {"multipleOf", 1999}, {"minimum", 123456789}});
    Json deep = {{"type", "null"}};
    for (int i = 0; i < 50; ++i)
        deep = {{"properties", {{"x", deep}, {"y", deep.size() > 2 ? Json(true) : Json(false)}}}};
    schemas.push_back(deep);
    for (const Json& s : schemas) {
        const auto result = compile_grammar(GrammarSpec::json_schema(s));
        if (const auto* e = std::get_if<GrammarError>(&result)) {
            EXPECT_FALSE(e->text.empty());
        }
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60) * patience);
}

// In the order of the schema, the required ones never left out, each at most once.
TEST(Schema, MembersInOrder) {
    constexpr size_t n = 6;
    for (unsigned required = 0; required < 1u << n; required += 5) {
        Json s = {{"type", "object"}, {"properties", Json::object()}, {"required", Json::array()}};
        for (size_t i = 0; i < n; ++i) {
            s["properties"][fmt::format("m{}", i)] = {{"type", "null"}};
            if ((required >> i & 1) != 0) s["required"].push_back(fmt::format("m{}", i));
        }
        Json counted = s;
        counted["maxProperties"] = n - 1;
        const Grammar g = compiled(GrammarSpec::json_schema(s)),
                      fewer = compiled(GrammarSpec::json_schema(counted));
        for (unsigned set = 0; set < 1u << n; ++set) {
            std::string text;
            for (size_t i = 0; i < n; ++i) {
                if ((set >> i & 1) != 0) text += fmt::format("{}\"m{}\":null", text.empty() ? "" : ",", i);
            }
            EXPECT_EQ(accepts(g, "{" + text + "}"), (set & required) == required) << text;
            EXPECT_EQ(accepts(fewer, "{" + text + "}"), (set & required) == required && set != (1u << n) - 1)
                << text;
            if (set != 0) {
                EXPECT_FALSE(accepts(g, "{" + text + ",\"m0\":null}")) << text;
                EXPECT_FALSE(accepts(g, "{" + text + ",}")) << text;
            }
        }
    }
}

TEST(Schema, HundredsOfMembers) {
    Json s = {{"type", "object"}, {"properties", Json::object()}};
    for (int i = 0; i < 1000; ++i)
        s["properties"][fmt::format("property_{}", i)] = {{"type", i % 2 == 0 ? "string" : "integer"}};
    const Grammar g = compiled(GrammarSpec::json_schema(s));
    EXPECT_TRUE(accepts(g, R"({"property_3": 5, "property_998": "x"})"));
    EXPECT_FALSE(accepts(g, R"({"property_998": "x", "property_3": 5})"));
}

// What a pattern matches, of the lengths that are allowed, and nothing else.
TEST(Schema, CountsTheCharactersOfPatterns) {
    const std::string chars[] = {"a", "b", "é"};
    std::vector<std::vector<std::string>> texts = {{""}};  // by length
    for (int n = 1; n <= 6; ++n) {
        std::vector<std::string>& longer = texts.emplace_back();
        for (const std::string& t : texts[texts.size() - 2]) {
            for (const std::string& c : chars) longer.push_back(t + c);
        }
    }
    for (const char* pattern :
         {"^a*b?$", "b", "^(ab|é)*$", "^(aab)*$", "^[^a]+$", "^(a|éa|bbbb)$", "^(é?b)*a$"}) {
        const Grammar any = compiled(GrammarSpec::json_schema({{"type", "string"}, {"pattern", pattern}}));
        for (size_t min = 0; min <= 4; ++min) {
            for (size_t max = min; max <= 5; ++max) {
                const auto result = compile_grammar(GrammarSpec::json_schema(
                    {{"type", "string"}, {"pattern", pattern}, {"minLength", min}, {"maxLength", max}}));
                for (size_t n = 0; n < texts.size(); ++n) {
                    for (const std::string& t : texts[n]) {
                        const std::string json = '"' + t + '"';
                        const bool expected = n >= min && n <= max && accepts(any, json);
                        const auto* grammar = std::get_if<Grammar>(&result);
                        ASSERT_EQ(grammar != nullptr && accepts(*grammar, json), expected)
                            << pattern << " " << min << " " << max << " " << json;
                    }
                }
            }
        }
    }
}

}  // namespace
}  // namespace smelt
