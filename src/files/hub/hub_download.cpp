// The partial file is the content followed by a table: the server's etag, then for each part how much of it
// is there. Data are written before the table says so, and a kill at any time loses the last pieces at most;
// whatever else goes wrong, the hash tells.
#include "files/hub/hub_download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/digest.h"

namespace smelt {

namespace {

constexpr size_t etag_bytes = 256;

// Of another version of the file, or of a server that gives no parts: begin again, in one piece.
struct NoRanges {};

class PartialFile {
 public:
    PartialFile(std::filesystem::path path, uint64_t size, uint64_t part_bytes)
        : path_(std::move(path)),
          size_(size),
          part_bytes_(part_bytes),
          done_((size + part_bytes - 1) / part_bytes) {
        fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd_ < 0) fail("cannot create");
        struct stat s {};
        const uint64_t total = size_ + etag_bytes + done_.size() * sizeof(uint64_t);
        if (::fstat(fd_, &s) == 0 && static_cast<uint64_t>(s.st_size) == total) {
            read_table();
        } else if (::ftruncate(fd_, 0) != 0 || ::ftruncate(fd_, static_cast<off_t>(total)) != 0) {
            fail_to_write();
        }
    }
    ~PartialFile() { ::close(fd_); }
    PartialFile(const PartialFile&) = delete;
    PartialFile& operator=(const PartialFile&) = delete;

    size_t n_parts() const { return done_.size(); }
    uint64_t part_begin(size_t part) const { return part * part_bytes_; }
    uint64_t part_end(size_t part) const { return std::min(size_, (part + 1) * part_bytes_); }
    // Only the thread that has the part changes it.
    uint64_t next_byte(size_t part) const { return part_begin(part) + done_[part]; }
    bool is_done(size_t part) const { return next_byte(part) == part_end(part); }
    uint64_t n_done() const { return n_done_; }
    std::string etag() {
        const std::lock_guard lock(mutex_);
        return etag_;
    }

    void set_etag(const std::string& etag) {
        const std::lock_guard lock(mutex_);
        if (etag == etag_ || etag.size() >= etag_bytes) return;
        etag_ = etag;
        std::string field = etag;
        field.resize(etag_bytes);
        write_at(size_, field.data(), field.size());
    }

    void append(size_t part, std::span<const char> bytes) {
        if (bytes.size() > part_end(part) - next_byte(part))
            throw Error("{}: the server sent more than it was asked for", path_.filename().string());
        write_at(next_byte(part), bytes.data(), bytes.size());
        set_done(part, done_[part] + bytes.size());
    }

    void forget() {
        for (size_t part = 0; part < done_.size(); ++part) set_done(part, 0);
        set_etag("");
    }

    std::string digest(const HubFile& file, const std::function<void(uint64_t)>& progress) const {
        Digest digest(is_sha256(file.blob) ? Digest::Kind::sha256 : Digest::Kind::sha1);
        if (!is_sha256(file.blob)) {  // as git names blobs
            const std::string head = fmt::format("blob {}", size_);
            digest.add({head.c_str(), head.size() + 1});
        }
        std::vector<char> buffer(size_t{1} << 20);
        for (uint64_t at = 0; at < size_;) {
            const ssize_t n = ::pread(fd_, buffer.data(), std::min<uint64_t>(buffer.size(), size_ - at),
                                      static_cast<off_t>(at));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail("cannot read");
            digest.add({buffer.data(), static_cast<size_t>(n)});
            at += static_cast<uint64_t>(n);
            progress(at);
        }
        return digest.hex();
    }

    void finish(const std::filesystem::path& target) {
        if (::ftruncate(fd_, static_cast<off_t>(size_)) != 0 || ::fsync(fd_) != 0) fail("cannot write");
        std::filesystem::rename(path_, target);
    }

    void remove() const { ::unlink(path_.c_str()); }

 private:
    void read_table() {
        std::string field(etag_bytes, '\0');
        std::vector<uint64_t> done(done_.size());
        const auto read_at = [&](uint64_t at, void* to, size_t n) {
            if (::pread(fd_, to, n, static_cast<off_t>(at)) != static_cast<ssize_t>(n)) fail("cannot read");
        };
        read_at(size_, field.data(), field.size());
        read_at(size_ + etag_bytes, done.data(), done.size() * sizeof(uint64_t));
        etag_ = field.c_str();
        for (size_t part = 0; part < done.size(); ++part) {
            if (done[part] > part_end(part) - part_begin(part)) return;  // not this program's
        }
        done_ = done;
        for (const uint64_t n : done_) n_done_ += n;
    }

    void set_done(size_t part, uint64_t n) {
        n_done_ += n - done_[part];
        done_[part] = n;
        write_at(size_ + etag_bytes + part * sizeof(uint64_t), &n, sizeof n);
    }

    void write_at(uint64_t at, const void* bytes, size_t n) {
        const char* from = static_cast<const char*>(bytes);
        while (n > 0) {
            const ssize_t written = ::pwrite(fd_, from, n, static_cast<off_t>(at));
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) fail_to_write();
            from += written;
            at += static_cast<uint64_t>(written);
            n -= static_cast<size_t>(written);
        }
    }

    // A full disk gets back what this file took of it.
    [[noreturn]] void fail_to_write() const {
        const int reason = errno;
        if (reason == ENOSPC || reason == EDQUOT || reason == EFBIG) remove();
        errno = reason;
        fail("cannot write");
    }
    [[noreturn]] void fail(const char* what) const {
        throw Error("{}: {}: {}", path_.string(), what, std::strerror(errno));
    }

    std::filesystem::path path_;
    uint64_t size_, part_bytes_;
    int fd_ = -1;
    std::vector<uint64_t> done_;  // bytes of each part
    std::atomic<uint64_t> n_done_ = 0;
    std::mutex mutex_;
    std::string etag_;
};

class Fetcher {
 public:
    Fetcher(const HubOptions& options, const Download& download, PartialFile& partial)
        : options_(options), download_(download), partial_(partial) {}

    // Parts over several connections; in the meantime this thread tells of the progress.
    void fetch_parts(const std::function<void()>& tell) {
        size_t n_missing = 0;
        for (size_t part = 0; part < partial_.n_parts(); ++part) n_missing += !partial_.is_done(part);
        run(std::min<size_t>(n_missing, static_cast<size_t>(options_.n_connections)), tell,
            [&](HubHttp& http) {
                for (size_t part = next_part_++; part < partial_.n_parts(); part = next_part_++)
                    fetch_part(http, part);
            });
    }

    void fetch_whole(const std::function<void()>& tell) {
        run(1, tell, [&](HubHttp& http) {
            with_retries(
                options_, stop_, [] { return false; }, [&] { fetch_whole(http); });
        });
    }

 private:
    template <class Work>
    void run(size_t n_threads, const std::function<void()>& tell, Work work) {
        std::exception_ptr thrown;
        std::mutex mutex;
        std::condition_variable ended;
        size_t n_running = n_threads;
        std::vector<std::thread> threads;
        for (size_t i = 0; i < n_threads; ++i) {
            threads.emplace_back([&] {
                std::exception_ptr mine;
                try {
                    HubHttp http(options_, stop_);
                    work(http);
                } catch (...) {
                    mine = std::current_exception();
                }
                const std::lock_guard lock(mutex);
                if (mine && !thrown) thrown = mine;  // the others only say that they were stopped
                if (mine) stop_ = true;
                --n_running;
                ended.notify_one();
            });
        }
        std::unique_lock lock(mutex);
        while (!ended.wait_for(lock, std::chrono::milliseconds(100), [&] { return n_running == 0; })) tell();
        lock.unlock();
        for (std::thread& t : threads) t.join();
        stop_ = false;
        if (thrown) std::rethrow_exception(thrown);
    }

    // The listing says what the content is; a server that says otherwise has another file there.
    void check_identity(const HttpHead& head) const {
        std::string said = head.field("x-linked-etag");
        if (said.starts_with("W/")) said.erase(0, 2);
        std::erase(said, '"');
        if (!said.empty() && said != download_.file.blob) {
            throw Error("{}: the file changed on the hub meanwhile: pull again", download_.file.name);
        }
    }

    void fetch_part(HubHttp& http, size_t part) {
        uint64_t before = partial_.next_byte(part);
        const auto progress = [&] {
            return partial_.next_byte(part) > std::exchange(before, partial_.next_byte(part));
        };
        with_retries(options_, stop_, progress, [&] {
            if (partial_.is_done(part)) return;
            const uint64_t from = partial_.next_byte(part), to = partial_.part_end(part);
            HttpGet request{.url = download_.url};
            const bool is_whole = from == 0 && to == download_.file.size;
            if (!is_whole) request.range = {from, to};
            if (!is_whole) request.if_range = partial_.etag();
            request.on_head = [&](const HttpHead& head) {
                check_identity(head);
                if (head.status == 200 && !is_whole) throw NoRanges();
                const std::string expected = fmt::format("bytes {}-{}/{}", from, to - 1, download_.file.size);
                if (head.status == 206 && head.field("content-range") != expected) {
                    throw Error("{}: the server answered with {} for {}", download_.file.name,
                                head.field("content-range").substr(0, 100), expected);
                }
                const std::string etag = head.field("etag");
                if (etag.starts_with('"')) partial_.set_etag(etag);
            };
            request.on_data = [&](std::span<const char> bytes) { partial_.append(part, bytes); };
            http.get(request);
            if (!partial_.is_done(part))
                throw HttpTrouble("{}: the server ended the file early", download_.file.name);
        });
    }

    void fetch_whole(HubHttp& http) {
        partial_.forget();
        size_t part = 0;
        HttpGet request{.url = download_.url};
        request.on_head = [&](const HttpHead& head) { check_identity(head); };
        request.on_data = [&](std::span<const char> bytes) {
            while (!bytes.empty()) {
                if (part == partial_.n_parts())
                    throw Error("{}: the server sent more than the file has", download_.file.name);
                const size_t n =
                    std::min<uint64_t>(bytes.size(), partial_.part_end(part) - partial_.next_byte(part));
                partial_.append(part, bytes.first(n));
                bytes = bytes.subspan(n);
                if (partial_.is_done(part)) ++part;
            }
        };
        http.get(request);
        if (part < partial_.n_parts())
            throw HttpTrouble("{}: the server ended the file early", download_.file.name);
    }

    const HubOptions& options_;
    const Download& download_;
    PartialFile& partial_;
    std::atomic<size_t> next_part_ = 0;
    std::atomic<bool> stop_ = false;
};

}  // namespace

uint64_t bytes_so_far(const HubOptions& options, const Download& d) {
    if (!std::filesystem::exists(d.partial)) return 0;
    return PartialFile(d.partial, d.file.size, options.part_bytes).n_done();
}

void run_download(const HubOptions& options, const Download& d,
                  const std::function<void(uint64_t, const char*)>& progress) {
    PartialFile partial(d.partial, d.file.size, options.part_bytes);
    Fetcher fetcher(options, d, partial);
    const auto tell = [&] { progress(partial.n_done(), "pulling"); };
    try {
        fetcher.fetch_parts(tell);
    } catch (const NoRanges&) {
        fetcher.fetch_whole(tell);
    }
    const std::string found = partial.digest(d.file, [&](uint64_t n) { progress(n, "checking"); });
    if (found != d.file.blob) {
        partial.remove();
        throw Error("{}: expected {} {}, received {}; it was removed, pull again", d.file.name,
                    is_sha256(d.file.blob) ? "sha256" : "git's sha1", d.file.blob, found);
    }
    partial.finish(d.blob);
    progress(d.file.size, "pulling");
}

}  // namespace smelt
