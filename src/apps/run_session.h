// The conversation of `smelt run`: history, settings, streaming to the terminal.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/device_options.h"
#include "apps/draft_options.h"
#include "apps/model_text_options.h"
#include "chat/chat_request.h"

namespace smelt {

struct RunOptions {
    std::optional<std::string> system;
    bool raw = false;                      // no template
    std::vector<std::string> images = {};  // files that the first message shows
    TemplateOptions chat = {};
    ChatRequest request;  // all but the conversation; what is not set is the model's
    int n_ctx = 0;
    int image_max_tokens = 0;
    KvFormats kv = {};
    std::vector<std::string> lora = {};  // adapters, see parse_adapter()
    DraftFlags drafts = {};
    DeviceOptions device;
};

ChatModelOptions open_options(const RunOptions& options);
// With the grammar. Throws Error where it is refused.
GenerateOptions generate_options(const ChatModel& model, const ChatRequest& request, const Prompt& prompt);

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
    ChatRequest request() const;  // with the conversation so far

    // Slash commands; false: leave.
    bool command(const std::string& line);
    void set(const std::string& name, const std::string& value);
    void save(const std::string& path) const;
    void say(Message message);           // of the person; the answer is streamed and kept
    void show(const std::string& path);  // a picture, with the next message
    Message question(const std::string& text);

    RunOptions options_;
    std::unique_ptr<ChatModel> model_;
    std::vector<Message> messages_;
    std::vector<Part> shown_;  // pictures of the next message
    std::optional<Answer> last_;
};

}  // namespace smelt
