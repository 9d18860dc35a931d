#include "text/chat_template.h"

#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/unicode.h"

namespace smelt {

namespace {

std::string describe(const std::string& type, const std::string& message, int line) {
    // What the template itself says stands alone: it is addressed to the user.
    if (type == "TemplateError") return fmt::format("chat template: {}", message);
    return fmt::format("chat template, line {}: {}: {}", line, type, message);
}

}  // namespace

TemplateError::TemplateError(std::string type, std::string message, int line)
    : Error(describe(type, message, line)),
      type_(std::move(type)),
      message_(std::move(message)),
      line_(line) {}

struct ChatTemplate::Impl {
    std::string source;
    TemplateLimits limits;
    jinja::Program program;
};

ChatTemplate::ChatTemplate(std::string_view source, TemplateLimits limits) : impl_(std::make_unique<Impl>()) {
    impl_->source = source;
    impl_->limits = limits;
    int line = 1;
    try {
        if (source.size() > limits.max_source) {
            jinja::raise("BudgetError", fmt::format("the template has {} bytes, at most {} are accepted",
                                                    source.size(), limits.max_source));
        }
        if (const size_t at = jinja::find_invalid_utf8(source); at != std::string_view::npos) {
            jinja::raise("TemplateSyntaxError", fmt::format("byte {} is not UTF-8", at));
        }
        impl_->program = jinja::parse(impl_->source, limits.max_depth, line);
    } catch (const jinja::Raised& raised) {
        throw TemplateError(raised.type, raised.message, line);
    }
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

const std::string& ChatTemplate::source() const {
    return impl_->source;
}

std::string ChatTemplate::render(const Json& variables, const RenderOptions& options) const {
    jinja::Interpreter interpreter(impl_->program, impl_->limits, options);
    try {
        return interpreter.render(variables);
    } catch (const jinja::Raised& raised) {
        throw TemplateError(raised.type, raised.message, interpreter.line());
    }
}

}  // namespace smelt
