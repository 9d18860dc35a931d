// What systemd asks of a service of Type=notify: datagrams to the socket that NOTIFY_SOCKET names. Nothing
// happens where there is none.
#pragma once

#include <chrono>
#include <string_view>

namespace smelt {

void notify_service_manager(std::string_view state);  // "READY=1"

// How often WATCHDOG=1 is expected at least; 0: never.
std::chrono::microseconds watchdog_period();

}  // namespace smelt
