/* smelt for C programs, and for all languages that call C: the same as smelt.h. C99.
 *
 * Functions return a smelt_status; smelt_last_error() has the text of the calling thread's last failure. No
 * C++ exception leaves the library. Handles are opaque; each has one function that frees it, which takes NULL
 * too. Where a call fails, its out-parameters are not written.
 *
 * Texts are UTF-8 and end with a zero byte; where a length is passed or returned beside it, zero bytes may be
 * inside, and the text still ends with one. Pointers that a handle gives are valid until the handle is freed,
 * or, where it is said, until the next call.
 *
 * Threads: a model may be used by any number of threads at once, and answers that are asked for at the same
 * time are computed together. Other handles belong to one thread at a time, but for
 * smelt_generation_cancel(). A model may be closed before its generations: memory goes with the last of them.
 *
 * ABI: functions and members are added and never changed or removed within a major version. Option structs
 * begin with their own size, which their init function sets, so that programs that were built with an older
 * header keep working; a member that an older program does not know has its default. */
#ifndef SMELT_C_H
#define SMELT_C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum smelt_status {
    SMELT_OK = 0,
    SMELT_INVALID_ARGUMENT =
        1,                 /* an option, a prompt or a grammar is wrong: the same call would fail again */
    SMELT_CANNOT_OPEN = 2, /* no such file or device, a damaged file, a model that smelt cannot run */
    SMELT_BUSY = 3,        /* max_queue requests wait already; the same call may work later */
    SMELT_OUT_OF_MEMORY = 4,
    SMELT_FAILED = 5,  /* the device failed during a step, or the model produced NaN or infinity */
    SMELT_INTERNAL = 6 /* anything else, which is a fault of smelt */
} smelt_status;

typedef struct smelt_model smelt_model;
typedef struct smelt_prompt smelt_prompt;
typedef struct smelt_generation smelt_generation;
typedef struct smelt_answer smelt_answer;

/* Version of the library, "0.1.0". Never fails. */
const char* smelt_version(void);

/* Why the calling thread's last call failed: one line naming the thing, what was expected and what was found;
 * "" before the first failure. Valid until the thread's next call. */
const char* smelt_last_error(void);

/* Levels of messages. */
typedef enum smelt_log_level {
    SMELT_LOG_DEBUG = 0,
    SMELT_LOG_INFO = 1,
    SMELT_LOG_WARNING = 2,
    SMELT_LOG_ERROR = 3
} smelt_log_level;

/* Gets each message for people, one line, from any thread, one at a time. */
typedef void (*smelt_on_message)(smelt_log_level level, const char* text, void* user);

/* Sends messages to on_message; NULL: none at all. Without this call warnings and errors go to stderr. Call
 * it before the first model is opened. */
smelt_status smelt_set_log(smelt_on_message on_message, void* user);

/* --- Models --- */

/* NULL texts have the default. */
typedef struct smelt_model_options {
    size_t size;              /* of this struct; smelt_model_options_init() sets it */
    const char* device;       /* "auto", "cpu", "metal", or a map such as "cpu,12-=reference"; "auto" */
    const char* kv_format;    /* numbers of the cache: "f16", "q8_0", "k=q8_0,v=q4_0", ...; "f16" */
    const char* rope_scaling; /* "yarn,factor=4,original=32768", ...; as the model says */
    int64_t kv_tokens;        /* tokens that the cache holds of all answers together; 0: n_ctx */
    int32_t n_ctx;            /* tokens of one prompt with its answer; 0: as trained, or as many as fit */
    int32_t n_threads;        /* of the CPU, 0 to 1024; 0: one a physical core */
    int32_t tensor_parallel;  /* 1 to 32 partners that share the work on every weight; 1 */
    int32_t max_sequences;    /* 1 to 1024 answers that are computed at the same time; 32 */
    int32_t max_queue;        /* 1 to 1,000,000 requests that may wait; 256 */
} smelt_model_options;

/* Sets the size and every default. */
void smelt_model_options_init_sized(smelt_model_options* options, size_t size);
#define smelt_model_options_init(options) smelt_model_options_init_sized((options), sizeof *(options))

/* Opens a Hugging Face folder, a GGUF file or a qwen3.c file. `options` may be NULL: the defaults. SMELT_OK,
 * SMELT_INVALID_ARGUMENT, SMELT_CANNOT_OPEN or SMELT_OUT_OF_MEMORY. */
smelt_status smelt_model_open(const char* path, const smelt_model_options* options, smelt_model** model);

/* Frees the model once nothing uses it any more. */
void smelt_model_close(smelt_model* model);

/* Tokens of one prompt with its answer. -1 where model is NULL. */
int32_t smelt_model_n_ctx(const smelt_model* model);
/* Token ids are 0 to this - 1. -1 where model is NULL. */
int32_t smelt_model_vocab_size(const smelt_model* model);
/* Numbers of an embedding. -1 where model is NULL. */
int32_t smelt_model_dim(const smelt_model* model);
/* 1 where the model has a chat template, else 0. */
int32_t smelt_model_has_chat_template(const smelt_model* model);
/* 1 where messages may have pictures, else 0. */
int32_t smelt_model_takes_pictures(const smelt_model* model);

/* --- Prompts --- */

typedef struct smelt_message {
    const char* role;    /* "system", "user", "assistant", or what else the model's template knows */
    const char* content; /* control tokens in it are text */
} smelt_message;

typedef enum smelt_thinking {
    SMELT_THINKING_AS_TEMPLATE = -1, /* as the template does by itself */
    SMELT_THINKING_OFF = 0,
    SMELT_THINKING_ON = 1
} smelt_thinking;

/* A picture that the model sees before the content of a message. */
typedef struct smelt_picture {
    const void* bytes; /* of its file: PNG, JPEG, WebP, PPM or GIF (its first frame) */
    size_t length;
    size_t message; /* the first is 0 */
} smelt_picture;

typedef struct smelt_chat_options {
    size_t size;                    /* of this struct; smelt_chat_options_init() sets it */
    const char* template_variables; /* a JSON object of further variables of the template; NULL: none */
    int32_t thinking;               /* a smelt_thinking; SMELT_THINKING_AS_TEMPLATE */
    int32_t add_generation_prompt;  /* 1: ends where the assistant's answer begins; 0: does not; 1 */
    const smelt_picture* pictures;  /* n_pictures, 64 at most; NULL */
    size_t n_pictures;              /* 0 */
} smelt_chat_options;

/* Sets the size and every default. */
void smelt_chat_options_init_sized(smelt_chat_options* options, size_t size);
#define smelt_chat_options_init(options) smelt_chat_options_init_sized((options), sizeof *(options))

/* A conversation as the model's template writes it. `options` may be NULL. SMELT_INVALID_ARGUMENT with what
 * the template refused, or which picture is none. */
smelt_status smelt_prompt_chat(const smelt_model* model, const smelt_message* messages, size_t n_messages,
                               const smelt_chat_options* options, smelt_prompt** prompt);
/* Text of `length` bytes that the model goes on with; control tokens in it are control tokens. */
smelt_status smelt_prompt_text(const smelt_model* model, const char* text, size_t length,
                               smelt_prompt** prompt);
/* Token ids of the caller's own. */
smelt_status smelt_prompt_tokens(const int32_t* tokens, size_t n_tokens, smelt_prompt** prompt);
/* The prompt's text; `length` may be NULL. "" for one of token ids, and where prompt is NULL. */
const char* smelt_prompt_get_text(const smelt_prompt* prompt, size_t* length);
/* The prompt's tokens and how many they are. NULL where prompt is NULL. */
const int32_t* smelt_prompt_get_tokens(const smelt_prompt* prompt, size_t* n_tokens);
void smelt_prompt_free(smelt_prompt* prompt);

/* --- Answers --- */

/* Where a member says so, NaN or -1 means: as the model's file recommends. */
typedef struct smelt_generate_options {
    size_t size;             /* of this struct; smelt_generate_options_init() sets it */
    const char* const* stop; /* n_stop texts; the answer ends before the first of these */
    size_t n_stop;           /* 0 */
    const char*
        json_schema;    /* the answer is JSON of this schema (JSON text); NULL: any. Of these three one may */
    const char* regex;  /* the whole answer matches                          be set; thinking stays free. */
    const char* gbnf;   /* llama.cpp's grammar notation, from the rule `root` on */
    uint64_t seed;      /* where has_seed is 1: the same seed gives the same answer */
    int32_t has_seed;   /* 0: another answer each time */
    int32_t max_tokens; /* 0 or more; -1: until the model ends or n_ctx is full; -1 */
    float temperature;  /* 0 to 100; 0: always the likeliest token; NaN: the model's */
    int32_t top_k;      /* the k likeliest tokens; 0: all; -1: the model's */
    float top_p; /* 0 to 1: the likeliest tokens that have this probability together; NaN: the model's */
    float min_p; /* 0 to 1, of the likeliest token's probability; NaN: the model's */
    float repetition_penalty; /* 0.01 to 100; 1: none; of tokens in prompt and answer; NaN: the model's */
    float presence_penalty;   /* -100 to 100; 0: none; of tokens in the answer, once; NaN: the model's */
    float frequency_penalty;  /* -100 to 100; 0: none; of tokens in the answer, each time; NaN: the model's */
    int32_t n_logprobs;       /* log-probabilities of this many likeliest tokens, up to 1000; 0: only of
                                 the drawn token; -1 (the default): none */
    int32_t thinking_budget;  /* tokens, after which thinking is ended; -1: no limit; -1 */
    int32_t priority;         /* -100 to 100; higher ones are computed first; 0 */
} smelt_generate_options;

/* Sets the size and every default. */
void smelt_generate_options_init_sized(smelt_generate_options* options, size_t size);
#define smelt_generate_options_init(options) smelt_generate_options_init_sized((options), sizeof *(options))

typedef struct smelt_token_logprob {
    int32_t id;
    float logprob; /* natural logarithm, of the model's own probability */
} smelt_token_logprob;

typedef struct smelt_token {
    int32_t id;
    float logprob;                  /* where n_logprobs is 0 or more */
    const smelt_token_logprob* top; /* n_top likeliest, best first */
    size_t n_top;
} smelt_token;

/* What came since the piece before; text and thinking may be empty, never NULL. Their text may come with a
 * later piece than their tokens: what could become a stop string is held back. Later versions add members at
 * the end. */
typedef struct smelt_piece {
    const char* text;
    size_t text_length;
    const char* thinking;
    size_t thinking_length;
    const smelt_token* tokens;
    size_t n_tokens;
} smelt_piece;

/* Called on the thread that called smelt_generate() with every piece that is not empty; the piece is valid
 * until it returns. 0 ends the answer, anything else goes on. It must not leave by longjmp or an exception.
 */
typedef int (*smelt_on_piece)(const smelt_piece* piece, void* user);

typedef enum smelt_finish_reason {
    SMELT_FINISH_STOP = 1,     /* the model ended its turn, the form is complete, or a stop string came */
    SMELT_FINISH_LENGTH = 2,   /* max_tokens, or the context is full */
    SMELT_FINISH_CANCELLED = 3 /* by the callback or smelt_generation_cancel() */
} smelt_finish_reason;

/* Answers and waits for the end. `options` and `on_piece` may be NULL, `answer` too: then pieces are all
 * there is. SMELT_INVALID_ARGUMENT (the text names the option), SMELT_BUSY, SMELT_FAILED or
 * SMELT_OUT_OF_MEMORY. */
smelt_status smelt_generate(const smelt_model* model, const smelt_prompt* prompt,
                            const smelt_generate_options* options, smelt_on_piece on_piece, void* user,
                            smelt_answer** answer);

/* One answer a prompt, computed together, any number of prompts: writes n_prompts handles to `answers`, each
 * of which is freed by smelt_answer_free(), or none where it fails. */
smelt_status smelt_generate_all(const smelt_model* model, const smelt_prompt* const* prompts,
                                size_t n_prompts, const smelt_generate_options* options,
                                smelt_answer** answers);

/* Starts an answer and returns at once; read it with smelt_generation_next(). Fails as smelt_generate(). */
smelt_status smelt_generation_start(const smelt_model* model, const smelt_prompt* prompt,
                                    const smelt_generate_options* options, smelt_generation** generation);
/* Waits for the next piece. *piece is NULL when the answer is complete, else valid until the generation's
 * next call. */
smelt_status smelt_generation_next(smelt_generation* generation, const smelt_piece** piece);
/* From any thread, while the handle lives: the answer ends within a step. */
void smelt_generation_cancel(smelt_generation* generation);
/* Reads what is left and gives the whole. Call it once. */
smelt_status smelt_generation_finish(smelt_generation* generation, smelt_answer** answer);
/* Cancels what is still running. */
void smelt_generation_free(smelt_generation* generation);

/* The answer's text without thinking; `length` may be NULL. */
const char* smelt_answer_text(const smelt_answer* answer, size_t* length);
/* What the model thought before; "" where it did not. */
const char* smelt_answer_thinking(const smelt_answer* answer, size_t* length);
smelt_finish_reason smelt_answer_finish_reason(const smelt_answer* answer);
/* Tokens drawn, without the one that ended the turn. */
const smelt_token* smelt_answer_tokens(const smelt_answer* answer, size_t* n_tokens);

typedef struct smelt_usage {
    size_t size;         /* the caller sets it: sizeof(smelt_usage) */
    double queued;       /* seconds to the first step, */
    double prefill;      /* from there to the first token, */
    double decode;       /* from there to the end */
    int32_t n_prompt;    /* tokens of the prompt */
    int32_t n_cached;    /* of them, those that an earlier request had computed */
    int32_t n_generated; /* tokens drawn, with the one that ended the turn */
} smelt_usage;

/* Writes counts and times. SMELT_INVALID_ARGUMENT where the size is not set. */
smelt_status smelt_answer_usage(const smelt_answer* answer, smelt_usage* usage);
void smelt_answer_free(smelt_answer* answer);

/* --- Embeddings and tokens --- */

typedef enum smelt_pooling {
    SMELT_POOLING_AUTOMATIC = 0, /* as the model's file says, else the mean */
    SMELT_POOLING_LAST = 1,      /* the last token's hidden state */
    SMELT_POOLING_MEAN = 2       /* of all tokens */
} smelt_pooling;

typedef struct smelt_embed_options {
    size_t size;        /* of this struct; smelt_embed_options_init() sets it */
    int32_t pooling;    /* a smelt_pooling; SMELT_POOLING_AUTOMATIC */
    int32_t dimensions; /* leading numbers that are kept, 1 to smelt_model_dim(); 0: all; 0 */
    int32_t normalise;  /* 1: to length 1; 0: not; 1 */
} smelt_embed_options;

/* Sets the size and every default. */
void smelt_embed_options_init_sized(smelt_embed_options* options, size_t size);
#define smelt_embed_options_init(options) smelt_embed_options_init_sized((options), sizeof *(options))

/* Embeds n_texts texts, computed together. Writes n_texts rows of smelt_model_dim() numbers, or of as many as
 * `dimensions` says, to `vectors`, which has room for n_vectors numbers: exactly that many are expected. */
smelt_status smelt_embed(const smelt_model* model, const char* const* texts, size_t n_texts,
                         const smelt_embed_options* options, float* vectors, size_t n_vectors);

/* Token ids of `length` bytes of text. Writes at most `capacity` ids to `tokens`, which may be NULL where
 * capacity is 0, and to *n_tokens how many there are: where that is more than capacity, call again.
 * add_special: 1 for the tokens that begin and end a text. parse_special: 1 where "<|im_end|>" is one control
 * token, 0 for what people wrote. */
smelt_status smelt_tokenize(const smelt_model* model, const char* text, size_t length, int add_special,
                            int parse_special, int32_t* tokens, size_t capacity, size_t* n_tokens);
/* Text of tokens, whole UTF-8. Writes at most `capacity` bytes with the zero byte at the end, and to *length
 * how many there are without it: where that is capacity or more, the text is cut to what fits; call again.
 * skip_special: 1 without control tokens. SMELT_INVALID_ARGUMENT for an id that is none. */
smelt_status smelt_detokenize(const smelt_model* model, const int32_t* tokens, size_t n_tokens,
                              int skip_special, char* text, size_t capacity, size_t* length);

#ifdef __cplusplus
}
#endif

#endif
