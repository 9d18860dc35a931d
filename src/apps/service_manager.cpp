// The protocol of sd_notify(3), which is one datagram.
#include "apps/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <string>

namespace smelt {

void notify_service_manager(std::string_view state) {
    const char* name = std::getenv("NOTIFY_SOCKET");
    sockaddr_un address{};
    if (name == nullptr) return;
    const std::string_view path(name);
    if (path.empty() || path.size() >= sizeof address.sun_path) return;
    address.sun_family = AF_UNIX;
    std::ranges::copy(path, address.sun_path);
    if (path[0] == '@') address.sun_path[0] = '\0';  // of Linux: a name in no folder
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0) return;
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    // Nobody to tell is no reason to fail.
    (void)::sendto(fd, state.data(), state.size(), 0, reinterpret_cast<const sockaddr*>(&address), length);
    ::close(fd);
}

std::chrono::microseconds watchdog_period() {
    const char* text = std::getenv("WATCHDOG_USEC");
    const char* pid = std::getenv("WATCHDOG_PID");
    if (text == nullptr || (pid != nullptr && std::atol(pid) != ::getpid())) return {};
    return std::chrono::microseconds(std::max(0L, std::atol(text)));
}

}  // namespace smelt
