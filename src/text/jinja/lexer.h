// Template source -> tokens, with the whitespace rules of trim_blocks and lstrip_blocks applied to the text
// between tags. Comments and {% raw %} end here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace smelt::jinja {

enum class Token : uint8_t {
    data,            // text between tags
    variable_begin,  // {{
    variable_end,
    block_begin,  // {%
    block_end,
    name,
    string,
    integer,
    real,
    symbol,  // operators and brackets; `text` says which
    end,
};

struct Lexeme {
    Token token;
    int line;
    std::string text;  // data and strings: the value, escapes resolved
    int64_t integer = 0;
    double real = 0;
};

// Throws Raised as TemplateSyntaxError; `line` is set to where.
std::vector<Lexeme> tokenize(std::string_view source, int& line);

}  // namespace smelt::jinja
