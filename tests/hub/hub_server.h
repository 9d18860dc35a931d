// A Hugging Face hub over loopback in the test's own threads: a repository, and every fault that a server can
// have.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/digest.h"
#include "base/json.h"
#include "fmt/core.h"

namespace smelt {

inline std::string digest_of(Digest::Kind kind, const std::string& text) {
    Digest digest(kind);
    digest.add(text);
    return digest.hex();
}

struct HubRequest {
    std::string path;
    std::map<std::string, std::string> fields;  // names in lower case
    std::string field(const std::string& name) const {
        const auto it = fields.find(name);
        return it == fields.end() ? "" : it->second;
    }
    // [from, to) of a Range header.
    std::optional<std::pair<size_t, size_t>> range() const {
        size_t from = 0, last = 0;
        if (std::sscanf(field("range").c_str(), "bytes=%zu-%zu", &from, &last) != 2) return std::nullopt;
        return std::pair(from, last + 1);
    }
};

struct HubAnswer {
    int status = 200;
    std::vector<std::string> headers = {};
    std::string body = {};
    std::optional<size_t> length = {};  // what content-length says, where it is not the truth
    size_t cut = SIZE_MAX;              // bytes of the body after which the connection ends
    size_t bytes_per_ms = 0;            // 0: as fast as it goes
};

struct HubEntry {
    std::string content;
    bool is_large = true;  // sha256, else git's sha1
    std::string hash() const {
        return is_large
                   ? digest_of(Digest::Kind::sha256, content)
                   : digest_of(Digest::Kind::sha1, fmt::format("blob {}", content.size()) + '\0' + content);
    }
};

class HubServer {
 public:
    HubServer() {
        listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t n = sizeof address;
        if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), n) != 0 || ::listen(listener_, 64) != 0)
            throw std::runtime_error("listen");
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &n);
        port_ = ntohs(address.sin_port);
        acceptor_ = std::thread([this] { accept_all(); });
    }
    ~HubServer() {
        ends_ = true;
        ::shutdown(listener_, SHUT_RDWR);
        ::close(listener_);
        acceptor_.join();
        for (std::thread& t : connections_) t.join();
    }
    HubServer(const HubServer&) = delete;
    HubServer& operator=(const HubServer&) = delete;

    std::string address() const { return fmt::format("http://127.0.0.1:{}", port_); }

    // What the hub has; before the first request.
    std::string repo = "org/model", commit = std::string(40, 'c');
    std::map<std::string, HubEntry> files;
    // Sees every request with the answer that a good hub gives, and may change it.
    std::function<void(const HubRequest&, HubAnswer&)> fault = {};

    std::vector<HubRequest> requests() const {
        const std::lock_guard lock(mutex_);
        return requests_;
    }
    // Of files, not of the listing.
    std::vector<HubRequest> downloads() const {
        std::vector<HubRequest> list = requests();
        std::erase_if(list,
                      [](const HubRequest& r) { return r.path.find("/resolve/") == std::string::npos; });
        return list;
    }
    size_t bytes_sent() const { return bytes_sent_; }
    void forget() {
        const std::lock_guard lock(mutex_);
        requests_.clear();
        bytes_sent_ = 0;
    }

    HubAnswer good_answer(const HubRequest& r) const {
        if (r.path.starts_with("/api/models/" + repo + "/revision/")) return {.body = listing()};
        for (const auto& [name, file] : files) {
            if (r.path == fmt::format("/{}/resolve/{}/{}", repo, commit, name)) return file_answer(r, file);
        }
        return {.status = 404, .headers = {"X-Error-Code: EntryNotFound"}};
    }

    static HubAnswer file_answer(const HubRequest& r, const HubEntry& file) {
        const std::string etag = '"' + file.hash() + '"';
        HubAnswer a{.headers = {"ETag: " + etag, "X-Linked-Etag: " + etag}, .body = file.content};
        const auto range = r.range();
        const std::string condition = r.field("if-range");
        if (!range || (!condition.empty() && condition != etag)) return a;
        a.status = 206;
        a.headers.push_back(fmt::format("Content-Range: bytes {}-{}/{}", range->first, range->second - 1,
                                        file.content.size()));
        a.body = file.content.substr(range->first, range->second - range->first);
        return a;
    }

 private:
    std::string listing() const {
        Json siblings = Json::array();
        for (const auto& [name, file] : files) {
            Json entry = {{"rfilename", name},
                          {"size", file.content.size()},
                          {"blobId", file.is_large ? std::string(40, 'b') : file.hash()}};
            if (file.is_large)
                entry["lfs"] = {{"sha256", file.hash()}, {"size", file.content.size()}, {"pointerSize", 130}};
            siblings.push_back(std::move(entry));
        }
        return to_string(Json{{"id", repo}, {"sha", commit}, {"siblings", std::move(siblings)}});
    }

    void accept_all() {
        while (!ends_) {
            const int fd = ::accept(listener_, nullptr, nullptr);
            if (fd < 0) return;
            connections_.emplace_back([this, fd] {
                serve(fd);
                ::close(fd);
            });
        }
    }

    void serve(int fd) {
        std::string text;
        char buffer[4096];
        while (text.find("\r\n\r\n") == std::string::npos) {
            const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
            if (n <= 0) return;
            text.append(buffer, static_cast<size_t>(n));
        }
        HubRequest r{.path = text.substr(4, text.find(' ', 4) - 4), .fields = {}};
        r.path = r.path.substr(0, r.path.find('?'));
        for (size_t at = text.find("\r\n") + 2; text.compare(at, 2, "\r\n") != 0;) {
            const size_t colon = text.find(": ", at), end = text.find("\r\n", at);
            std::string name = text.substr(at, colon - at);
            std::ranges::transform(name, name.begin(),
                                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
            r.fields[name] = text.substr(colon + 2, end - colon - 2);
            at = end + 2;
        }
        HubAnswer a = good_answer(r);
        {
            const std::lock_guard lock(mutex_);
            requests_.push_back(r);
            if (fault) fault(r, a);
        }
        send_answer(fd, a);
    }

    void send_answer(int fd, const HubAnswer& a) {
        std::string head = fmt::format("HTTP/1.1 {} x\r\nConnection: close\r\nContent-Length: {}\r\n",
                                       a.status, a.length.value_or(a.body.size()));
        for (const std::string& h : a.headers) head += h + "\r\n";
        send_all(fd, head + "\r\n");
        const size_t n = std::min(a.body.size(), a.cut),
                     step = a.bytes_per_ms > 0 ? a.bytes_per_ms * 10 : 1 << 16;
        for (size_t at = 0; at < n && !ends_; at += step) {
            const size_t piece = std::min(step, n - at);
            if (!send_all(fd, a.body.substr(at, piece))) return;
            bytes_sent_ += piece;
            if (a.bytes_per_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }

    static bool send_all(int fd, const std::string& bytes) {
        for (size_t at = 0; at < bytes.size();) {
            const ssize_t n = ::send(fd, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
            if (n <= 0) return false;
            at += static_cast<size_t>(n);
        }
        return true;
    }

    int listener_ = -1;
    uint16_t port_ = 0;
    std::atomic<bool> ends_ = false;
    std::thread acceptor_;
    std::list<std::thread> connections_;
    mutable std::mutex mutex_;
    std::vector<HubRequest> requests_;
    std::atomic<size_t> bytes_sent_ = 0;
};

}  // namespace smelt
