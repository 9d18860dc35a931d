// An opened model with everything that turns a conversation into an answer: vocabulary, template, weights on
// a device, engine. The terminal and the server are both built on it.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "chat/adapters.h"
#include "chat/call_grammar.h"
#include "chat/text_stream.h"
#include "engine/device_runner.h"
#include "engine/engine.h"
#include "grammar/grammar_cache.h"
#include "sampling/sampling_table.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace smelt {

struct ChatModelOptions {
    std::string device = "auto";
    BackendOptions backend = {};
    std::string mmproj = {};        // GGUF file of the vision tower; empty: the model's own, if any
    std::string rope_scaling = {};  // in place of the model's own; see model/rope.h
    int n_ctx = 0;             // tokens of one conversation; 0: as trained, or as many as fit into memory
    int64_t kv_tokens = 0;     // of all conversations at once; 0: n_ctx
    int image_max_tokens = 0;  // of a picture; larger ones are scaled down; 0: half the context, at most 1024
    KvFormats kv = {};
    EngineOptions engine = {};
    // A smaller model of the same vocabulary that drafts tokens for this one; empty: none.
    std::filesystem::path draft_model = {};
    // LoRA adapters: how many may be loaded at once, and their highest rank, which all take the memory of.
    // Those that will be loaded first raise it where theirs is higher.
    int max_adapters = 8;
    int max_adapter_rank = 16;
    std::vector<AdapterSpec> adapters = {};
    // Between engine and device, where tests put what can go wrong with one.
    std::function<std::unique_ptr<ModelRunner>(std::unique_ptr<ModelRunner>)> wrap_runner = {};

    // In place of what the model's files say.
    std::string chat_template = {};  // Jinja
    SamplingChanges sampling = {};   // of the defaults
    std::optional<Pooling> pooling = {};
    // For requests that do not say otherwise.
    std::string system = {};    // message of conversations that bring none
    Json template_kwargs = {};  // object of template variables, or null
    // Fetches a picture's file, or throws Error; empty: nothing is fetched.
    using FetchPicture =
        std::function<std::string(const std::string& url, std::chrono::steady_clock::time_point deadline)>;
    FetchPicture fetch_picture = {};
};

// What the template is asked for.
struct PromptOptions {
    std::optional<bool> thinking = {};  // none: as the template does by itself
    Json tools = {};                    // array, or null
    Json template_kwargs = {};          // object of further template variables, or null
    bool add_generation_prompt = true;
    bool continues = false;  // the prompt ends where the text of the last message does
    std::vector<std::shared_ptr<const Patches>> pictures = {};  // of the messages' parts, in order
};

// What a conversation became.
struct Prompt {
    std::string text;
    std::vector<int32_t> ids;
    bool starts_thinking = false;        // the template already opened the thinking mark
    bool starts_final = false;           // and in harmony's format the final channel
    bool continues = false;              // the answer goes on in the prompt's own text
    std::vector<Picture> pictures = {};  // whose places are the image token, as often as they take
};

// What the engine is asked for, and what the text around the tokens needs. The prompt's tokens, the limit on
// thinking and the sink are ChatModel's to set; stop_ids are those besides the model's own ends of turn.
struct GenerateOptions : Request {
    std::vector<std::string> stop = {};
    bool split_thinking = true;  // false: the answer goes on in a prompt without template
    Json tools = {};             // array: calls of these are taken out of the answer
    bool single_call = false;    // which ends behind the first
    int thinking_budget = -1;    // tokens; -1: no limit
};

// "stop" (end of turn or stop string), "length", "cancelled" or "error".
const char* finish_reason(FinishReason reason, bool met_stop_string);

class ChatModel;

// The engine did not take the request; the kind says whether it may later.
class RefusedRequest : public Error {
 public:
    explicit RefusedRequest(const Refusal& refusal) : Error(refusal.text), kind(refusal.kind) {}
    const Refusal::Kind kind;
};

// One answer on its way. Reading blocks; the engine never waits for the reader.
class Generation {
 public:
    ~Generation();  // cancels what is still running
    Generation(const Generation&) = delete;
    Generation& operator=(const Generation&) = delete;

    // The next piece of text, in which both sides may be empty; nullopt when the answer is complete.
    std::optional<TextDelta> next();
    // Of the last next(), without those that came after the answer was complete.
    const std::vector<TokenEvent>& tokens() const { return tokens_; }
    void cancel();  // from any thread

    // After next() gave nullopt. Throws Error when the engine ended it with an error, of too little memory
    // MemoryError.
    const FinishEvent& finish() const;
    // "stop" (end of turn or stop string), "length" or "cancelled".
    std::string finish_reason() const;

 private:
    friend class ChatModel;
    Generation(ChatModel& model, const Prompt& prompt, const GenerateOptions& options);

    ChatModel& model_;
    TextStream stream_;
    RequestId id_ = 0;
    bool flushed_ = false;
    std::vector<TokenEvent> tokens_;

    // Filled by the engine thread.
    struct Inbox {
        std::mutex mutex;
        std::condition_variable arrived;
        std::vector<TokenEvent> tokens;
        std::optional<FinishEvent> finish;
    };
    std::shared_ptr<Inbox> inbox_;  // shared with the sink inside the engine, which may outlive this
};

// The first n_kept numbers, scaled to length 1; zeros stay zeros.
std::vector<float> normalised(std::vector<float> embedding, size_t n_kept);

class ChatModel {
 public:
    // Throws Error: a bad file, no such device, too little memory (with the numbers).
    static std::unique_ptr<ChatModel> open(const std::filesystem::path& path,
                                           const ChatModelOptions& options = {});
    static std::unique_ptr<ChatModel> open(std::shared_ptr<const ModelFile> file,
                                           const ChatModelOptions& options);
    ~ChatModel();

    // In the first form that the template takes. Throws Error with what it refused of the plain one.
    Prompt make_prompt(const Json& messages, const PromptOptions& options = {}) const;
    // Whether messages may have pictures.
    bool takes_pictures() const { return image_token_ >= 0; }
    // Those of several devices do not.
    bool takes_adapters() const { return takes_adapters_; }
    const ChatModelOptions::FetchPicture& fetch_picture() const { return fetch_picture_; }
    // A picture as the model takes it. A file of a few KB may hold millions of pixels: files take theirs from
    // `pixels_left`, and are read one at a time. Throws Error where the file is no picture or too large.
    Patches make_patches(std::span<const std::byte> file, const std::string& name,
                         int64_t& pixels_left) const;
    // Whose the image tokens of a prompt are that was changed since. Throws Error where they do not fit.
    std::vector<Picture> find_pictures(std::span<const int32_t> ids,
                                       std::span<const std::shared_ptr<const Patches>> pictures) const;
    // Text that the model goes on with. Without a token, and without one to begin with, there is nothing to
    // compute: the ids are empty.
    Prompt make_text_prompt(std::string text) const;
    // Throws RefusedRequest naming what is wrong with the options, or that the prompt is longer than the
    // context.
    std::unique_ptr<Generation> generate(const Prompt& prompt, const GenerateOptions& options);
    // For callers with a sink of their own: what generate() submits, and how it reads the tokens of an
    // answer.
    Request make_request(const Prompt& prompt, const GenerateOptions& options) const;
    // None where the closing mark is no token of the vocabulary.
    ThinkingLimit thinking_limit(const Prompt& prompt, int n_tokens) const;
    TextStream make_text_stream(const Prompt& prompt, const GenerateOptions& options) const;

    // A grammar over this model's tokens, or why it is refused. From any thread; costs milliseconds to
    // seconds where it is not one of the latest, which are kept.
    std::variant<std::shared_ptr<TokenGrammar>, GrammarError> compile(
        const GrammarSpec& spec, const GrammarOptions& options = {}) const;
    // The same where it is one of those; null: it is not.
    std::shared_ptr<TokenGrammar> kept_grammar(const GrammarSpec& spec,
                                               const GrammarOptions& options = {}) const {
        return grammars_.find(spec, options);
    }
    GrammarCacheStats grammar_stats() const { return grammars_.stats(); }
    // Ascending ids of the tokens in whose text one of these stands, for SamplingParams::dry_breakers.
    std::vector<int32_t> tokens_with(const std::vector<std::string>& texts) const;
    // What the options say, else the file of a model that is made for embeddings; for others the mean is the
    // better of the two.
    Pooling default_pooling() const;
    // What an answer to the prompt is made of, for answer_grammar().
    AnswerForm answer_form(const Prompt& prompt) const;

    // generation_config.json's sampling; where a model has none: temperature 0.7, top-p 0.95, min-p 0.05.
    const SamplingParams& default_sampling() const { return default_sampling_; }
    const std::string& default_system() const { return default_system_; }
    const std::vector<int32_t>& stop_ids() const { return stop_ids_; }  // ends of turn

    const ModelFile& file() const { return *file_; }
    const Tokenizer& tokenizer() const { return tokenizer_; }
    bool has_template() const { return template_.has_value(); }
    const std::string& template_source() const { return template_->source(); }  // where there is one
    const Model& model() const { return *model_; }
    const Model* draft_model() const { return draft_model_.get(); }  // null: none
    const Backend& backend() const { return *backend_; }
    const DeviceRunner& runner() const { return *runner_; }
    // Of the model and of the one that drafts for it.
    size_t kv_bytes() const { return runner_->kv_bytes() + draft_kv_bytes_; }
    size_t weight_bytes() const;
    Engine& engine() { return *engine_; }
    const Engine& engine() const { return *engine_; }
    int n_ctx() const { return runner_->shape().n_ctx; }

 private:
    ChatModel(std::shared_ptr<const ModelFile> file, const ChatModelOptions& options);
    void open_draft_model(const ChatModelOptions& options);
    std::unique_ptr<ModelRunner> make_draft_runner(const ChatModelOptions& options, int n_ctx, int n_blocks);
    Prompt render_prompt(Json messages, const PromptOptions& options) const;
    void place_pictures(Prompt& prompt, const PromptOptions& options) const;

    std::shared_ptr<const ModelFile> file_;
    Tokenizer tokenizer_;
    std::optional<ChatTemplate> template_, tool_template_;
    AnswerFormat format_;
    CallStyle call_style_;
    SamplingParams default_sampling_;
    std::string default_system_;
    Json default_kwargs_;
    std::optional<Pooling> pooling_;
    std::vector<int32_t> stop_ids_;
    mutable GrammarCache grammars_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
    std::shared_ptr<const ModelFile> draft_file_;
    std::unique_ptr<Model> draft_model_;  // null: none
    std::unique_ptr<Engine> engine_;
    const DeviceRunner* runner_ = nullptr;  // the engine's
    ChatModelOptions::FetchPicture fetch_picture_;
    size_t draft_kv_bytes_ = 0;
    bool takes_adapters_ = true;
    int32_t image_token_ = -1;  // -1: no pictures
    PatchRules patch_rules_ = {};
};

}  // namespace smelt
