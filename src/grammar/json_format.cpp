// Each format as a pattern: a part of what its definition allows that no validator refuses.
#include "grammar/json_format.h"

#include <fmt/format.h>

#include <algorithm>

#include "grammar/regex.h"

namespace smelt::grammar {

namespace {

// Without 29 February, which only some years have.
constexpr std::string_view date =
    R"((?:19|20)\d\d-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8])))";
constexpr std::string_view time =
    R"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+\-](?:[01]\d|2[0-3]):[0-5]\d))";
constexpr std::string_view duration =
    R"(P(?:\d{1,4}W|(?:\d{1,4}Y(?:\d{1,2}M(?:\d{1,2}D)?)?|\d{1,2}M(?:\d{1,2}D)?|\d{1,2}D)(?:T(?:\d{1,2}H(?:\d{1,2}M(?:\d{1,2}S)?)?|\d{1,2}M(?:\d{1,2}S)?|\d{1,2}S))?|T(?:\d{1,2}H(?:\d{1,2}M(?:\d{1,2}S)?)?|\d{1,2}M(?:\d{1,2}S)?|\d{1,2}S)))";
constexpr std::string_view ipv4 =
    R"((?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
constexpr std::string_view ipv6 =
    R"((?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|(?:[0-9a-f]{1,4}:){1,6}:[0-9a-f]{1,4}|::(?:[0-9a-f]{1,4}:){0,6}[0-9a-f]{1,4}|::)";
constexpr std::string_view uuid = R"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})";
constexpr std::string_view byte = R"((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)";
constexpr std::string_view path_chars = R"((?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*)";

// Names of up to so many labels, each of up to 2 n + 1 characters.
std::string host_pattern(int n, int n_labels) {
    const std::string label = fmt::format("[a-z0-9](?:-?[a-z0-9]){{0,{}}}", n);
    return fmt::format("{}(?:\\.{}){{0,{}}}", label, label, n_labels - 1);
}

std::string email_pattern(int n, int n_labels) {
    return fmt::format("[A-Za-z0-9_+\\-]{{1,{}}}(?:\\.[A-Za-z0-9_+\\-]{{1,{}}}){{0,{}}}@{}\\.[a-z]{{2,8}}", n,
                       n, std::min(n_labels, 3), host_pattern(n / 2, n_labels));
}

// With parts so short that the whole keeps to the lengths: then nothing has to be counted.
ExprPtr within(const LengthRange& lengths, std::string (*pattern_of)(int, int), Budget& budget) {
    const auto pattern = [&](int n, int n_labels) {
        return parse_regex(pattern_of(n, n_labels), RegexMatch::whole, budget);
    };
    for (const auto& [n, n_labels] : {std::pair(30, 5), {30, 2}, {20, 2}, {12, 1}, {6, 1}}) {
        ExprPtr e = pattern(n, n_labels);
        const LengthRange own = length_range(*e);
        if (own.min >= lengths.min && own.max <= lengths.max) return e;
    }
    return pattern(30, 5);
}

}  // namespace

ExprPtr format_expr(std::string_view format, const LengthRange& lengths, Budget& budget) {
    const auto pattern = [&](std::string_view p) { return parse_regex(p, RegexMatch::whole, budget); };
    const std::string uri = fmt::format(
        "[a-z][a-z0-9]*://[a-z0-9](?:[.\\-]?[a-z0-9])*(?::[1-9]\\d{{0,3}})?(?:/{})?(?:\\?{})?(?:#{})?",
        path_chars, path_chars, path_chars);
    if (format == "date") return pattern(date);
    if (format == "time") return pattern(time);
    if (format == "date-time") return pattern(fmt::format("{}T{}", date, time));
    if (format == "duration") return pattern(duration);
    if (format == "email" || format == "idn-email") return within(lengths, email_pattern, budget);
    if (format == "hostname" || format == "idn-hostname") return within(lengths, host_pattern, budget);
    if (format == "ipv4") return pattern(ipv4);
    if (format == "ipv6") return pattern(ipv6);
    if (format == "uri" || format == "url" || format == "iri" || format == "uri-reference" ||
        format == "iri-reference") {
        return pattern(uri);
    }
    if (format == "uuid") return pattern(uuid);
    if (format == "json-pointer") return pattern(R"((?:/(?:[^~/]|~[01])*)*)");
    if (format == "byte" || format == "base64") return pattern(byte);
    return nullptr;
}

}  // namespace smelt::grammar
