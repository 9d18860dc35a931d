// Lexeme access and statements.
#include "text/jinja/parser.h"

#include <algorithm>

#include "base/error.h"

namespace smelt::jinja {

Parser::Parser(std::vector<Lexeme> lexemes, int max_depth, int& line)
    : lexemes_(std::move(lexemes)), max_depth_(max_depth), line_(line) {
    for (const char* known : {"loop", "caller", "varargs", "kwargs"}) name_id(known);
}

Program Parser::run() {
    program_.body = parse_body({});
    return std::move(program_);
}

const Lexeme& Parser::advance() {
    const Lexeme& lexeme = lexemes_[at_];
    if (at_ + 1 < lexemes_.size()) ++at_;
    line_ = lexemes_[at_].line;
    return lexeme;
}

bool Parser::is_symbol(std::string_view s) const {
    return current().token == Token::symbol && current().text == s;
}
bool Parser::is_name(std::string_view s) const {
    return current().token == Token::name && current().text == s;
}

bool Parser::skip_symbol(std::string_view s) {
    if (!is_symbol(s)) return false;
    advance();
    return true;
}

bool Parser::skip_name(std::string_view s) {
    if (!is_name(s)) return false;
    advance();
    return true;
}

void Parser::expect_symbol(std::string_view s) {
    if (!skip_symbol(s)) fail(fmt::format("expected token '{}', got {}", s, describe()));
}

void Parser::expect_name(std::string_view s) {
    if (!skip_name(s)) fail(fmt::format("expected token '{}', got {}", s, describe()));
}

void Parser::expect(Token token, std::string_view what) {
    if (current().token != token) fail(fmt::format("expected token '{}', got {}", what, describe()));
    advance();
}

std::string Parser::take_name() {
    if (current().token != Token::name) fail(fmt::format("expected token 'name', got {}", describe()));
    return advance().text;
}

std::string Parser::describe() const {
    switch (current().token) {
        case Token::data:
            return "'template data / text'";
        case Token::variable_begin:
            return "'begin of print statement'";
        case Token::variable_end:
            return "'end of print statement'";
        case Token::block_begin:
            return "'begin of statement block'";
        case Token::block_end:
            return "'end of statement block'";
        case Token::end:
            return "'end of template'";
        default:
            return text_repr(current().text);
    }
}

void Parser::fail(std::string message) const {
    line_ = current().line;
    raise("TemplateSyntaxError", std::move(message));
}

int Parser::name_id(const std::string& name) {
    const auto [it, is_new] = name_ids_.try_emplace(name, static_cast<int>(program_.names.size()));
    if (is_new) program_.names.push_back(name);
    return it->second;
}

Expr* Parser::make(Op op) {
    Expr& e = program_.exprs.emplace_back();
    e.op = op;
    e.line = current().line;
    return &e;
}

Stmt* Parser::make(Do what) {
    Stmt& s = program_.stmts.emplace_back();
    s.what = what;
    s.line = current().line;
    return &s;
}

// Up to one of the end tags, whose name is then the current lexeme; without end tags up to the end.
Body Parser::parse_body(const Tags& end_tags) {
    const Level level(*this);
    Body body;
    while (true) {
        switch (current().token) {
            case Token::end: {
                if (end_tags.empty()) return body;
                std::string wanted;
                for (const auto tag : end_tags)
                    wanted += fmt::format("{}'{}'", wanted.empty() ? "" : " or ", tag);
                fail(fmt::format("Unexpected end of template. Jinja was looking for the following tags: {}.",
                                 wanted));
            }
            case Token::data: {
                Stmt* s = make(Do::text);
                s->text = advance().text;
                body.push_back(s);
                break;
            }
            case Token::variable_begin: {
                advance();
                Stmt* s = make(Do::print);
                s->expr = parse_tuple(true, false, false);
                expect(Token::variable_end, "end of print statement");
                body.push_back(s);
                break;
            }
            default: {
                advance();
                if (current().token != Token::name) fail("tag name expected");
                if (std::find(end_tags.begin(), end_tags.end(), current().text) != end_tags.end())
                    return body;
                body.push_back(parse_statement());
                expect(Token::block_end, "end of statement block");
            }
        }
    }
}

Stmt* Parser::parse_statement() {
    const std::string tag = current().text;
    if (tag == "for") return parse_for();
    if (tag == "if") return parse_if();
    if (tag == "set") return parse_set();
    if (tag == "macro") return parse_macro();
    if (tag == "call") return parse_call_block();
    if (tag == "filter") return parse_filter_block();
    if (tag == "with") return parse_with();
    if (tag == "generation" || tag == "block") return parse_named_scope();
    if (tag == "break") return parse_loop_control(Do::break_);
    if (tag == "continue") return parse_loop_control(Do::continue_);
    if (tag == "print") {
        advance();
        Stmt* s = make(Do::print);
        s->expr = make(Op::concatenate);
        do {
            s->expr->items.push_back(parse_expression());
        } while (skip_symbol(","));
        return s;
    }
    fail_unknown_tag(tag);
}

void Parser::fail_unknown_tag(const std::string& tag) {
    static constexpr std::string_view refused[] = {"extends", "include", "import", "from"};
    if (std::find(std::begin(refused), std::end(refused), tag) != std::end(refused)) {
        fail(fmt::format("'{}' is not available: a chat template cannot read another file", tag));
    }
    fail(fmt::format("Encountered unknown tag {}.", text_repr(tag)));
}

Stmt* Parser::parse_loop_control(Do what) {
    if (loops_ == 0) raise("SyntaxError", fmt::format("'{}' outside loop", current().text));
    Stmt* s = make(what);
    advance();
    return s;
}

Stmt* Parser::parse_for() {
    Stmt* s = make(Do::for_);
    advance();
    s->target = parse_target(false, true);
    expect_name("in");
    s->expr = parse_tuple(false, false, false);
    if (skip_name("if")) s->filter = parse_expression();
    s->recursive = skip_name("recursive");
    expect(Token::block_end, "end of statement block");
    ++loops_;
    s->body = parse_body({"endfor", "else"});
    --loops_;
    if (advance().text == "endfor") return s;
    expect(Token::block_end, "end of statement block");
    s->other = parse_body({"endfor"});
    advance();
    return s;
}

Stmt* Parser::parse_if() {
    Stmt* s = make(Do::if_);
    ++conditional_;
    std::string tag = "if";
    while (tag != "endif") {
        advance();
        if (tag == "else") {
            expect(Token::block_end, "end of statement block");
            s->other = parse_body({"endif"});
        } else {
            Expr* condition = parse_tuple(false, false, false);
            expect(Token::block_end, "end of statement block");
            s->branches.emplace_back(condition, parse_body({"elif", "else", "endif"}));
        }
        tag = current().text;
    }
    advance();
    --conditional_;
    return s;
}

Stmt* Parser::parse_set() {
    Stmt* s = make(Do::set);
    advance();
    s->target = parse_target(true, false);
    if (skip_symbol("=")) {
        s->expr = parse_tuple(true, false, false);
        return s;
    }
    s->what = Do::set_block;
    if (is_symbol("|")) s->filter = parse_filter(nullptr);
    expect(Token::block_end, "end of statement block");
    s->body = parse_body({"endset"});
    advance();
    return s;
}

void Parser::parse_signature(Stmt& stmt) {
    expect_symbol("(");
    while (!is_symbol(")")) {
        if (!stmt.parameters.empty()) expect_symbol(",");
        if (is_symbol(")")) break;
        Parameter parameter{take_name(), 0, nullptr};
        parameter.id = name_id(parameter.name);
        if (skip_symbol("=")) {
            parameter.fallback = parse_expression();
        } else if (!stmt.parameters.empty() && stmt.parameters.back().fallback) {
            fail("non-default argument follows default argument");
        }
        stmt.parameters.push_back(std::move(parameter));
    }
    expect_symbol(")");
}

void Parser::parse_callable_body(Stmt& stmt, std::string_view end_tag) {
    expect(Token::block_end, "end of statement block");
    Usage usage;
    usages_.push_back(&usage);
    const int loops = std::exchange(loops_, 0);
    stmt.body = parse_body({end_tag});
    loops_ = loops;
    usages_.pop_back();
    advance();
    stmt.uses_caller = usage.caller;
    stmt.uses_varargs = usage.varargs;
    stmt.uses_kwargs = usage.kwargs;
}

Stmt* Parser::parse_macro() {
    Stmt* s = make(Do::macro);
    advance();
    s->text = take_name();
    s->id = name_id(s->text);
    parse_signature(*s);
    parse_callable_body(*s, "endmacro");
    return s;
}

Stmt* Parser::parse_call_block() {
    Stmt* s = make(Do::call_block);
    advance();
    s->text = "caller";
    if (is_symbol("(")) parse_signature(*s);
    s->expr = parse_expression();
    if (s->expr->op != Op::call) fail("expected call");
    parse_callable_body(*s, "endcall");
    return s;
}

Stmt* Parser::parse_filter_block() {
    Stmt* s = make(Do::filter_block);
    advance();
    s->filter = parse_filter(nullptr);
    expect(Token::block_end, "end of statement block");
    s->body = parse_body({"endfilter"});
    advance();
    return s;
}

Stmt* Parser::parse_with() {
    Stmt* s = make(Do::with);
    advance();
    while (current().token != Token::block_end) {
        if (!s->bindings.empty()) expect_symbol(",");
        Expr* target = parse_target(false, false);
        expect_symbol("=");
        s->bindings.emplace_back(target, parse_expression());
    }
    expect(Token::block_end, "end of statement block");
    s->body = parse_body({"endwith"});
    advance();
    return s;
}

Stmt* Parser::parse_named_scope() {
    const bool is_block = advance().text == "block";
    Stmt* s = make(is_block ? Do::scope : Do::sequence);
    if (is_block) take_name();
    expect(Token::block_end, "end of statement block");
    s->body = parse_body({is_block ? "endblock" : "endgeneration"});
    advance();
    if (is_block && current().token == Token::name) advance();
    return s;
}

Program parse(std::string_view source, int max_depth, int& line) {
    return Parser(tokenize(source, line), max_depth, line).run();
}

}  // namespace smelt::jinja
