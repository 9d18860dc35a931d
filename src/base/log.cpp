// spdlog with a stderr sink, or one that calls a function.
#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <mutex>

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

class FunctionSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
    explicit FunctionSink(std::function<void(spdlog::level::level_enum, std::string_view)> on_message)
        : on_message_(std::move(on_message)) {}

 private:
    void sink_it_(const spdlog::details::log_msg& message) override {
        if (on_message_) on_message_(message.level, {message.payload.data(), message.payload.size()});
    }
    void flush_() override {}

    std::function<void(spdlog::level::level_enum, std::string_view)> on_message_;
};

// Not registered with spdlog: a name is registered once, and a program may choose again.
void use_sink(spdlog::sink_ptr sink, spdlog::level::level_enum level) {
    auto logger = std::make_shared<spdlog::logger>("smelt", std::move(sink));
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<PrintableMessage>('*').set_pattern("%^%l%$: %*");
    logger->set_formatter(std::move(formatter));
    logger->set_level(level);
    // What a function throws would be printed otherwise.
    logger->set_error_handler([](const std::string&) {});
    spdlog::set_default_logger(std::move(logger));
}

}  // namespace

std::string printable(std::string text, Lines lines) {
    for (char& c : text) {
        const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
        if (control && (c != '\n' || lines == Lines::one)) c = '?';
    }
    return text;
}

void init_log(LogLevel level) {
    use_sink(std::make_shared<spdlog::sinks::stderr_color_sink_mt>(),
             level == LogLevel::quiet     ? spdlog::level::err
             : level == LogLevel::verbose ? spdlog::level::debug
                                          : spdlog::level::info);
}

void send_log(std::function<void(spdlog::level::level_enum, std::string_view)> on_message) {
    use_sink(std::make_shared<FunctionSink>(std::move(on_message)), spdlog::level::debug);
}

void init_log_of_library() {
    static std::once_flag once;
    std::call_once(once, [] {
        const auto logger = spdlog::default_logger();
        if (logger != nullptr && !logger->name().empty()) return;
        use_sink(std::make_shared<spdlog::sinks::stderr_color_sink_mt>(), spdlog::level::warn);
    });
}

}  // namespace smelt
