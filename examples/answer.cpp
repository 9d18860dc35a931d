// The library in one screen: opens a model, asks it one thing, streams the answer. usage: answer MODEL
// QUESTION
#include <chat/chat_model.h>

#include <iostream>

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    try {
        const auto model = smelt::ChatModel::open(argv[1]);
        const smelt::Json messages = {{{"role", "user"}, {"content", argv[2]}}};
        const auto prompt = model->make_prompt(messages, {.thinking = false});
        const auto answer = model->generate(prompt, {.sampling = {.temperature = 0}});
        while (const auto delta = answer->next()) std::cout << delta->answer << std::flush;
        std::cout << "\n";
    } catch (const std::exception& e) {
        std::cerr << e.what() << "\n";
        return 1;
    }
}
