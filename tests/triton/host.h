// A small Triton: the half of the backend interface that a Triton server has, as its published headers
// declare it, for one model. Includes nothing of smelt.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

struct TRITONSERVER_Error {
    int code;
    std::string text;
};
struct TRITONSERVER_Message {
    std::string json;
};
struct TRITONBACKEND_Backend {};
struct TRITONBACKEND_Model {
    std::string name, folder, config;
    uint64_t version = 1;
    bool completes = false;
    void* state = nullptr;
};
struct TRITONBACKEND_ModelInstance {
    TRITONBACKEND_Model* model = nullptr;
    void* state = nullptr;
    int n_successes = 0, n_failures = 0;
    uint64_t n_rows = 0;
};
struct TRITONBACKEND_Input {
    std::string name;
    int type;  // TRITONSERVER_DataType
    std::vector<int64_t> shape;
    std::vector<std::string> buffers;
};

// A tensor of a response, read back.
struct HostOutput {
    int type = 0;
    std::vector<int64_t> shape;
    std::string bytes;
};
struct HostResponse {
    std::map<std::string, HostOutput> outputs;
    std::map<std::string, std::string> parameters;
    uint32_t flags = 0;
    int error = -1;  // code; -1: none
    std::string error_text;

    std::string text(const std::string& name = "text_output", size_t row = 0) const;  // of BYTES
};

struct TRITONBACKEND_Request {
    std::vector<TRITONBACKEND_Input> inputs;
    std::vector<std::string> outputs;
    std::vector<std::pair<std::string, std::variant<std::string, int64_t, bool, double>>> parameters;

    // Of the host, under its mutex.
    std::vector<HostResponse> responses;
    bool cancelled = false;
    int n_releases = 0;
    int n_factories = 0;

    TRITONBACKEND_Request& text(const std::vector<std::string>& texts);  // text_input, shape [rows, 1]
    TRITONBACKEND_Request& with(const std::string& name,
                                std::variant<std::string, int64_t, bool, double> value) {
        parameters.emplace_back(name, std::move(value));
        return *this;
    }
    bool wait_for_release(double seconds = 60);
    bool wait_for_responses(size_t n, double seconds = 60);
    std::string all_text();  // of all responses so far
};

std::string with_length(const std::string& text);

// The loaded library and one model of it.
class Host {
 public:
    explicit Host(const char* library);
    // The error's text; empty: none.
    std::string load(const std::string& config, const std::string& folder, bool completes = false);
    std::string execute(const std::vector<TRITONBACKEND_Request*>& requests);
    void unload();
    TRITONBACKEND_Model& model() { return model_; }
    TRITONBACKEND_ModelInstance& instance() { return instance_; }

 private:
    void* library_;
    TRITONBACKEND_Backend backend_;
    TRITONBACKEND_Model model_;
    TRITONBACKEND_ModelInstance instance_;
};

std::vector<std::string> host_log();
