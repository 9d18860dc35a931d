// spdlog with a stderr sink.
#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>

namespace smelt {

namespace {

class PrintableMessage final : public spdlog::custom_flag_formatter {
 public:
    void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& to) override {
        const std::string text =
            printable(std::string(message.payload.data(), message.payload.size()), Lines::one);
        to.append(text.data(), text.data() + text.size());
    }
    std::unique_ptr<custom_flag_formatter> clone() const override {
        return std::make_unique<PrintableMessage>();
    }
};

}  // namespace

std::string printable(std::string text, Lines lines) {
    for (char& c : text) {
        const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
        if (control && (c != '\n' || lines == Lines::one)) c = '?';
    }
    return text;
}

void init_log(LogLevel level) {
    auto logger = spdlog::stderr_color_mt("smelt");
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<PrintableMessage>('*').set_pattern("%^%l%$: %*");
    logger->set_formatter(std::move(formatter));
    logger->set_level(level == LogLevel::quiet     ? spdlog::level::err
                      : level == LogLevel::verbose ? spdlog::level::debug
                                                   : spdlog::level::info);
    spdlog::set_default_logger(logger);
}

}  // namespace smelt
