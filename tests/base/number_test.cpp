// Text to numbers: what is one, what is none, and the nearest double.
#include <gtest/gtest.h>

#include <clocale>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/number.h"

namespace smelt {
namespace {

TEST(ParseReal, TakesDecimalNumbersWhole) {
    EXPECT_EQ(parse_real("0.1"), 0.1);
    EXPECT_EQ(parse_real("-12.5e-3"), -0.0125);
    EXPECT_EQ(parse_real(".5"), 0.5);
    EXPECT_EQ(parse_real("5."), 5.0);
    EXPECT_EQ(parse_real("1E+2"), 100.0);
    EXPECT_EQ(parse_real("9007199254740993"), 9007199254740992.0);  // the even neighbour in the middle
    EXPECT_EQ(parse_real("2.2250738585072011e-308"), 2.2250738585072011e-308);
    EXPECT_TRUE(std::signbit(*parse_real("-0")));
}

TEST(ParseReal, TooLargeIsInfinityTooSmallIsZero) {
    const double infinity = std::numeric_limits<double>::infinity();
    EXPECT_EQ(parse_real("1e309"), infinity);
    EXPECT_EQ(parse_real("-1e99999999999999999999"), -infinity);
    EXPECT_EQ(parse_real("1e-400"), 0.0);
    EXPECT_EQ(parse_real("0.000e99999"), 0.0);
    EXPECT_EQ(parse_real(std::string(400, '9')), infinity);
    EXPECT_EQ(parse_real("0." + std::string(400, '0') + "1"), 0.0);
    EXPECT_EQ(parse_real("Infinity"), infinity);
    EXPECT_EQ(parse_real("-inf"), -infinity);
    EXPECT_TRUE(std::isnan(*parse_real("NaN")));
}

TEST(ParseReal, RefusesAllElse) {
    for (const char* text : {"", "-", "+1", " 1", "1 ", "1x", ".", "e5", "1e", "1e+", "0x10", "0x1p3", "1,5",
                             "1_000", "--1", "nan(1)", "infin", "1.5.2", "1e5.0"}) {
        EXPECT_EQ(parse_real(text), std::nullopt) << text;
    }
    EXPECT_EQ(parse_real(std::string_view("1\0", 2)), std::nullopt);
}

TEST(ParseReal, DoesNotAskTheLocale) {
    bool comma = false;
    for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8"})
        comma = comma || std::setlocale(LC_NUMERIC, name) != nullptr;
    EXPECT_EQ(parse_real("1.5"), 1.5);
    EXPECT_EQ(parse_real("1,5"), std::nullopt);
    std::setlocale(LC_NUMERIC, "C");
    if (!comma) GTEST_SKIP() << "no locale with a decimal comma is installed";
}

TEST(ParseInteger, WholeAndInRange) {
    EXPECT_EQ(parse_integer<int>("-12"), -12);
    EXPECT_EQ(parse_integer<int>("ff", 16), 255);
    EXPECT_EQ(parse_integer<int64_t>("9223372036854775807"), std::numeric_limits<int64_t>::max());
    for (const char* text : {"", "-", "+1", " 1", "1 ", "0x1", "1.0", "9223372036854775808"}) {
        EXPECT_EQ(parse_integer<int64_t>(text), std::nullopt) << text;
    }
    EXPECT_EQ(parse_integer<unsigned>("-1"), std::nullopt);
}

}  // namespace
}  // namespace smelt
