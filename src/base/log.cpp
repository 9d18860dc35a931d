// spdlog with a stderr sink.
#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace smelt {

void init_log(LogLevel level) {
    auto logger = spdlog::stderr_color_mt("smelt");
    logger->set_pattern("%^%l%$: %v");
    logger->set_level(level == LogLevel::quiet     ? spdlog::level::err
                      : level == LogLevel::verbose ? spdlog::level::debug
                                                   : spdlog::level::info);
    spdlog::set_default_logger(logger);
}

}  // namespace smelt
