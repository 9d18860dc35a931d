// What compiled grammars accept and what is refused: regular expressions, grammar texts, parts put together.
#include "grammar/grammar.h"

#include <gtest/gtest.h>

#include <chrono>

#include "grammar_support.h"
#include "sanitizer.h"

namespace smelt {
namespace {

TEST(Grammar, Regex) {
    const struct {
        const char* pattern;
        std::vector<const char*> in, out;
    } cases[] = {
        {"abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
        {"", {""}, {"a"}},
        {"^a|b$", {"a", "b"}, {"ab", ""}},
        {"(^x)|(y$)", {"x", "y"}, {"xy"}},
        {"a*b+c?", {"b", "aab", "abbc"}, {"a", "c", "abcc"}},
        {"(?:ab){2,3}", {"abab", "ababab"}, {"ab", "abababab"}},
        {"(a|bc)*", {"", "a", "bc", "abca"}, {"b", "ac"}},
        {"[a-c]{2}", {"ab", "cc"}, {"a", "ad", "abc"}},
        {"[^a]", {"b", "é", "€", "😀"}, {"a", "", "bb"}},
        {".", {"x", "ü", "😀"}, {"\n", "", "xy"}},
        {R"(\d{3}-\w+\s?)", {"123-a_9", "123-x "}, {"12-a", "123-", "123-x  "}},
        {R"(\u0041\x42\.\*\/)", {"AB.*/"}, {"ABx*/"}},
        {"x{0}", {""}, {"x"}},
        {"[]x]", {}, {}},
        {"a{2,}", {"aa", "aaaaaaa"}, {"a", ""}},
        {"(a{3}){4}", {"aaaaaaaaaaaa"}, {"aaaaaaaaaaa", "aaaaaaaaaaaaa"}},
        {"[é-ü]+", {"éü", "ñ"}, {"e", "ý"}},
        {"a{,3}", {"a{,3}"}, {"a"}},
        // Anchors anywhere.
        {"(^a)b", {"ab"}, {"b", "a"}},
        {"x(a$|b)", {"xa", "xb"}, {"x"}},
        {R"(\Aab\Z)", {"ab"}, {"b"}},
        {"(a|^)b", {"ab", "b"}, {"xb"}},
        // Look-ahead and look-behind.
        {"(?!admin$)[a-z]{1,8}", {"adminx", "admi", "x"}, {"admin", "", "abcdefghi"}},
        {R"((?=.*[A-Z])(?=.*\d)[A-Za-z\d]{4,6})", {"aA1b", "1234X"}, {"abcd", "aA1", "ABCDEF", "aA1bcde"}},
        {R"((?!\.)(?!.*\.\.)[a-z.]+)", {"a.b", "a."}, {".a", "a..b", ""}},
        {R"((?!^[-+.]*$)[+-]?0*\d*\.?\d*)", {"1", "-0.5", ".5", "+1."}, {"", "-", ".", "+."}},
        {"foo(?!bar)[a-z]*", {"foo", "foobaz", "fooba"}, {"foobar", "foobarx"}},
        {"foo(?=bar)[a-z]*", {"foobar", "foobarx"}, {"foo", "foobaz"}},
        {"[a-z]*(?<=x)", {"x", "abx"}, {"", "ab"}},
        {"[a-z]*(?<!x)", {"", "ab"}, {"x", "abx"}},
        {"[a-z]+(?<!x)[0-9]", {"a1", "xa2"}, {"x1", "ax1"}},
        {"(?<=^|,)a,(?<=,)b", {"a,b"}, {"b", "xa,b"}},
        {"((?!ab)[a-z])*", {"", "ba", "acb"}, {"ab", "xab"}},
        {"(?=(?!ba)[a-z]+$)[a-z]*b", {"b", "ab"}, {"bab", ""}},
        // Word edges.
        {R"(\bx\b ?\by\b)", {"x y"}, {"xy"}},
        {R"(a\B.)", {"ab", "a_"}, {"a-", "a "}},
        {R"([a ]*\bcat\b[ s]*)", {"cat", "a cat ", "cat s"}, {"cats", "acat"}},
        // Flags, properties.
        {"(?i)ab[c-d]", {"ABC", "aBd"}, {"abe"}},
        {"(?i:a)b", {"Ab", "ab"}, {"AB"}},
        {"(?i)ä", {"Ä", "ä"}, {"a"}},
        {"(?s).", {"\n", "a"}, {""}},
        {"(?m)a\n^b$", {"a\nb"}, {"ab"}},
        {R"(\p{Lu}\p{Ll}*)", {"Ab", "Äö", "Ж"}, {"ab", "A1"}},
        {R"(\p{L}+)", {"aÄж"}, {"a1"}},
        {R"(\P{L})", {"1", " "}, {"a"}},
        {R"([\p{Nd}_]+)", {"1_٣"}, {"a"}},
        {R"(\p{Script=Greek}+)", {"αβ"}, {"ab", "ж"}},
        {R"(\p{Letter})", {"a"}, {"1"}},
        {R"((?P<year>\d{2})(?<m>\d))", {"123"}, {"12"}},
    };
    for (const auto& c : cases) {
        if (c.in.empty()) continue;
        const Grammar g = compiled(GrammarSpec::regex(c.pattern));
        for (const char* text : c.in) EXPECT_TRUE(accepts(g, text)) << c.pattern << " " << text;
        for (const char* text : c.out) EXPECT_FALSE(accepts(g, text)) << c.pattern << " " << text;
    }
}

TEST(Grammar, RegexRefused) {
    for (const char* pattern : {"(",
                                ")",
                                "a)",
                                "[a",
                                "a**",
                                "*a",
                                R"((a)\1)",
                                R"((?P<n>a)(?P=n))",
                                "(?>a)",
                                "(?x)a",
                                R"(\p{Klingon})",
                                R"(\p{L)",
                                "a{3,2}",
                                "[b-a]",
                                "[]",
                                "a{9999999}",
                                "\\",
                                R"(\u12)",
                                "a++",
                                "(?<=a(?=b))c",
                                "(?<=",
                                "(?"}) {
        EXPECT_EQ(refused(GrammarSpec::regex(pattern)).keyword, "pattern") << pattern;
    }
    std::string deep;
    for (int i = 0; i < 10000; ++i) deep += "(";
    refused(GrammarSpec::regex(deep));
}

TEST(Grammar, Gbnf) {
    const Grammar g = compiled(GrammarSpec::gbnf(R"gbnf(# arithmetic
root   ::= expr "=" ws term "\n"
expr   ::= term ([-+*/] term)*   # no comment
term   ::= ident | num | "(" ws expr ")" ws
ident  ::= [a-z] [a-z0-9_]* ws
num    ::= [0-9]+ ws
ws     ::= [ \t\n]*
)gbnf"));
    EXPECT_TRUE(accepts(g, "a=1\n"));
    EXPECT_TRUE(accepts(g, "(a +12)*x_1 -3 = y\n"));
    EXPECT_FALSE(accepts(g, "(a +12*x = y\n"));
    EXPECT_FALSE(accepts(g, "a=1"));

    const Grammar lines =
        compiled(GrammarSpec::gbnf("root ::= \"a\"{2,3}\n  | (\n \"x\" |\n \"\\u00e9\")\n  | .{4}\n"));
    for (const char* text : {"aa", "aaa", "x", "é", "1234", "äöü€"})
        EXPECT_TRUE(accepts(lines, text)) << text;
    for (const char* text : {"a", "xx", "12345"}) EXPECT_FALSE(accepts(lines, text)) << text;

    // Recursion on both sides and at the end, ambiguity.
    const Grammar nested = compiled(GrammarSpec::gbnf("root ::= \"(\" root \")\" root | \"\""));
    EXPECT_TRUE(accepts(nested, "(()())()"));
    EXPECT_FALSE(accepts(nested, "(()"));
    const Grammar tail = compiled(GrammarSpec::gbnf("root ::= [a-z] root | [a-z]"));
    EXPECT_TRUE(accepts(tail, std::string(50'000, 'q')));
    const Grammar ambiguous =
        compiled(GrammarSpec::gbnf("root ::= \"a\" b \"x\" | \"a\" c \"y\" | \"\"\nb ::= root\nc ::= root"));
    std::string text = std::string(40, 'a');
    for (int i = 0; i < 40; ++i) text += i % 3 == 0 ? 'x' : 'y';
    EXPECT_TRUE(accepts(ambiguous, text));
    EXPECT_FALSE(accepts(ambiguous, text + "x"));
}

TEST(Grammar, GbnfRefused) {
    for (const char* text :
         {"", "rot ::= \"a\"", "root ::= x", "root ::= \"a", "root ::= [a", "root ::= (\"a\"", "root = \"a\"",
          "root ::= \"a\"\nroot ::= \"b\"", "root ::= root \"a\" | \"a\"", "root ::= x root\nx ::= \"a\"?",
          "root ::= \"a\" root", "root ::= \"\\q\"", "root ::= \"a\"{3,1}", "root ::= [z-a]",
          "root ::= \"a\" )"}) {
        refused(GrammarSpec::gbnf(text));
    }
    EXPECT_EQ(refused(GrammarSpec::gbnf("root ::= \"a\"\nx ::= y")).path, "line 2");
}

TEST(Grammar, Parts) {
    using S = GrammarSpec;
    const S call = S::sequence(
        {S::literal("<tool_call>\n{\"name\": \"f\", \"arguments\": "),
         S::json_schema(Json::parse(R"({"properties":{"x":{"type":"integer"}},"required":["x"]})")),
         S::literal("}\n</tool_call>")});
    const Grammar forced = compiled(call);
    EXPECT_TRUE(accepts(forced, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 3}}\n</tool_call>"));
    EXPECT_FALSE(
        accepts(forced, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": true}}\n</tool_call>"));

    // Calls only where the model begins one.
    const S begun =
        S::sequence({S::text_until({"<tool_call>"}), S::literal("!"), S::literal("</tool_call>")});
    const Grammar free = compiled(S::sequence({S::repeat(begun, 0), S::text_without({"<tool_call>"})}));
    for (const char* text : {"", "hello", "a <tool_cal b", "<<tool_call>!</tool_call>",
                             "x<tool_call>!</tool_call> y <tool_call>!</tool_call>"}) {
        EXPECT_TRUE(accepts(free, text)) << text;
    }
    for (const char* text : {"<tool_call>", "x<tool_call>?</tool_call>", "\xff", "a\x80"})
        EXPECT_FALSE(accepts(free, text)) << text;

    const Grammar thought =
        compiled(S::sequence({S::text_until({"</think>"}), S::one_of_texts({"yes", "no"})}));
    EXPECT_TRUE(accepts(thought, "hm, </thin or </think>yes"));
    EXPECT_FALSE(accepts(thought, "hm</think></think>yes"));
    EXPECT_FALSE(accepts(thought, "yes"));
    const Grammar two = compiled(S::text_until({"ab", "bcd", "b"}));
    EXPECT_TRUE(accepts(two, "xxaab"));
    EXPECT_TRUE(accepts(two, "b"));
    EXPECT_FALSE(accepts(two, "bcd"));

    refused(S::text_until({""}));
    refused(S::one_of({}));
}

// Each is refused or compiled within a time that a slow machine meets too.
TEST(Grammar, HostileSizes) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<GrammarSpec> specs = {
        GrammarSpec::regex("((((((((((a{100}){100}){100}){100}){100}){100}){100}){100}){100}){100})"),
        GrammarSpec::regex("(a|aa|aaa|aaaa)*(a|aa|aaa){1000}b{1000000}"),
        GrammarSpec::regex(std::string(900'000, 'x')),
        GrammarSpec::regex(std::string(2'000'000, 'x')),
    };
    std::string many = "root ::= r0\n";
    for (int i = 0; i < 20'000; ++i)
        many += fmt::format("r{} ::= \"a\" r{} | \"b\" r{} | \"\"\n", i, i + 1, i + 1);
    specs.push_back(GrammarSpec::gbnf(many + "r20000 ::= \"c\"\n"));
    std::string nullable = "root ::= r0\n";
    for (int i = 0; i < 20'000; ++i) nullable += fmt::format("r{} ::= r{}? r{}?\n", i, i + 1, i + 1);
    specs.push_back(GrammarSpec::gbnf(nullable + "r20000 ::= \"c\"\n"));
    std::string big_class = "root ::= ";
    for (int i = 0; i < 3'000; ++i) big_class += "[^\\u00e9]{1,900} ";
    specs.push_back(GrammarSpec::gbnf(big_class));
    specs.push_back(GrammarSpec::gbnf("root ::= \"a\"" + std::string(900'000, '*')));
    for (const GrammarSpec& s : specs) {
        const auto result = compile_grammar(s);
        if (const auto* e = std::get_if<GrammarError>(&result)) {
            EXPECT_FALSE(e->text.empty());
        }
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60) * patience);
}

}  // namespace
}  // namespace smelt
