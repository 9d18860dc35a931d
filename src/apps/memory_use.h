// What a running model takes of the machine's memory.
#pragma once

#include <string>

#include "chat/chat_model.h"

namespace smelt {

struct MemoryUse {
    size_t weights = 0, kv = 0, activations = 0;  // bytes
    size_t process_peak = 0;                      // bytes resident at most so far

    std::string text() const;
    Json json() const;
};

MemoryUse memory_use(const ChatModel& model);

}  // namespace smelt
