// smelt for C++ programs: opens a language model, lets it answer, embeds texts, turns text into tokens and
// back. Needs standard headers alone, from C++17 on. smelt_c.h is the same for C; docs/LIBRARY.md begins with
// a program.
//
// Texts are UTF-8. Counts of tokens are int, sizes of memory bytes, times seconds.
// Threads: every function of Model may be called from any number of threads at once; answers that are asked
// for at the same time are computed together. A Generation is read by one thread; cancel() may come from
// another. Errors: smelt::Error, with a code for programs and one line for people. What a callback throws
// passes through. Lifetimes: everything that is returned belongs to the caller; nothing points into the model
// but Generation, which keeps the model alive.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

// The library's own sources have the same names one namespace up; for them this one is not inline.
#ifndef SMELT_INSIDE
inline
#endif
    namespace v1 {

enum class ErrorCode {
    invalid_argument = 1,  // an option, a prompt or a grammar is wrong: the same call would fail again
    cannot_open = 2,       // no such file or device, a damaged file, a model that smelt cannot run
    busy = 3,              // ModelOptions::max_queue requests wait already; the same call may work later
    out_of_memory = 4,     // the text has the numbers where they are known
    failed = 5,            // the device failed during a step, or the model produced NaN or infinity
    internal = 6,          // anything else, which is a fault of smelt
};

class Error : public std::runtime_error {
 public:
    Error(ErrorCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
    ErrorCode code() const noexcept { return code_; }

 private:
    ErrorCode code_;
};

struct ModelOptions {
    // "auto", a name that `smelt doctor` lists ("cpu", "metal"), or a map of layers to several devices, as in
    // `smelt run --device-map`: "cpu,12-=reference".
    std::string device = "auto";
    int n_threads = 0;        // of the CPU, 0 to 1024; 0: one a physical core
    int tensor_parallel = 1;  // 1 to 32 partners that share the work on every weight
    // Tokens of one prompt with its answer; 0: as trained, or as many as fit into half of the free memory.
    int n_ctx = 0;
    // Tokens that the cache holds of all answers together; 0: n_ctx. Answers that do not fit at the same time
    // wait or are computed again, with the same result: a batch wants about the sum of its lengths here.
    int64_t kv_tokens = 0;
    // Numbers of the cache: "f32", "f16", "bf16", "q8_0", "q4_0", "fp8", or apart: "k=q8_0,v=q4_0".
    std::string kv_format = "f16";
    std::string rope_scaling =
        {};                  // "yarn,factor=4,original=32768", "linear,factor=2", "none"; empty: the model's
    int max_sequences = 32;  // 1 to 1024 answers that are computed at the same time; others wait
    int max_queue = 256;     // 1 to 1,000,000 requests that may wait; one more is refused as busy
};

struct ModelInfo {
    std::string architecture = {};  // "qwen3"
    std::string device = {};        // for people
    int n_ctx = 0;                  // tokens of one prompt with its answer
    int vocab_size = 0;             // token ids are 0 to vocab_size - 1
    int dim = 0;                    // numbers of an embedding
    bool has_chat_template = false;
    bool takes_pictures = false;
};

struct Message {
    std::string role = {};  // "system", "user", "assistant", or what else the model's template knows
    std::string content = {};
    // The bytes of up to 64 picture files a conversation: PNG, JPEG, WebP, PPM or GIF (its first frame). The
    // model sees them before the content.
    std::vector<std::string> pictures = {};
};

struct ChatOptions {
    std::optional<bool> thinking = {};    // think before answering; none: as the template does by itself
    bool add_generation_prompt = true;    // the prompt ends where the assistant's answer begins
    std::string template_variables = {};  // a JSON object of further variables of the template; empty: none
};

struct Pictures;

// What a model reads. Made by Model, or of your own token ids.
struct Prompt {
    std::vector<int32_t> tokens = {};
    std::string text = {};         // that the tokens stand for; the answer does not depend on it
    bool is_chat = false;          // made with the chat template: thinking is separated from the answer
    bool starts_thinking = false;  // of chats: the prompt already opened the thinking
    bool starts_final = false;     // of chats with channels: the prompt already opened the last one
    std::shared_ptr<const Pictures> pictures = {};  // of a chat, whose places are among the tokens
};

// How the tokens of an answer are drawn. What is none is as the model's file recommends.
struct GenerateOptions {
    int max_tokens = -1;                    // 0 or more; -1: until the model ends or n_ctx is full
    std::optional<float> temperature = {};  // 0 to 100; 0: always the likeliest token
    std::optional<int> top_k = {};          // the k likeliest tokens; 0: all
    std::optional<float> top_p = {};  // 0 to 1: the likeliest tokens that have this probability together
    std::optional<float> min_p = {};  // 0 to 1, of the likeliest token's probability
    std::optional<float> repetition_penalty = {};  // 0.01 to 100; 1: none; of tokens in prompt and answer
    std::optional<float> presence_penalty = {};    // -100 to 100; 0: none; of tokens in the answer, once
    std::optional<float> frequency_penalty = {};   // -100 to 100; 0: none; of tokens in the answer, each time
    std::optional<uint64_t> seed = {};   // the same seed gives the same answer; none: another each time
    std::vector<std::string> stop = {};  // the answer ends before the first of these; none is empty
    // Set at most one of these. It constrains the answer, not the thinking. A form that smelt cannot enforce
    // is an error.
    std::string json_schema = {};  // JSON text of a schema; docs/GRAMMARS.md says what is known
    std::string regex = {};        // the whole answer matches
    std::string gbnf = {};         // llama.cpp's grammar notation, from the rule `root` on
    int n_logprobs = -1;           // log-probabilities of this many likeliest tokens, up to 1000; 0: only of
                                   // the drawn token; -1: none
    int thinking_budget = -1;      // tokens, after which thinking is ended; -1: no limit
    int priority = 0;              // -100 to 100; higher ones are computed first
};

struct TokenLogprob {
    int32_t id = -1;
    float logprob = 0;  // natural logarithm, of the model's own probability
};

struct Token {
    int32_t id = -1;
    float logprob = 0;                   // where n_logprobs is 0 or more
    std::vector<TokenLogprob> top = {};  // the n_logprobs likeliest, best first
};

// What came since the piece before. Texts are whole characters; both may be empty.
struct Piece {
    std::string text = {};
    std::string thinking = {};
    // Their texts may come with a later piece: what could become a stop string or a mark is held back.
    std::vector<Token> tokens = {};
};

enum class FinishReason {
    stop = 1,       // the model ended its turn, the form is complete, or a stop string came
    length = 2,     // max_tokens, or the context is full
    cancelled = 3,  // by the callback or cancel()
};

struct Answer {
    std::string text = {};
    std::string thinking = {};
    FinishReason finish = FinishReason::stop;
    std::vector<Token> tokens = {};              // without the one that ended the turn
    int n_prompt = 0;                            // tokens of the prompt
    int n_cached = 0;                            // of them, those that an earlier request had computed
    int n_generated = 0;                         // tokens drawn, with the one that ended the turn
    double queued = 0, prefill = 0, decode = 0;  // seconds: to the first step, to the first token, to the end
};

// Called on the thread that called generate(), with every piece that is not empty. False ends the answer,
// which then holds what the callback has seen.
using OnPiece = std::function<bool(const Piece&)>;

// One answer on its way. The model goes on whether or not anybody reads.
class Generation {
 public:
    Generation(Generation&&) noexcept;
    Generation& operator=(Generation&&) noexcept;
    ~Generation();  // cancels what is still running

    // Waits for the next piece; none when the answer is complete. Throws Error: failed, out_of_memory.
    std::optional<Piece> next();
    // From any thread. The answer ends as cancelled within a step; next() gives what was on its way, then
    // none.
    void cancel();
    // Reads what is left and returns the whole. Throws as next(). Call it once.
    Answer finish();

 private:
    friend class Model;
    struct Impl;
    explicit Generation(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

enum class Pooling {
    automatic,  // as the model's file says, else the mean
    last,       // the last token's hidden state
    mean,       // of all tokens
};

struct EmbedOptions {
    Pooling pooling = Pooling::automatic;
    int dimensions = 0;     // leading numbers that are kept, 1 to ModelInfo::dim; 0: all
    bool normalise = true;  // to length 1
};

struct TokenizeOptions {
    bool add_special = false;   // tokens that begin and end a text, where the vocabulary has such
    bool parse_special = true;  // "<|im_end|>" is one control token; false for what people wrote
};

struct DetokenizeOptions {
    bool skip_special = false;  // without control tokens
};

// An opened model. Copies are the same model; its memory goes with the last copy and the last Generation.
class Model {
 public:
    // A Hugging Face folder, a GGUF file, a qwen3.c file. Throws Error: invalid_argument, cannot_open,
    // out_of_memory. Takes milliseconds to minutes; several models may be open.
    static Model open(const std::string& path, const ModelOptions& options = {});

    ModelInfo info() const;

    // A conversation as the model's template writes it. Control tokens come from the template alone: in
    // messages they are text. Throws Error: invalid_argument, with what the template refused, or which
    // picture is none.
    Prompt chat_prompt(const std::vector<Message>& messages, const ChatOptions& options = {}) const;
    // Text that the model goes on with, without a template; any bytes. Control tokens in it are control
    // tokens.
    Prompt text_prompt(std::string_view text) const;

    // Starts an answer and returns at once. Throws Error: invalid_argument (the text names the option, what
    // was expected and what was found; also a prompt that does not fit into the context), busy. A form that
    // was not used lately is compiled first, which takes milliseconds to seconds.
    Generation start(const Prompt& prompt, const GenerateOptions& options = {}) const;
    // Starts an answer and waits for its end. Throws as start() and Generation::next().
    Answer generate(const Prompt& prompt, const GenerateOptions& options = {},
                    const OnPiece& on_piece = {}) const;
    // One answer a prompt, in the same order, computed together; more prompts than the queue holds wait here.
    // With a seed every prompt is drawn with it. The first error ends all. Throws as generate(); busy only
    // while others fill the queue.
    std::vector<Answer> generate_all(const std::vector<Prompt>& prompts,
                                     const GenerateOptions& options = {}) const;

    // Vectors of ModelInfo::dim or `dimensions` numbers, in the texts' order. A text has at least one token
    // and at most n_ctx - 1. Throws Error: invalid_argument, busy (when others fill the queue), failed,
    // out_of_memory.
    std::vector<float> embed(std::string_view text, const EmbedOptions& options = {}) const;
    std::vector<std::vector<float>> embed_all(const std::vector<std::string>& texts,
                                              const EmbedOptions& options = {}) const;

    // Any bytes, up to 2 GiB.
    std::vector<int32_t> tokenize(std::string_view text, const TokenizeOptions& options = {}) const;
    // Whole UTF-8: broken characters become U+FFFD. Throws Error, invalid_argument, for an id that is none.
    std::string detokenize(const std::vector<int32_t>& tokens, const DetokenizeOptions& options = {}) const;

 private:
    friend class Generation;
    struct Impl;
    explicit Model(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

// Messages for people, one line each. Without a call: warnings and errors on stderr, unless the program has
// set a named default logger of spdlog, which then gets them. An empty function: none at all. Called from any
// thread, one at a time; what it throws is dropped. Call set_log() before the first Model::open().
enum class LogLevel { debug = 0, info = 1, warning = 2, error = 3 };
void set_log(std::function<void(LogLevel, const std::string&)> on_message);

std::string version();  // "0.1.0"

}  // namespace v1
}  // namespace smelt
