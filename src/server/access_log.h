// The access log: one line for each request, when it has ended. Knows no dialect; answers fill in what they
// know.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/json.h"
#include "server/http/http.h"

namespace smelt {

// What is known of one request. The line is written when nobody holds the record any more: the answer is out,
// or its client is gone.
class AccessRecord {
 public:
    // `write` gets the record at its end.
    AccessRecord(std::string id, std::string method, std::string path,
                 std::function<void(const AccessRecord&)> write);
    ~AccessRecord();
    AccessRecord(const AccessRecord&) = delete;
    AccessRecord& operator=(const AccessRecord&) = delete;

    void discard() { write_ = nullptr; }
    std::string text() const;  // for people
    Json json() const;
    // Of the kind that programs ask again and again: /health, /metrics, pages.
    bool is_routine() const { return model.empty() && method == "GET" && status == 200; }

    std::string id, method, path;
    int status = 0;  // 0: the client was gone before there was one
    bool lost = false;
    // Of answers. Written by the I/O thread alone.
    std::string model = {}, why = {};  // and why this model was chosen
    std::string finish_reason = {};    // of the last answer
    std::string error = {};            // its code
    int n_prompt = 0, n_cached = 0, n_answer = 0;
    double queued = 0, prefill = 0, decode = 0;  // seconds

 private:
    double seconds() const;

    std::function<void(const AccessRecord&)> write_;
    std::chrono::system_clock::time_point at_ = std::chrono::system_clock::now();
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
    double ended_ = -1;
};

// Notes the status of what passes through it. null without a record.
std::shared_ptr<Exchange> logged(std::shared_ptr<Exchange> exchange, std::shared_ptr<AccessRecord> record);

}  // namespace smelt
