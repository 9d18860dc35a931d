// The expression half of the parser, in Jinja's order of precedence.
#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "text/jinja/builtins.h"
#include "text/jinja/parser.h"

namespace smelt::jinja {

namespace {

struct BinarySymbol {
    std::string_view symbol;
    int level;
    Arithmetic arithmetic;
};

// Levels of parse_binary(), loosest first; '~' has level 1 for itself.
constexpr BinarySymbol binary_symbols[] = {
    {"+", 0, Arithmetic::add},    {"-", 0, Arithmetic::subtract},      {"*", 2, Arithmetic::multiply},
    {"/", 2, Arithmetic::divide}, {"//", 2, Arithmetic::floor_divide}, {"%", 2, Arithmetic::modulo},
    {"**", 3, Arithmetic::power},
};
constexpr int concatenation_level = 1, n_binary_levels = 4;

constexpr std::pair<std::string_view, Comparison> comparison_symbols[] = {
    {"==", Comparison::equal},      {"!=", Comparison::not_equal}, {"<", Comparison::less},
    {"<=", Comparison::less_equal}, {">", Comparison::greater},    {">=", Comparison::greater_equal},
};

}  // namespace

bool Parser::is_tuple_end(bool ends_at_in) const {
    const Token t = current().token;
    return t == Token::variable_end || t == Token::block_end || is_symbol(")") ||
           (ends_at_in && is_name("in"));
}

Expr* Parser::parse_tuple(bool with_conditional, bool explicit_parentheses, bool ends_at_in) {
    std::vector<Expr*> items;
    bool is_tuple = false;
    while (true) {
        if (!items.empty()) expect_symbol(",");
        if (is_tuple_end(ends_at_in)) break;
        items.push_back(parse_expression(with_conditional));
        if (!is_symbol(",")) break;
        is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return items[0];
    if (!is_tuple && !explicit_parentheses) fail(fmt::format("Expected an expression, got {}", describe()));
    Expr* e = make(Op::tuple);
    e->items = std::move(items);
    return e;
}

Expr* Parser::parse_target(bool with_member, bool ends_at_in) {
    const Level level(*this);
    std::vector<Expr*> items;
    bool is_tuple = false;
    while (true) {
        if (!items.empty()) expect_symbol(",");
        if (is_tuple_end(ends_at_in) || (is_symbol("=") && is_tuple)) break;
        items.push_back(parse_target_primary(with_member));
        if (!is_symbol(",")) break;
        is_tuple = true;
    }
    if (items.empty()) fail(fmt::format("Expected an expression, got {}", describe()));
    if (!is_tuple) return items[0];
    Expr* e = make(Op::tuple);
    e->items = std::move(items);
    return e;
}

Expr* Parser::parse_target_primary(bool with_member) {
    if (is_symbol("(") || is_symbol("[")) {
        const bool is_list = advance().text == "[";
        Expr* e = parse_target(with_member, false);
        expect_symbol(is_list ? "]" : ")");
        return e;
    }
    static constexpr std::string_view constants[] = {"true", "True", "false", "False", "none", "None"};
    const std::string name = take_name();
    if (std::find(std::begin(constants), std::end(constants), name) != std::end(constants)) {
        fail(fmt::format("can't assign to {}", text_repr(name)));
    }
    Expr* e = make(Op::name);
    e->text = name;
    e->id = name_id(name);
    if (!with_member || !skip_symbol(".")) return e;
    Expr* member = make(Op::member);
    member->a = e;
    member->text = take_name();
    return member;
}

Expr* Parser::parse_expression(bool with_conditional) {
    const Level level(*this);
    Expr* e = parse_or();
    while (with_conditional && skip_name("if")) {
        ++conditional_;
        Expr* conditional = make(Op::conditional);
        conditional->a = e;
        conditional->b = parse_or();
        if (skip_name("else")) conditional->c = parse_expression();
        e = conditional;
        --conditional_;
    }
    return e;
}

Expr* Parser::parse_or() {
    Expr* e = parse_and();
    while (skip_name("or")) {
        Expr* both = make(Op::or_);
        both->a = e;
        both->b = parse_and();
        e = both;
    }
    return e;
}

Expr* Parser::parse_and() {
    Expr* e = parse_not();
    while (skip_name("and")) {
        Expr* both = make(Op::and_);
        both->a = e;
        both->b = parse_not();
        e = both;
    }
    return e;
}

Expr* Parser::parse_not() {
    if (!is_name("not")) return parse_comparison();
    const Level level(*this);
    advance();
    Expr* e = make(Op::not_);
    e->a = parse_not();
    return e;
}

Expr* Parser::parse_comparison() {
    Expr* first = parse_binary(0);
    Expr* e = nullptr;
    while (true) {
        const auto* symbol = std::find_if(std::begin(comparison_symbols), std::end(comparison_symbols),
                                          [&](const auto& s) { return is_symbol(s.first); });
        Comparison comparison = Comparison::in;
        if (symbol != std::end(comparison_symbols)) {
            comparison = symbol->second;
        } else if (is_name("not") && look().token == Token::name && look().text == "in") {
            comparison = Comparison::not_in;
            advance();
        } else if (!is_name("in")) {
            return e ? e : first;
        }
        advance();
        if (!e) {
            e = make(Op::compare);
            e->a = first;
        }
        e->comparisons.push_back(comparison);
        e->items.push_back(parse_binary(0));
    }
}

Expr* Parser::parse_binary(int level) {
    if (level == n_binary_levels) return parse_unary(true);
    Expr* e = parse_binary(level + 1);
    if (level == concatenation_level) {
        if (!is_symbol("~")) return e;
        Expr* joined = make(Op::concatenate);
        joined->items.push_back(e);
        while (skip_symbol("~")) joined->items.push_back(parse_binary(level + 1));
        return joined;
    }
    while (true) {
        const auto* found =
            std::find_if(std::begin(binary_symbols), std::end(binary_symbols),
                         [&](const auto& s) { return s.level == level && is_symbol(s.symbol); });
        if (found == std::end(binary_symbols)) return e;
        Expr* binary = make(Op::binary);
        advance();
        binary->arithmetic = found->arithmetic;
        binary->a = e;
        binary->b = parse_binary(level + 1);
        e = binary;
    }
}

Expr* Parser::parse_unary(bool with_filter) {
    Expr* e = nullptr;
    if (is_symbol("-") || is_symbol("+")) {
        const Level level(*this);
        e = make(is_symbol("-") ? Op::negate : Op::plus);
        advance();
        e->a = parse_unary(false);
    } else {
        e = parse_primary();
    }
    e = parse_postfix(e);
    return with_filter ? parse_filters(e) : e;
}

Expr* Parser::make_name(const std::string& name) {
    Expr* e = make(Op::name);
    e->text = name;
    e->id = name_id(name);
    for (Usage* usage : usages_) {
        usage->caller |= e->id == name_caller;
        usage->varargs |= e->id == name_varargs;
        usage->kwargs |= e->id == name_kwargs;
    }
    return e;
}

Expr* Parser::parse_primary() {
    const Lexeme& lexeme = current();
    Expr* e = nullptr;
    switch (lexeme.token) {
        case Token::name:
            if (lexeme.text == "true" || lexeme.text == "True" || lexeme.text == "false" ||
                lexeme.text == "False") {
                e = make(Op::literal);
                e->literal = Value::boolean(lexeme.text[0] == 't' || lexeme.text[0] == 'T');
            } else if (lexeme.text == "none" || lexeme.text == "None") {
                e = make(Op::literal);
                e->literal = Value::none();
            } else {
                e = make_name(lexeme.text);
            }
            advance();
            return e;
        case Token::string:
            return parse_text();
        case Token::integer:
            e = make(Op::literal);
            e->literal = Value::integer(lexeme.integer);
            advance();
            return e;
        case Token::real:
            e = make(Op::literal);
            e->literal = Value::real(lexeme.real);
            advance();
            return e;
        default:
            break;
    }
    if (is_symbol("(")) {
        advance();
        e = parse_tuple(true, true, false);
        expect_symbol(")");
        return e;
    }
    if (is_symbol("[")) return parse_list();
    if (is_symbol("{")) return parse_dict();
    fail(fmt::format("unexpected {}", describe()));
}

Expr* Parser::parse_text() {
    Expr* e = make(Op::text);
    while (current().token == Token::string) e->text += advance().text;
    e->id = static_cast<int>(program_.strings.size());
    program_.strings.push_back(&e->text);
    return e;
}

Expr* Parser::parse_list() {
    Expr* e = make(Op::list);
    advance();
    while (!is_symbol("]")) {
        if (!e->items.empty()) expect_symbol(",");
        if (is_symbol("]")) break;
        e->items.push_back(parse_expression());
    }
    advance();
    return e;
}

Expr* Parser::parse_dict() {
    Expr* e = make(Op::dict);
    advance();
    while (!is_symbol("}")) {
        if (!e->items.empty()) expect_symbol(",");
        if (is_symbol("}")) break;
        e->items.push_back(parse_expression());
        expect_symbol(":");
        e->items.push_back(parse_expression());
    }
    advance();
    return e;
}

Expr* Parser::parse_postfix(Expr* e) {
    while (true) {
        if (is_symbol(".") || is_symbol("[")) {
            e = parse_subscript(e);
        } else if (is_symbol("(")) {
            e = parse_call(e);
        } else {
            return e;
        }
    }
}

Expr* Parser::parse_filters(Expr* e) {
    while (true) {
        if (is_symbol("|")) {
            e = parse_filter(e);
        } else if (is_name("is")) {
            e = parse_test(e);
        } else if (is_symbol("(")) {
            e = parse_call(e);
        } else {
            return e;
        }
    }
}

std::string Parser::take_dotted_name() {
    std::string name = take_name();
    while (skip_symbol(".")) name.append(".").append(take_name());
    return name;
}

// Without e: the filters of a block, where the first has no '|' before it unless one is there.
Expr* Parser::parse_filter(Expr* e) {
    bool inline_start = !e && !is_symbol("|");
    while (inline_start || is_symbol("|")) {
        if (!inline_start) advance();
        inline_start = false;
        Expr* filter = make(Op::filter);
        filter->a = e;
        filter->text = take_dotted_name();
        filter->builtin = find_filter(filter->text);
        if (!filter->builtin && conditional_ == 0) {
            raise("TemplateAssertionError", fmt::format("No filter named {}.", text_repr(filter->text)));
        }
        if (is_symbol("(")) filter->arguments = parse_arguments();
        e = filter;
    }
    return e;
}

Expr* Parser::parse_test(Expr* e) {
    advance();
    const bool negated = skip_name("not");
    Expr* test = make(Op::test);
    test->a = e;
    test->text = take_dotted_name();
    test->builtin = find_test(test->text);
    if (!test->builtin && conditional_ == 0) {
        raise("TemplateAssertionError", fmt::format("No test named {}.", text_repr(test->text)));
    }
    const Token t = current().token;
    const bool operand = t == Token::name || t == Token::string || t == Token::integer || t == Token::real ||
                         is_symbol("[") || is_symbol("{");
    if (is_symbol("(")) {
        test->arguments = parse_arguments();
    } else if (operand && !is_name("else") && !is_name("or") && !is_name("and")) {
        if (is_name("is")) fail("You cannot chain multiple tests with is");
        const Level level(*this);
        test->arguments.positional.push_back(parse_postfix(parse_primary()));
    }
    if (!negated) return test;
    Expr* inverted = make(Op::not_);
    inverted->a = test;
    return inverted;
}

Expr* Parser::parse_subscript(Expr* e) {
    if (skip_symbol(".")) {
        if (current().token == Token::integer) {
            Expr* item = make(Op::subscript);
            item->a = e;
            item->b = parse_primary();
            return item;
        }
        if (current().token != Token::name) fail("expected name or number");
        Expr* attribute = make(Op::attribute);
        attribute->a = e;
        attribute->text = take_name();
        return attribute;
    }
    Expr* item = make(Op::subscript);
    advance();
    std::vector<Expr*> parts;
    while (!is_symbol("]")) {
        if (!parts.empty()) expect_symbol(",");
        parts.push_back(parse_subscribed());
    }
    advance();
    item->a = e;
    if (parts.size() == 1) {
        item->b = parts[0];
    } else {
        const bool has_slice =
            std::any_of(parts.begin(), parts.end(), [](const Expr* p) { return p->op == Op::slice; });
        if (has_slice) fail("a slice cannot be part of a tuple");
        item->b = make(Op::tuple);
        item->b->items = std::move(parts);
    }
    return item;
}

Expr* Parser::parse_subscribed() {
    Expr* start = nullptr;
    if (!is_symbol(":")) {
        start = parse_expression();
        if (!is_symbol(":")) return start;
    }
    Expr* e = make(Op::slice);
    e->items = {start, nullptr, nullptr};
    for (size_t i = 1; i < 3 && skip_symbol(":"); ++i) {
        if (!is_symbol(":") && !is_symbol("]") && !is_symbol(",")) e->items[i] = parse_expression();
    }
    return e;
}

Expr* Parser::parse_call(Expr* e) {
    Expr* call = make(Op::call);
    call->a = e;
    call->arguments = parse_arguments();
    return call;
}

Arguments Parser::parse_arguments() {
    Arguments arguments;
    const auto ensure = [&](bool ok) {
        if (!ok) fail("invalid syntax for function call expression");
    };
    expect_symbol("(");
    bool first = true;
    while (!is_symbol(")")) {
        if (!first) expect_symbol(",");
        first = false;
        if (is_symbol(")")) break;
        if (skip_symbol("*")) {
            ensure(!arguments.star && !arguments.star_star);
            arguments.star = parse_expression();
        } else if (skip_symbol("**")) {
            ensure(!arguments.star_star);
            arguments.star_star = parse_expression();
        } else if (current().token == Token::name && look().token == Token::symbol && look().text == "=") {
            ensure(!arguments.star_star);
            std::string name = take_name();
            advance();
            arguments.named.emplace_back(std::move(name), parse_expression());
        } else {
            ensure(!arguments.star && !arguments.star_star && arguments.named.empty());
            arguments.positional.push_back(parse_expression());
        }
    }
    advance();
    return arguments;
}

}  // namespace smelt::jinja
