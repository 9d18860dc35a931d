// The conversation behind `smelt run`: history, settings, streaming to the terminal.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/device_options.h"
#include "chat/chat_model.h"

namespace smelt {

// Sampling values that are not set are the model's.
struct RunOptions {
    std::optional<std::string> system;
    std::optional<bool> thinking;
    int max_tokens = -1;
    std::optional<float> temperature, top_p, min_p, repeat_penalty;
    std::optional<int> top_k;
    std::optional<uint64_t> seed;
    std::vector<std::string> stop;
    int n_ctx = 0;
    KvFormats kv = {};
    DeviceOptions device;
};

class RunSession {
 public:
    // Opens the model. Throws Error.
    RunSession(const std::string& model, RunOptions options);

    void answer(const std::string& prompt);       // one answer, streamed
    Json answer_json(const std::string& prompt);  // the same, as a value
    void chat();                                  // until Ctrl-D or /exit

 private:
    struct Answer {
        std::string thinking, text, finish_reason;
        FinishEvent finish;
    };
    enum class Show { stream, nothing };

    Answer generate(Show show);
    void print_statistics(const Answer& answer) const;
    GenerateOptions generate_options() const;

    // Slash commands; false: leave.
    bool command(const std::string& line);
    void set(const std::string& name, const std::string& value);
    void save(const std::string& path) const;
    void say(const std::string& message);  // a message of the person; the answer is streamed and kept

    RunOptions options_;
    std::unique_ptr<ChatModel> model_;
    Json messages_ = Json::array();
    std::optional<Answer> last_;
};

}  // namespace smelt
