// A WebSocket client with frames built by hand.
#pragma once

#include "server/client.h"

namespace smelt {

struct Frame {
    int opcode = -1;  // -1: the connection ended
    std::string data;
    int close_code() const {
        return data.size() < 2
                   ? 0
                   : (static_cast<unsigned char>(data[0]) << 8) | static_cast<unsigned char>(data[1]);
    }
};

class Socket {
 public:
    explicit Socket(uint16_t port, const std::string& headers = "Host: localhost\r\n", int receive_buffer = 0)
        : client_(port, receive_buffer) {
        client_.send("GET /ws/stream HTTP/1.1\r\n" + headers +
                     "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        if (!client_.receive_until("\r\n\r\n")) return;
        status = std::stoi(client_.buffer().substr(9, 3));
        accept_is_right = client_.buffer().find("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != std::string::npos;
        client_.buffer().erase(0, client_.buffer().find("\r\n\r\n") + 4);
    }

    void send(const Json& message) { frame(0x81, to_string(message)); }
    void frame(int first, const std::string& data, bool masked = true) {
        std::string bytes(1, static_cast<char>(first));
        const char mask = masked ? '\x80' : '\0';
        if (data.size() < 126) {
            bytes += static_cast<char>(static_cast<char>(data.size()) | mask);
        } else {
            bytes += static_cast<char>('\x7e' | mask);
            bytes += static_cast<char>(data.size() >> 8);
            bytes += static_cast<char>(data.size() & 255);
        }
        const char key[] = {'\x11', '\x22', '\x33', '\x44'};
        if (masked) bytes.append(key, 4);
        for (size_t i = 0; i < data.size(); ++i)
            bytes += masked ? static_cast<char>(data[i] ^ key[i % 4]) : data[i];
        client_.send(bytes);
    }
    void raw(const std::string& bytes) { client_.send(bytes); }
    void close() { client_.close(); }

    Frame read() {
        std::string& b = client_.buffer();
        const auto have = [&](size_t n) {
            while (b.size() < n) {
                if (!client_.receive()) return false;
            }
            return true;
        };
        if (!have(2)) return {};
        Frame f{.opcode = b[0] & 15, .data = ""};
        size_t n = static_cast<unsigned char>(b[1]) & 127, start = 2;
        if (n == 126) {
            if (!have(4)) return {};
            n = static_cast<size_t>((static_cast<unsigned char>(b[2]) << 8) |
                                    static_cast<unsigned char>(b[3]));
            start = 4;
        }
        if (!have(start + n)) return {};
        f.data = b.substr(start, n);
        b.erase(0, start + n);
        return f;
    }
    Json event() {
        const Frame f = read();
        return f.opcode == 1 ? Json::parse(f.data) : Json{{"type", "no text frame"}};
    }

    int status = 0;
    bool accept_is_right = false;

 private:
    Client client_;
};

}  // namespace smelt
