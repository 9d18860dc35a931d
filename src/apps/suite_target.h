// An opened model on a device, and what one case costs on it. Knows nothing of the suite's plan.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apps/device_options.h"
#include "apps/load_meter.h"
#include "chat/chat_model.h"

namespace smelt {

// MODEL, or a shape with random weights; in another number format than it has.
struct SuiteModel {
    std::string name = {};
    bool is_shape = false;
    std::string format = {};  // "": as the model is; of shapes, never empty
    int n_layers = 0;         // of a shape; 0: all
};

// A file that is gone when nobody needs it any more; none while the path is empty.
struct WrittenFile {
    std::filesystem::path path = {};

    WrittenFile() = default;
    ~WrittenFile();
    WrittenFile(const WrittenFile&) = delete;
    WrittenFile& operator=(const WrittenFile&) = delete;
};

class SuiteTarget {
 public:
    // Throws Error: no such model or device, a format that it cannot have, too little memory.
    SuiteTarget(const SuiteModel& model, const DeviceOptions& device, KvFormats kv, int n_ctx);

    Engine& engine() const { return chat_ ? chat_->engine() : *engine_; }
    const Model& model() const { return chat_ ? chat_->model() : *model_; }
    const Backend& backend() const { return chat_ ? chat_->backend() : *backend_; }
    const DeviceRunner& runner() const { return chat_ ? chat_->runner() : *runner_; }
    const ChatModel* chat() const { return chat_.get(); }  // null: a shape, which has no vocabulary

    // What a case asks: n tokens of some text; or a question, in the model's template where it has one.
    std::vector<int32_t> some_text(int n) const;
    std::vector<int32_t> question(const std::string& text) const;
    // Of a case that holds so many tokens in so many answers.
    size_t kv_bytes(int n_tokens, int n_streams) const;
    Json describe() const;  // name, architecture, sizes

 private:
    std::string name_;
    KvFormats kv_;
    WrittenFile written_;  // in another format
    std::unique_ptr<ChatModel> chat_;
    std::shared_ptr<const ModelFile> file_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
    std::unique_ptr<Engine> engine_;
    const DeviceRunner* runner_ = nullptr;
};

// One answer of a run, as its reader saw it.
struct SuiteAnswer {
    std::vector<int32_t> ids = {};
    std::vector<double> times = {};  // of each token, seconds since the beginning of the run
    FinishEvent finish = {};
    double end = 0;
};
struct SuiteRun {
    std::vector<SuiteAnswer> answers;  // of each request
    Load load;
    double seconds = 0;
};
// All requests at once. Throws Error when one is refused or fails.
struct SuiteRequest {
    const SuiteTarget* target;
    Request request;
};
SuiteRun run_requests(std::span<const SuiteRequest> requests);

// The model's file, as it is or written anew. Throws Error.
std::shared_ptr<const ModelFile> open_suite_model(const SuiteModel& model, int n_threads,
                                                  WrittenFile& written);

}  // namespace smelt
