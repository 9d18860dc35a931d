// Keywords of JSON Schema that Pydantic, Zod, TypeScript and MCP servers write beside the plain ones.
#include <gtest/gtest.h>

#include "grammar_support.h"

namespace smelt {
namespace {

struct KeywordCase {
    const char* schema;
    std::vector<const char*> in, out;
};

class Keyword : public ::testing::TestWithParam<KeywordCase> {};

TEST_P(Keyword, AcceptsWhatItAllows) {
    const auto& [schema, in, out] = GetParam();
    const Grammar g = compiled(GrammarSpec::json_schema(Json::parse(schema)));
    for (const char* text : in) EXPECT_TRUE(accepts(g, text)) << schema << "\n" << text;
    for (const char* text : out) EXPECT_FALSE(accepts(g, text)) << schema << "\n" << text;
}

using C = KeywordCase;

INSTANTIATE_TEST_SUITE_P(
    Annotations, Keyword,
    ::testing::Values(
        C{R"({"type":"boolean","xml":{"name":"q"},"tsType":"X","errorMessage":"e","strict":true,"name":"n","minLenght":3})",
          {"true"},
          {"1"}},
        C{R"({"oneOf":[{"type":"null"},{"type":"boolean"}],"discriminator":{"propertyName":"k"}})",
          {"null"},
          {"1"}},
        C{R"({"type":"string","maxLength":4,"format":"uuid4"})", {"\"x\""}, {"\"12345\""}},
        C{R"({"properties":{"a":{"type":"null"}},"required":null,"additionalProperties":null})",
          {"{}", "{\"a\":null}"},
          {}},
        C{R"({"const":null})", {"null"}, {"1"}}));

INSTANTIATE_TEST_SUITE_P(
    References, Keyword,
    ::testing::Values(
        C{R"({"$ref":"#/definitions/Page%3CItem%3E","definitions":{"Page<Item>":{"type":"null"}}})",
          {"null"},
          {"1"}},
        C{R"({"$ref":"#/$defs/x%7E0y","$defs":{"x~y":{"type":"null"}}})", {"null"}, {"1"}},
        C{R"({"$ref":"#/$defs/%C3%BC","$defs":{"ü":{"type":"null"}}})", {"null"}, {"1"}},
        C{R"({"$ref":"#node","$defs":{"x":{"$anchor":"node","type":"null"}}})", {"null"}, {"1"}},
        C{R"({"$ref":"item","$defs":{"x":{"$id":"item","type":"null"}}})", {"null"}, {"1"}},
        C{R"({"$ref":"http://x/y#/$defs/n","$id":"http://x/y","$defs":{"n":{"type":"null"}}})",
          {"null"},
          {"1"}},
        C{R"({"$dynamicAnchor":"t","type":"object","properties":{"n":{"$dynamicRef":"#t"}}})",
          {"{}", R"({"n":{"n":{}}})"},
          {R"({"n":1})"}}));

INSTANTIATE_TEST_SUITE_P(
    Not, Keyword,
    ::testing::Values(
        C{R"({"anyOf":[{"not":{}},{"type":"boolean"}]})", {"true"}, {"1"}},
        C{R"({"not":{"type":"string"}})", {"1", "null", "{}"}, {"\"a\""}},
        C{R"({"not":{"type":["string","number"]}})", {"null", "[]"}, {"\"a\"", "1"}},
        C{R"({"type":"string","not":{"const":"a"}})", {"\"b\"", "\"aa\"", "\"\""}, {"\"a\""}},
        C{R"({"type":"string","not":{"enum":["a","b.c"]}})", {"\"c\"", "\"bxc\""}, {"\"a\"", "\"b.c\""}},
        C{R"({"type":"integer","not":{"enum":[0,5]}})", {"1", "-3", "6"}, {"0", "5"}},
        C{R"({"type":"string","not":{"enum":["","b"]}})", {"\"c\"", "\"bb\""}, {"\"\"", "\"b\""}},
        C{R"({"oneOf":[{"type":["integer","string"]},{"type":"object","properties":{"a":true}},{"minLength":1}]})",
          {"\"\""},
          {"1", "{}", "\"a\""}},
        C{R"({"type":"string","not":{"pattern":"x"}})", {"\"ab\""}, {"\"axb\""}},
        C{R"({"type":"string","not":{"minLength":3}})", {"\"ab\"", "\"\""}, {"\"abc\""}},
        C{R"({"type":"integer","not":{"minimum":3}})", {"2", "-9"}, {"3", "4"}},
        C{R"({"enum":[1,2,3],"not":{"const":2}})", {"1", "3"}, {"2"}},
        C{R"({"enum":["a","b","c"],"not":{"anyOf":[{"const":"a"},{"const":"b"}]}})",
          {"\"c\""},
          {"\"a\"", "\"b\""}},
        C{R"({"type":"object","properties":{"a":true,"b":true},"not":{"required":["a"]}})",
          {"{}", R"({"b":1})"},
          {R"({"a":1})", R"({"a":1,"b":2})"}},
        C{R"({"type":"object","properties":{"k":{"type":"string"}},"required":["k"],"not":{"properties":{"k":{"const":"x"}}}})",
          {R"({"k":"y"})"},
          {R"({"k":"x"})"}},
        C{R"({"not":{"not":{"type":"null"}}})", {"null"}, {"1"}}));

INSTANTIATE_TEST_SUITE_P(
    Conditions, Keyword,
    ::testing::Values(
        C{R"({"type":"object","properties":{"k":{"enum":["a","b"]},"n":{"type":"integer"}},"required":["k"],
              "if":{"properties":{"k":{"const":"a"}}},"then":{"required":["n"]}})",
          {R"({"k":"a","n":1})", R"({"k":"b"})", R"({"k":"b","n":1})"},
          {R"({"k":"a"})"}},
        C{R"({"type":["integer","string"],"if":{"type":"integer"},"then":{"minimum":3},"else":{"maxLength":2}})",
          {"3", "\"ab\""},
          {"2", "\"abc\""}},
        C{R"({"type":"object","properties":{"a":true,"b":true},"dependentRequired":{"a":["b"]}})",
          {"{}", R"({"b":1})", R"({"a":1,"b":2})"},
          {R"({"a":1})"}},
        C{R"({"type":"object","properties":{"a":true,"b":{"type":"integer"}},"dependencies":{"a":{"properties":{"b":{"minimum":3}},"required":["b"]}}})",
          {"{}", R"({"b":1})", R"({"a":1,"b":3})"},
          {R"({"a":1,"b":2})", R"({"a":1})"}},
        C{R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},"oneOf":[{"required":["a"]},{"required":["b"]}]})",
          {R"({"a":null})", R"({"b":null})"},
          {"{}", R"({"a":null,"b":null})"}},
        C{R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},"anyOf":[{"required":["a"]},{"required":["b"]}]})",
          {R"({"a":null})", R"({"b":null})", R"({"a":null,"b":null})"},
          {"{}"}}));

INSTANTIATE_TEST_SUITE_P(
    Objects, Keyword,
    ::testing::Values(
        C{R"({"type":"object","propertyNames":{"enum":["a","b"]},"additionalProperties":{"type":"boolean"}})",
          {"{}", R"({"a":true})", R"({"a":true,"b":false})"},
          {R"({"c":true})", R"({"a":1})", R"({"a":true,"a":true})"}},
        C{R"({"type":"object","propertyNames":{"const":"a"},"additionalProperties":{"type":"boolean"}})",
          {R"({"a":true})"},
          {R"({"b":true})"}},
        C{R"({"type":"object","propertyNames":{"anyOf":[{"pattern":"^x"},{"pattern":"^y"}]},"additionalProperties":true})",
          {R"({"xa":1,"y":2})"},
          {R"({"a":1})"}},
        C{R"({"type":"object","propertyNames":{"pattern":"^[a-z]$","maxLength":3},"additionalProperties":{"type":"null"}})",
          {R"({"a":null})"},
          {R"({"ab":null})"}},
        C{R"({"allOf":[{"properties":{"a":{"type":"null"}}}],"properties":{"b":{"type":"null"}},"unevaluatedProperties":false})",
          {"{}", R"({"b":null,"a":null})"},
          {R"({"c":1})"}},
        C{R"({"properties":{"a":{"type":"null"}},"unevaluatedProperties":{"type":"integer"}})",
          {R"({"a":null,"x":3})"},
          {R"({"a":3})", R"({"x":null})"}}));

INSTANTIATE_TEST_SUITE_P(
    Arrays, Keyword,
    ::testing::Values(
        C{R"({"type":"array","items":{"enum":["a","b","c"]},"uniqueItems":true})",
          {"[]", R"(["c","a"])", R"(["a","b","c"])"},
          {R"(["a","a"])", R"(["a","b","a"])"}},
        C{R"({"type":"array","items":{"enum":["a","b","c"]},"uniqueItems":true,"minItems":2,"maxItems":2})",
          {R"(["c","a"])"},
          {R"(["a"])", R"(["a","b","c"])", "[]"}},
        C{R"({"type":"array","items":{"type":"boolean"},"uniqueItems":true})",
          {"[true,false]"},
          {"[true,true]"}},
        C{R"({"type":"array","items":{"enum":[0,1,2,3,4,5,6,7,8,9]},"uniqueItems":true,"minItems":1,"maxItems":3})",
          {"[0]", "[1,5,9]"},
          {"[]", "[1,1]", "[1,2,3,4]"}},
        C{R"({"type":"array","items":{"anyOf":[{"const":"a"},{"const":"b"},{"type":"null"}]},"uniqueItems":true})",
          {"[]", R"(["b",null,"a"])"},
          {R"(["a","a"])", "[null,null]", R"(["c"])"}},
        C{R"({"type":"array","items":false,"uniqueItems":true})", {"[]"}, {"[1]"}},
        C{R"({"type":"array","uniqueItems":true,"maxItems":1})", {"[]", "[1]"}, {"[1,2]"}},
        C{R"({"items":{"type":"integer","minimum":1,"maximum":49},"type":"array","uniqueItems":true,"minItems":6,"maxItems":6})",
          {"[1,2,3,4,5,6]", "[3,9,17,20,31,49]"},
          {"[1,1,2,3,4,5]", "[1,2,3,4,5]", "[0,1,2,3,4,5]", "[44,45,46,47,48,50]", "[1,2,3,4,5,6,7]"}},
        C{R"({"items":{"type":"integer","exclusiveMinimum":-1.5,"maximum":2},"type":"array","uniqueItems":true})",
          {"[]", "[2,-1,0]", "[1,0]"},
          {"[-2]", "[3]", "[0,0]", "[0,1,2,0]"}},
        C{R"({"items":{"type":"integer","minimum":0,"maximum":250,"multipleOf":50},"type":"array","uniqueItems":true})",
          {"[250,0]", "[100,50,200]"},
          {"[10]", "[100,50,100]"}},
        C{R"({"items":{"type":["boolean","null"]},"type":"array","uniqueItems":true})",
          {"[null,true,false]"},
          {"[null,null]", "[0]"}},
        C{R"({"items":{"type":["integer","null"],"minimum":4,"maximum":3},"type":"array","uniqueItems":true})",
          {"[]", "[null]"},
          {"[null,null]", "[4]", "[3]"}},
        C{R"({"type":"array","items":{"type":"integer"},"contains":{"minimum":5}})",
          {"[5]", "[7,1]"},
          {"[]", "[1]"}},
        C{R"({"type":"array","items":{"type":"integer"},"contains":{"minimum":5},"minContains":2,"maxContains":2})",
          {"[5,6]", "[5,6,1,2]"},
          {"[5]", "[5,6,7]"}},
        C{R"({"anyOf":[{"type":"array","contains":true,"minContains":2,"maxContains":1},{"type":"null"}]})",
          {"null"},
          {"[1,2]", "[1]", "[]"}},
        C{R"({"anyOf":[{"const":false,"oneOf":[{"required":["a"]},{"required":["b"]}]},{"type":"null"}]})",
          {"null"},
          {"false"}},
        C{R"({"type":"array","prefixItems":[{"type":"null"}],"unevaluatedItems":false})",
          {"[null]"},
          {"[null,1]"}}));

INSTANTIATE_TEST_SUITE_P(
    Bounds, Keyword,
    ::testing::Values(
        C{R"({"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807})",
          {"0", "-5"},
          {"1.5"}},
        C{R"({"type":"integer","minimum":0,"maximum":18446744073709551615})", {"0", "12"}, {"-1"}},
        C{R"({"type":"number","minimum":-3.4028234663852886e+38,"maximum":3.4028234663852886e+38})",
          {"0", "-1.5", "999999999999999"},
          {"1e99"}},
        C{R"({"type":"integer","exclusiveMaximum":9223372036854776000,"minimum":0})", {"7"}, {"-7"}},
        C{R"({"type":"integer","minimum":5000000000000000,"maximum":1e19})", {"5000000000000000"}, {"4"}}));

// --- What is not exactly kept is left out where a schema is lenient, and said. ---

TEST(Lenient, SaysWhatItLeavesOut) {
    const struct {
        const char *schema, *accepted, *said;
    } cases[] = {
        {R"({"properties":{"a":{"type":"array","uniqueItems":true}}})", R"({"a":[1,1]})",
         "/properties/a: uniqueItems"},
        {R"j({"type":"string","pattern":"(x)\\1"})j", "\"y\"", "pattern"},
        {R"({"type":"number","multipleOf":0.12345})", "0.5", "multipleOf"},
        {R"({"type":"array","not":{"items":{"const":1}}})", "[2]", "not"},
        {R"({"oneOf":[{"type":"array","items":{"type":"string"}},{"type":"array","items":{"maxLength":3}}]})",
         "[\"a\"]", "oneOf"},
    };
    for (const auto& c : cases) {
        refused(GrammarSpec::json_schema(Json::parse(c.schema)));
        const Grammar g = compiled(GrammarSpec::json_schema(Json::parse(c.schema), true));
        EXPECT_TRUE(accepts(g, c.accepted)) << c.schema;
        ASSERT_EQ(grammar_warnings(g).size(), 1u) << c.schema;
        EXPECT_NE(grammar_warnings(g)[0].find(c.said), std::string::npos) << grammar_warnings(g)[0];
    }
    // What is no schema is none all the same.
    EXPECT_TRUE(
        std::holds_alternative<GrammarError>(compile_grammar(GrammarSpec::json_schema({{"type", 5}}, true))));
    EXPECT_TRUE(grammar_warnings(compiled(GrammarSpec::json_schema({{"type", "null"}}, true))).empty());
}

TEST(CheckSchema, TellsWhatIsNoSchema) {
    for (const char* schema :
         {R"({"type":5})", R"({"type":["x"]})", R"({"properties":[1]})", R"({"properties":{"a":3}})",
          R"({"items":{"required":"a"}})", R"({"anyOf":[]})", R"({"maximum":true})", R"({"minLength":-1})",
          R"({"enum":3})", R"({"pattern":3})", R"({"$defs":{"a":{"type":1}}})", "[]", "3"}) {
        EXPECT_TRUE(check_schema(Json::parse(schema)).has_value()) << schema;
    }
    for (const char* schema : {"{}", "true", R"({"type":"object","properties":null,"required":null})",
                               R"({"x":3,"not":{"uniqueItems":true},"exclusiveMinimum":true})"}) {
        EXPECT_FALSE(check_schema(Json::parse(schema)).has_value()) << schema;
    }
}

TEST(ShortestText, IsTheShortest) {
    const auto bytes = [](const char* schema) {
        return shortest_text(compiled(GrammarSpec::json_schema(Json::parse(schema)), {.compact = true}));
    };
    EXPECT_EQ(bytes("true"), 1u);
    EXPECT_EQ(bytes(R"({"type":"string","minLength":1000})"), 1002u);
    EXPECT_EQ(bytes(R"({"type":"string","pattern":"^a*$","minLength":1000})"), 1002u);
    EXPECT_EQ(bytes(R"({"type":"array","minItems":100,"items":{"type":"null"}})"), 2 + 100 * 4 + 99u);
    EXPECT_EQ(bytes(R"({"properties":{"a":{"type":"null"},"b":{"$ref":"#"}},"required":["a"]})"), 10u);
    EXPECT_EQ(shortest_text(compiled(GrammarSpec::regex("(abc){3}d?"))), 9u);
    EXPECT_EQ(shortest_text(compiled(GrammarSpec::gbnf("root ::= \"a\" root \"b\" | \"\""))), 0u);
}

}  // namespace
}  // namespace smelt
