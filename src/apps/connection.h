// A small HTTP client for servers of smelt: one request, plain text, no redirects. The hub has its own, with
// TLS (files/hub/hub_http.h).
#pragma once

#include <string>
#include <string_view>

namespace smelt {

struct ServerAddress {
    std::string host, port;
};
// "http://127.0.0.1:8080/...", or without the scheme. Throws Error for https.
ServerAddress parse_server_address(const std::string& url);

// A connection for one request. HTTP/1.0: the answer ends with the connection and has no chunks.
class Connection {
 public:
    explicit Connection(const ServerAddress& address);  // throws Error
    ~Connection() { close(); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    void send(std::string_view bytes);
    // The next line, without its end; false at the end of the connection.
    bool read_line(std::string& line);
    std::string read_rest();

 private:
    void close();

    int fd_ = -1;
    std::string buffer_;
    size_t read_ = 0;
};

// `key` "": none.
std::string request_text(const ServerAddress& a, const char* method, const std::string& path,
                         const std::string& body, const std::string& key = "");

struct ServerAnswer {
    int status = 0;
    std::string body = {};
};
ServerAnswer ask_server(const ServerAddress& a, const char* method, const std::string& path,
                        const std::string& body = "", const std::string& key = "");

}  // namespace smelt
