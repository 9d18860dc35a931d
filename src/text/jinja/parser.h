// Recursive descent over the lexemes; expressions in expressions.cpp, statements in parser.cpp.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace smelt::jinja {

class Parser {
 public:
    Parser(std::vector<Lexeme> lexemes, int max_depth, int& line);
    Program run();

 private:
    // What the body of a macro mentions decides which extra arguments it takes.
    struct Usage {
        bool caller = false, varargs = false, kwargs = false;
    };
    using Tags = std::vector<std::string_view>;

    class Level;

    // --- lexemes
    const Lexeme& current() const { return lexemes_[at_]; }
    const Lexeme& look() const { return lexemes_[std::min(at_ + 1, lexemes_.size() - 1)]; }
    const Lexeme& advance();
    bool is_symbol(std::string_view s) const;
    bool is_name(std::string_view s) const;
    bool skip_symbol(std::string_view s);
    bool skip_name(std::string_view s);
    void expect_symbol(std::string_view s);
    void expect_name(std::string_view s);
    void expect(Token token, std::string_view what);
    std::string take_name();
    std::string describe() const;
    [[noreturn]] void fail(std::string message) const;

    int name_id(const std::string& name);
    Expr* make(Op op);
    Stmt* make(Do what);

    // --- statements
    Body parse_body(const Tags& end_tags);
    Stmt* parse_statement();
    Stmt* parse_for();
    Stmt* parse_if();
    Stmt* parse_set();
    Stmt* parse_macro();
    Stmt* parse_call_block();
    Stmt* parse_filter_block();
    Stmt* parse_with();
    Stmt* parse_named_scope();
    Stmt* parse_loop_control(Do what);
    void parse_signature(Stmt& stmt);
    void parse_callable_body(Stmt& stmt, std::string_view end_tag);
    [[noreturn]] void fail_unknown_tag(const std::string& tag);

    // --- expressions
    Expr* parse_tuple(bool with_conditional, bool explicit_parentheses, bool ends_at_in);
    Expr* parse_target(bool with_member, bool ends_at_in);
    Expr* parse_target_primary(bool with_member);
    bool is_tuple_end(bool ends_at_in) const;
    Expr* parse_expression(bool with_conditional = true);
    Expr* parse_or();
    Expr* parse_and();
    Expr* parse_not();
    Expr* parse_comparison();
    Expr* parse_binary(int level);
    Expr* parse_unary(bool with_filter);
    Expr* parse_primary();
    Expr* parse_text();
    Expr* parse_list();
    Expr* parse_dict();
    Expr* parse_postfix(Expr* e);
    Expr* parse_filters(Expr* e);
    Expr* parse_filter(Expr* e);
    Expr* parse_test(Expr* e);
    Expr* parse_subscript(Expr* e);
    Expr* parse_subscribed();
    Expr* parse_call(Expr* e);
    Arguments parse_arguments();
    Expr* make_name(const std::string& name);
    std::string take_dotted_name();

    std::vector<Lexeme> lexemes_;
    size_t at_ = 0;
    int depth_ = 0, max_depth_;
    int& line_;
    int conditional_ = 0;  // inside of {% if %} an unknown filter is an error only when reached
    int loops_ = 0;        // around the current tag, within the same macro
    std::vector<Usage*> usages_;
    std::map<std::string, int, std::less<>> name_ids_;
    Program program_;
};

// Recursion depth of the parser while it lives.
class Parser::Level {
 public:
    explicit Level(Parser& parser) : parser_(parser) {
        if (parser.depth_ >= parser.max_depth_) parser.fail("nested too deeply");
        ++parser.depth_;
    }
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

 private:
    Parser& parser_;
};

}  // namespace smelt::jinja
