// Many prompts at once: one question a line on stdin, one line "TOKENS: ANSWER" each, in the same order. The
// answers are the same as one by one, and come sooner. usage: batch MODEL < QUESTIONS
#include <smelt.h>

#include <algorithm>
#include <iostream>

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    try {
        smelt::ModelOptions room;
        room.max_sequences = 16;
        room.kv_tokens = 16 * 512;  // 16 questions with their answers of up to 512 tokens together
        const auto model = smelt::Model::open(argv[1], room);

        smelt::ChatOptions chat;
        chat.thinking = false;
        std::vector<smelt::Prompt> prompts;
        for (std::string line; std::getline(std::cin, line);) {
            prompts.push_back(model.chat_prompt({{"user", line}}, chat));
        }
        smelt::GenerateOptions options;
        options.temperature = 0;
        options.max_tokens = 200;
        for (smelt::Answer& answer : model.generate_all(prompts, options)) {
            std::replace(answer.text.begin(), answer.text.end(), '\n', ' ');
            std::cout << answer.n_generated << ": " << answer.text << "\n";
        }
    } catch (const smelt::Error& e) {
        std::cerr << e.what() << "\n";
        return 1;
    }
}
