// A record's line, and an exchange that fills its status in.
#include "server/access_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace smelt {

namespace {

constexpr size_t max_method = 20, max_path = 200;

class LoggedExchange final : public Exchange {
 public:
    LoggedExchange(std::shared_ptr<Exchange> exchange, std::shared_ptr<AccessRecord> record)
        : exchange_(std::move(exchange)), record_(std::move(record)) {}

    void send(HttpAnswer answer) override {
        record_->status = answer.status;
        exchange_->send(std::move(answer));
    }
    void begin_stream(HttpAnswer head) override {
        record_->status = head.status;
        exchange_->begin_stream(std::move(head));
    }
    void write(std::string bytes) override { exchange_->write(std::move(bytes)); }
    void end() override { exchange_->end(); }
    void abandon() override { exchange_->abandon(); }
    void on_loss(std::function<void(Loss)> handler) override {
        exchange_->on_loss([record = record_, handler = std::move(handler)](Loss loss) {
            record->lost = record->lost || loss != Loss::shutdown;
            handler(loss);
        });
    }
    void on_flow(std::function<void(bool)> handler) override { exchange_->on_flow(std::move(handler)); }
    void post(std::function<void()> work) override { exchange_->post(std::move(work)); }
    Held hold(size_t n_bytes) override { return exchange_->hold(n_bytes); }
    Held hold_only(size_t n_bytes) override { return exchange_->hold_only(n_bytes); }

 private:
    std::shared_ptr<Exchange> exchange_;
    std::shared_ptr<AccessRecord> record_;
};

}  // namespace

AccessRecord::AccessRecord(std::string request_id, std::string of_method, std::string of_path,
                           std::function<void(const AccessRecord&)> write)
    : id(std::move(request_id)),
      method(std::move(of_method)),
      path(std::move(of_path)),
      write_(std::move(write)) {
    method.resize(std::min(method.size(), max_method));
    path.resize(std::min(path.size(), max_path));
}

AccessRecord::~AccessRecord() {
    try {
        ended_ = seconds();
        if (write_) write_(*this);
    } catch (const std::exception&) {
        // Too little memory for a line: the request was answered all the same.
    }
}

double AccessRecord::seconds() const {
    if (ended_ >= 0) return ended_;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
}

std::string AccessRecord::text() const {
    std::string line = fmt::format("{} {} {}", method, path, lost ? "gone" : std::to_string(status));
    if (!model.empty()) {
        line += fmt::format(" {}{}: {}+{} tokens", model, why.empty() ? "" : fmt::format(" ({})", why),
                            n_prompt, n_answer);
        if (n_cached > 0) line += fmt::format(", {} cached", n_cached);
        line +=
            fmt::format(", queued {:.0f} ms, first token {:.0f} ms", 1e3 * queued, 1e3 * (queued + prefill));
        if (!finish_reason.empty()) line += ", " + finish_reason;
    }
    if (!error.empty()) line += " " + error;
    return line + fmt::format(", {:.0f} ms", 1e3 * seconds());
}

Json AccessRecord::json() const {
    const auto ms = [](double s) { return std::round(s * 1e6) / 1e3; };
    Json line = {{"time", fmt::format("{:%FT%TZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(at_)))},
                 {"id", id},
                 {"method", method},
                 {"path", path},
                 {"status", status},
                 {"ms", ms(seconds())}};
    if (lost) line["client_gone"] = true;
    if (!error.empty()) line["error"] = error;
    if (model.empty()) return line;
    line.update({{"model", model},
                 {"why", why},
                 {"prompt_tokens", n_prompt},
                 {"cached_tokens", n_cached},
                 {"completion_tokens", n_answer},
                 {"queued_ms", ms(queued)},
                 {"prompt_ms", ms(prefill)},
                 {"predicted_ms", ms(decode)},
                 {"finish_reason", finish_reason}});
    return line;
}

std::shared_ptr<Exchange> logged(std::shared_ptr<Exchange> exchange, std::shared_ptr<AccessRecord> record) {
    if (record == nullptr) return exchange;
    return std::make_shared<LoggedExchange>(std::move(exchange), std::move(record));
}

}  // namespace smelt
