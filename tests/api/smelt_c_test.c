/* smelt_c.h from a C99 program: each function once at least, each status that can be had, old option structs. */
#include "api/smelt_c.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n_failed = 0;

#define EXPECT(condition)                                                                             \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            fprintf(stderr, "%s:%d: expected %s; last error: %s\n", __FILE__, __LINE__, #condition,   \
                    smelt_last_error());                                                              \
            n_failed++;                                                                               \
        }                                                                                             \
    } while (0)
#define EXPECT_OK(call) EXPECT((call) == SMELT_OK)
#define EXPECT_ERROR(call, code, part)                         \
    do {                                                       \
        EXPECT((call) == (code));                              \
        EXPECT(strstr(smelt_last_error(), (part)) != NULL);    \
    } while (0)

typedef struct {
    char text[4096];
    size_t n_pieces, n_tokens, stop_after;
} seen;

static int collect(const smelt_piece* piece, void* user) {
    seen* s = user;
    EXPECT(piece->text != NULL && strlen(piece->text) == piece->text_length);
    EXPECT(piece->thinking != NULL && strlen(piece->thinking) == piece->thinking_length);
    if (strlen(s->text) + piece->text_length < sizeof s->text) strcat(s->text, piece->text);
    s->n_tokens += piece->n_tokens;
    s->n_pieces++;
    return s->stop_after == 0 || s->n_pieces < s->stop_after;
}

static smelt_model* open_demo(void) {
    smelt_model_options options;
    smelt_model* model = NULL;
    smelt_model_options_init(&options);
    EXPECT(options.size == sizeof options && options.max_sequences == 32 && options.max_queue == 256);
    options.n_threads = 1;
    options.n_ctx = 256;
    EXPECT_OK(smelt_model_open(SMELT_MODELS "/demo-5m", &options, &model));
    return model;
}

static smelt_prompt* ask(const smelt_model* model, const char* question) {
    smelt_message message = {"user", NULL};
    smelt_chat_options options;
    smelt_prompt* prompt = NULL;
    message.content = question;
    smelt_chat_options_init(&options);
    EXPECT(options.thinking == SMELT_THINKING_AS_TEMPLATE && options.add_generation_prompt == 1);
    options.thinking = SMELT_THINKING_OFF;
    EXPECT_OK(smelt_prompt_chat(model, &message, 1, &options, &prompt));
    return prompt;
}

static void greedy(smelt_generate_options* options) {
    smelt_generate_options_init(options);
    EXPECT(options->size == sizeof *options && isnan(options->top_p) && options->top_k == -1);
    options->temperature = 0;
    options->max_tokens = 100;
}

static void test_answer(const smelt_model* model) {
    smelt_prompt* prompt = ask(model, "What is 12 + 30?");
    smelt_generate_options options;
    smelt_answer* answer = NULL;
    smelt_usage usage;
    seen s = {"", 0, 0, 0};
    size_t length = 0, n_tokens = 0, n_prompt = 0;
    const smelt_token* tokens;
    greedy(&options);
    options.n_logprobs = 2;
    EXPECT_OK(smelt_generate(model, prompt, &options, collect, &s, &answer));
    EXPECT(strstr(smelt_answer_text(answer, &length), "= 42") != NULL);
    EXPECT(length == strlen(smelt_answer_text(answer, NULL)));
    EXPECT(strcmp(smelt_answer_text(answer, NULL), s.text) == 0);
    EXPECT(strcmp(smelt_answer_thinking(answer, NULL), "") == 0);
    EXPECT(smelt_answer_finish_reason(answer) == SMELT_FINISH_STOP);
    tokens = smelt_answer_tokens(answer, &n_tokens);
    EXPECT(n_tokens > 5 && n_tokens == s.n_tokens);
    EXPECT(tokens[0].n_top == 2 && tokens[0].top[0].id == tokens[0].id);
    EXPECT(tokens[0].top[0].logprob == tokens[0].logprob && tokens[0].logprob <= 0);

    EXPECT(strstr(smelt_prompt_get_text(prompt, &length), "12 + 30") != NULL);
    EXPECT(length == strlen(smelt_prompt_get_text(prompt, NULL)));
    EXPECT(smelt_prompt_get_tokens(prompt, &n_prompt) != NULL);
    memset(&usage, 0, sizeof usage);
    usage.size = sizeof usage;
    EXPECT_OK(smelt_answer_usage(answer, &usage));
    EXPECT(usage.n_prompt == (int32_t)n_prompt && usage.n_generated == (int32_t)n_tokens + 1);
    EXPECT(usage.decode > 0);
    usage.size = 0;
    EXPECT_ERROR(smelt_answer_usage(answer, &usage), SMELT_INVALID_ARGUMENT, "size");
    smelt_answer_free(answer);

    /* Ended by the callback. */
    memset(&s, 0, sizeof s);
    s.stop_after = 1;
    EXPECT_OK(smelt_generate(model, prompt, &options, collect, &s, &answer));
    EXPECT(s.n_pieces == 1 && smelt_answer_finish_reason(answer) == SMELT_FINISH_CANCELLED);
    smelt_answer_free(answer);
    smelt_prompt_free(prompt);
}

static void test_generation(const smelt_model* model) {
    smelt_prompt* prompt = ask(model, "What is 12 + 30?");
    smelt_generate_options options;
    smelt_generation* generation = NULL;
    smelt_answer* answer = NULL;
    const smelt_piece* piece = NULL;
    char text[4096] = "";
    greedy(&options);
    EXPECT_OK(smelt_generation_start(model, prompt, &options, &generation));
    for (;;) {
        EXPECT_OK(smelt_generation_next(generation, &piece));
        if (piece == NULL) break;
        strcat(text, piece->text);
    }
    EXPECT(strstr(text, "= 42") != NULL);
    EXPECT_OK(smelt_generation_finish(generation, &answer));
    EXPECT(strcmp(smelt_answer_text(answer, NULL), text) == 0);
    smelt_answer_free(answer);
    smelt_generation_free(generation);

    options.regex = "a*b{1000}";
    options.max_tokens = -1;
    EXPECT_OK(smelt_generation_start(model, prompt, &options, &generation));
    smelt_generation_cancel(generation);
    EXPECT_OK(smelt_generation_finish(generation, &answer));
    EXPECT(smelt_answer_finish_reason(answer) == SMELT_FINISH_CANCELLED);
    smelt_answer_free(answer);
    smelt_generation_free(generation);
    smelt_prompt_free(prompt);
}

static void test_batch(const smelt_model* model) {
    const smelt_prompt* prompts[3];
    smelt_prompt* made[3];
    smelt_answer* answers[3];
    smelt_generate_options options;
    const char* stop = " =";
    int i;
    greedy(&options);
    options.stop = &stop;
    options.n_stop = 1;
    options.seed = 3;
    options.has_seed = 1;
    made[0] = ask(model, "What is 1 + 30?");
    EXPECT_OK(smelt_prompt_text(model, "Once upon", strlen("Once upon"), &made[1]));
    EXPECT(strcmp(smelt_prompt_get_text(made[1], NULL), "Once upon") == 0);
    {
        size_t n = 0;
        const int32_t* ids = smelt_prompt_get_tokens(made[1], &n);
        EXPECT_OK(smelt_prompt_tokens(ids, n, &made[2]));
    }
    for (i = 0; i < 3; i++) prompts[i] = made[i];
    EXPECT_OK(smelt_generate_all(model, prompts, 3, &options, answers));
    EXPECT(strstr(smelt_answer_text(answers[0], NULL), "1 + 30") != NULL);
    EXPECT(strchr(smelt_answer_text(answers[0], NULL), '=') == NULL);
    EXPECT(strcmp(smelt_answer_text(answers[1], NULL), smelt_answer_text(answers[2], NULL)) == 0);
    for (i = 0; i < 3; i++) smelt_answer_free(answers[i]);
    for (i = 0; i < 3; i++) smelt_prompt_free(made[i]);
}

static void test_tokens(const smelt_model* model) {
    const char* text = "Hello, world!<|im_end|>";
    int32_t ids[64];
    char back[64];
    size_t n = 0, n_small = 0, length = 0;
    EXPECT_OK(smelt_tokenize(model, text, strlen(text), 0, 1, ids, 64, &n));
    EXPECT(n > 1 && n < 64);
    EXPECT_OK(smelt_tokenize(model, text, strlen(text), 0, 1, NULL, 0, &n_small));
    EXPECT(n_small == n);
    EXPECT_OK(smelt_detokenize(model, ids, n, 0, back, sizeof back, &length));
    EXPECT(strcmp(back, text) == 0 && length == strlen(text));
    EXPECT_OK(smelt_detokenize(model, ids, n, 1, back, 6, &length));
    EXPECT(strcmp(back, "Hello") == 0 && length == strlen("Hello, world!"));
    ids[0] = -3;
    EXPECT_ERROR(smelt_detokenize(model, ids, 1, 0, back, sizeof back, &length), SMELT_INVALID_ARGUMENT, "-3");
    EXPECT_ERROR(smelt_tokenize(model, text, 1, 0, 7, ids, 64, &n), SMELT_INVALID_ARGUMENT, "parse_special");
}

static void test_embeddings(const smelt_model* model) {
    const char* texts[] = {"a cat", "a dog"};
    smelt_embed_options options;
    float vectors[16];
    double squares = 0;
    int i;
    smelt_embed_options_init(&options);
    options.dimensions = 8;
    options.pooling = SMELT_POOLING_MEAN;
    EXPECT_OK(smelt_embed(model, texts, 2, &options, vectors, 16));
    for (i = 8; i < 16; i++) squares += (double)vectors[i] * (double)vectors[i];
    EXPECT(fabs(squares - 1) < 1e-5);
    EXPECT(memcmp(vectors, vectors + 8, 8 * sizeof(float)) != 0);
    EXPECT_ERROR(smelt_embed(model, texts, 2, &options, vectors, 15), SMELT_INVALID_ARGUMENT, "2 * 8");
    options.pooling = 9;
    EXPECT_ERROR(smelt_embed(model, texts, 2, &options, vectors, 16), SMELT_INVALID_ARGUMENT, "pooling");
}

/* A program that was built with a header that ends at max_tokens. */
static void test_old_struct(const smelt_model* model) {
    smelt_prompt* prompt = ask(model, "What is 12 + 30?");
    size_t old_size = offsetof(smelt_generate_options, temperature);
    smelt_generate_options options;
    smelt_answer* answer = NULL;
    memset(&options, 0x5a, sizeof options);
    smelt_generate_options_init_sized(&options, old_size);
    EXPECT(options.size == old_size && options.max_tokens == -1);
    EXPECT(((unsigned char*)&options)[old_size] == 0x5a); /* not the program's memory */
    options.max_tokens = 3;
    EXPECT_OK(smelt_generate(model, prompt, &options, NULL, NULL, &answer)); /* 0x5a5a5a5a is no top_k */
    EXPECT(smelt_answer_finish_reason(answer) == SMELT_FINISH_LENGTH);
    smelt_answer_free(answer);
    /* And one whose header is newer than the library: what it asks for is not known here. */
    options.size = sizeof options + 8;
    EXPECT_ERROR(smelt_generate(model, prompt, &options, NULL, NULL, NULL), SMELT_INVALID_ARGUMENT, "size");
    smelt_prompt_free(prompt);
}

static void test_errors(const smelt_model* model) {
    smelt_prompt* prompt = ask(model, "Hi");
    smelt_prompt* none = NULL;
    smelt_model* no_model = NULL;
    smelt_generate_options options;
    smelt_model_options bad;
    smelt_message message = {"user", NULL};
    EXPECT_ERROR(smelt_model_open("/no/such/model", NULL, &no_model), SMELT_CANNOT_OPEN, "/no/such/model");
    EXPECT(no_model == NULL);
    EXPECT_ERROR(smelt_model_open(NULL, NULL, &no_model), SMELT_INVALID_ARGUMENT, "path");
    smelt_model_options_init(&bad);
    bad.max_sequences = 0;
    EXPECT_ERROR(smelt_model_open("x", &bad, &no_model), SMELT_INVALID_ARGUMENT, "max_sequences");
    EXPECT_ERROR(smelt_prompt_chat(model, &message, 1, NULL, &none), SMELT_INVALID_ARGUMENT, "content");
    EXPECT_ERROR(smelt_prompt_chat(model, NULL, 0, NULL, &none), SMELT_INVALID_ARGUMENT, "messages");
    EXPECT_ERROR(smelt_generate(NULL, prompt, NULL, NULL, NULL, NULL), SMELT_INVALID_ARGUMENT, "model");
    EXPECT_ERROR(smelt_generate(model, NULL, NULL, NULL, NULL, NULL), SMELT_INVALID_ARGUMENT, "prompt");
    smelt_generate_options_init(&options);
    options.temperature = -1;
    EXPECT_ERROR(smelt_generate(model, prompt, &options, NULL, NULL, NULL), SMELT_INVALID_ARGUMENT, "temperature");
    smelt_generate_options_init(&options);
    options.gbnf = "nonsense";
    EXPECT_ERROR(smelt_generate(model, prompt, &options, NULL, NULL, NULL), SMELT_INVALID_ARGUMENT, "gbnf");
    options.size = 0; /* never initialised */
    EXPECT_ERROR(smelt_generate(model, prompt, &options, NULL, NULL, NULL), SMELT_INVALID_ARGUMENT, "size");
    EXPECT(smelt_model_dim(NULL) == -1 && smelt_model_n_ctx(NULL) == -1);
    EXPECT(smelt_model_vocab_size(NULL) == -1 && smelt_model_has_chat_template(NULL) == 0);
    EXPECT(smelt_model_takes_pictures(model) == 0 && smelt_model_takes_pictures(NULL) == 0);
    EXPECT(strcmp(smelt_answer_text(NULL, NULL), "") == 0 && smelt_answer_tokens(NULL, NULL) == NULL);
    EXPECT(smelt_prompt_get_tokens(NULL, NULL) == NULL);
    smelt_generation_cancel(NULL);
    smelt_generation_free(NULL);
    smelt_answer_free(NULL);
    smelt_prompt_free(NULL);
    smelt_model_close(NULL);
    smelt_prompt_free(prompt);
}

static size_t read_file(const char* path, char* to, size_t room) {
    FILE* file = fopen(path, "rb");
    size_t n = 0;
    EXPECT(file != NULL);
    if (file == NULL) return 0;
    n = fread(to, 1, room, file);
    fclose(file);
    return n;
}

static void test_pictures(void) {
    static char scene[100000];
    smelt_message messages[2] = {{"system", "Answer."}, {"user", "How many red circles are there?"}};
    smelt_picture pictures[1] = {{scene, 0, 1}};
    smelt_model_options m;
    smelt_chat_options options;
    smelt_generate_options g;
    smelt_model* model = NULL;
    smelt_prompt* prompt = NULL;
    smelt_answer* answer = NULL;
    pictures[0].length = read_file(SMELT_MODELS "/demo-vl/scene.png", scene, sizeof scene);
    smelt_model_options_init(&m);
    m.n_threads = 1;
    m.n_ctx = 256;
    EXPECT_OK(smelt_model_open(SMELT_MODELS "/demo-vl", &m, &model));
    EXPECT(smelt_model_takes_pictures(model) == 1);
    smelt_chat_options_init(&options);
    EXPECT(options.pictures == NULL && options.n_pictures == 0);
    options.n_pictures = 1;
    EXPECT_ERROR(smelt_prompt_chat(model, messages, 2, &options, &prompt), SMELT_INVALID_ARGUMENT, "pictures");
    options.pictures = pictures;
    pictures[0].message = 2;
    EXPECT_ERROR(smelt_prompt_chat(model, messages, 2, &options, &prompt), SMELT_INVALID_ARGUMENT, "pictures[0]");
    pictures[0].message = 1;
    EXPECT_OK(smelt_prompt_chat(model, messages, 2, &options, &prompt));
    smelt_generate_options_init(&g);
    g.temperature = 0;
    EXPECT_OK(smelt_generate(model, prompt, &g, NULL, NULL, &answer));
    EXPECT(strstr(smelt_answer_text(answer, NULL), "There are 3 red circles") != NULL);
    smelt_answer_free(answer);
    smelt_prompt_free(prompt);
    smelt_model_close(model);
}

static void count_message(smelt_log_level level, const char* text, void* user) {
    if (level >= SMELT_LOG_DEBUG && text[0] != '\0') ++*(int*)user;
}

int main(void) {
    int n_messages = 0;
    smelt_model* model;
    smelt_generation* generation = NULL;
    smelt_answer* answer = NULL;
    smelt_prompt* prompt;
    EXPECT_OK(smelt_set_log(count_message, &n_messages));
    EXPECT(strcmp(smelt_version(), "") != 0 && strcmp(smelt_last_error(), "") == 0);
    model = open_demo();
    if (model == NULL) return 1;
    EXPECT(smelt_model_n_ctx(model) == 256 && smelt_model_vocab_size(model) > 1000);
    EXPECT(smelt_model_dim(model) > 8 && smelt_model_has_chat_template(model) == 1);
    test_answer(model);
    test_generation(model);
    test_batch(model);
    test_tokens(model);
    test_embeddings(model);
    test_old_struct(model);
    test_errors(model);
    test_pictures();

    /* A generation outlives its model. */
    prompt = ask(model, "What is 12 + 30?");
    EXPECT_OK(smelt_generation_start(model, prompt, NULL, &generation));
    smelt_prompt_free(prompt);
    smelt_model_close(model);
    EXPECT_OK(smelt_generation_finish(generation, &answer));
    EXPECT(strcmp(smelt_answer_text(answer, NULL), "") != 0);
    smelt_answer_free(answer);
    smelt_generation_free(generation);
    EXPECT_OK(smelt_set_log(NULL, NULL));
    if (n_failed == 0) printf("all of smelt_c.h works\n");
    return n_failed == 0 ? 0 : 1;
}
