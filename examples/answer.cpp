// The library in one screen: opens a model, asks it one thing, prints the answer as it comes.
// usage: answer MODEL QUESTION
#include <smelt.h>

#include <iostream>

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    try {
        const auto model = smelt::Model::open(argv[1]);
        smelt::ChatOptions chat;
        chat.thinking = false;
        smelt::GenerateOptions options;
        options.temperature = 0;
        model.generate(model.chat_prompt({{"user", argv[2]}}, chat), options, [](const smelt::Piece& piece) {
            std::cout << piece.text << std::flush;
            return true;
        });
        std::cout << "\n";
    } catch (const smelt::Error& e) {
        std::cerr << e.what() << "\n";
        return 1;
    }
}
