// A server's loop without the network: threads of clients ask, each reads its answer as it comes, and the
// model computes all of them together. A client waits when the queue is full, and hangs up when it has read
// enough. usage: loop MODEL
#include <smelt.h>

#include <chrono>
#include <iostream>
#include <mutex>
#include <thread>

namespace {

// One request, as a server's thread handles it. Model is for any number of threads.
std::string handle(const smelt::Model& model, const std::string& question, size_t max_bytes) {
    smelt::ChatOptions chat;
    chat.thinking = false;
    smelt::GenerateOptions options;
    options.temperature = 0;
    options.max_tokens = 200;
    const smelt::Prompt prompt = model.chat_prompt({{"user", question}}, chat);
    while (true) {
        try {
            smelt::Generation generation = model.start(prompt, options);
            std::string text;
            while (const auto piece = generation.next()) {
                text += piece->text;  // a server writes it to its client here
                if (text.size() > max_bytes) generation.cancel();
            }
            return text;
        } catch (const smelt::Error& e) {
            // A server would answer 503; this client tries again.
            if (e.code() != smelt::ErrorCode::busy) return std::string("error: ") + e.what();
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    try {
        smelt::ModelOptions room;
        room.max_sequences = 4;
        room.max_queue = 4;  // fewer than there are clients, so that some are busy and wait
        const auto model = smelt::Model::open(argv[1], room);
        std::mutex print;
        std::vector<std::thread> clients;
        for (int i = 0; i < 12; ++i) {
            clients.emplace_back([&, i] {
                const std::string question = "What is " + std::to_string(12 + i) + " + 30?";
                const std::string answer = handle(model, question, 1000);
                const std::lock_guard<std::mutex> lock(print);
                std::cout << question << " " << answer << "\n";
            });
        }
        for (std::thread& client : clients) client.join();
    } catch (const smelt::Error& e) {
        std::cerr << e.what() << "\n";
        return 1;
    }
}
