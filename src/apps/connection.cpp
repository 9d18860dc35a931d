// Sockets of the system.
#include "apps/connection.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "base/error.h"
#include "base/number.h"

namespace smelt {

ServerAddress parse_server_address(const std::string& url) {
    constexpr std::string_view plain = "http://";
    if (url.starts_with("https://"))
        throw Error("{}: https is not spoken here; give an http:// address", url);
    const std::string rest = url.starts_with(plain) ? url.substr(plain.size()) : url;
    const std::string authority = rest.substr(0, rest.find('/'));
    const size_t colon = authority.rfind(':'), bracket = authority.rfind(']');
    const bool has_port = colon != std::string::npos && (bracket == std::string::npos || colon > bracket);
    std::string host = authority.substr(0, has_port ? colon : std::string::npos);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    if (host.empty()) throw Error("{}: expected an address such as http://127.0.0.1:8080", url);
    return {host, has_port ? authority.substr(colon + 1) : "80"};
}

Connection::Connection(const ServerAddress& address) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (::getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found) == 0) {
        fd_ = ::socket(found->ai_family, SOCK_STREAM, 0);
        if (fd_ >= 0 && ::connect(fd_, found->ai_addr, found->ai_addrlen) != 0) close();
        ::freeaddrinfo(found);
    }
    if (fd_ < 0) throw Error("{}:{}: no server answers there", address.host, address.port);
}

void Connection::close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

void Connection::send(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n <= 0) throw Error("the server closed a connection");
        bytes.remove_prefix(static_cast<size_t>(n));
    }
}

bool Connection::read_line(std::string& line) {
    size_t end = 0;
    while ((end = buffer_.find('\n', read_)) == std::string::npos) {
        buffer_.erase(0, std::exchange(read_, 0));
        char bytes[16384];
        const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
        if (n <= 0) return false;
        buffer_.append(bytes, static_cast<size_t>(n));
    }
    line = buffer_.substr(read_, end - read_);
    if (line.ends_with('\r')) line.pop_back();
    read_ = end + 1;
    return true;
}

std::string Connection::read_rest() {
    std::string line, all;
    while (read_line(line)) all += line + "\n";
    return all + buffer_.substr(read_);
}

std::string request_text(const ServerAddress& a, const char* method, const std::string& path,
                         const std::string& body, const std::string& key) {
    const bool is_v6 = a.host.find(':') != std::string::npos;
    return fmt::format(
        "{} {} HTTP/1.0\r\nHost: {}{}{}:{}\r\n{}Content-Type: application/json\r\nContent-Length: "
        "{}\r\n\r\n{}",
        method, path, is_v6 ? "[" : "", a.host, is_v6 ? "]" : "", a.port,
        key.empty() ? "" : fmt::format("Authorization: Bearer {}\r\n", key), body.size(), body);
}

ServerAnswer ask_server(const ServerAddress& a, const char* method, const std::string& path,
                        const std::string& body, const std::string& key) {
    Connection connection(a);
    connection.send(request_text(a, method, path, body, key));
    std::string line;
    ServerAnswer answer;
    // "HTTP/1.1 200 OK"
    if (!connection.read_line(line) || line.size() < 12) throw Error("{}:{}: no HTTP there", a.host, a.port);
    answer.status = parse_integer<int>(line.substr(9, 3)).value_or(0);
    while (connection.read_line(line) && !line.empty()) {
    }
    answer.body = connection.read_rest();
    return answer;
}

}  // namespace smelt
