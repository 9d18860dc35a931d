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
    int thinking_budget = -1;
    int max_tokens = -1;
    std::optional<float> temperature, top_p, min_p, repeat_penalty;
    std::optional<int> top_k;
    std::optional<uint64_t> seed;
    float top_n_sigma = 0, typical_p = 1, xtc_probability = 0, xtc_threshold = 0.1f;
    float dry_multiplier = 0, dry_base = 1.75f;
    int dry_allowed_length = 2, dry_last_n = -1;
    std::vector<std::string> dry_breakers = {"\n", ":", "\"", "*"};
    std::optional<GrammarSpec> grammar;  // of the answer, behind the thinking
    int best_of = 0;
    BeamSearch beams;
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
    GenerateOptions generate_options(const Prompt& prompt) const;

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
