/* answer.cpp in C99: opens a model, asks it one thing, prints the answer as it comes.
 * usage: answer MODEL QUESTION */
#include <smelt_c.h>
#include <stdio.h>

static int print_piece(const smelt_piece* piece, void* user) {
    (void)user;
    fwrite(piece->text, 1, piece->text_length, stdout);
    fflush(stdout);
    return 1;
}

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    smelt_message message = {"user", argv[2]};
    smelt_chat_options chat;
    smelt_generate_options options;
    smelt_chat_options_init(&chat);
    chat.thinking = SMELT_THINKING_OFF;
    smelt_generate_options_init(&options);
    options.temperature = 0;

    smelt_model* model = NULL;
    smelt_prompt* prompt = NULL;
    smelt_status status = smelt_model_open(argv[1], NULL, &model);
    if (status == SMELT_OK) status = smelt_prompt_chat(model, &message, 1, &chat, &prompt);
    if (status == SMELT_OK) status = smelt_generate(model, prompt, &options, print_piece, NULL, NULL);
    if (status == SMELT_OK) {
        printf("\n");
    } else {
        fprintf(stderr, "%s\n", smelt_last_error());
    }
    smelt_prompt_free(prompt);
    smelt_model_close(model);
    return status == SMELT_OK ? 0 : 1;
}
