// Fill-in-the-middle: the prompt of a model that was trained to write what stands between two texts.
#pragma once

#include "chat/chat_model.h"

namespace smelt {

struct FillIn {
    struct Extra {
        std::string filename, text;
    };
    std::string prefix = {}, suffix = {};
    std::string begun = {};          // how the middle begins
    std::vector<Extra> extras = {};  // other files, for context
};

// The model's marks for it, by the names that vocabularies have for them; -1: none.
struct FillInMarks {
    int32_t prefix = -1, suffix = -1, middle = -1, repository = -1, file = -1, pad = -1;

    bool usable() const { return prefix >= 0 && suffix >= 0 && middle >= 0; }
    std::vector<int32_t> ends() const;  // that end an answer
};
FillInMarks fill_in_marks(const Tokenizer& tokenizer);

// Throws RequestError not_supported for a model without the marks.
std::vector<int32_t> fill_in_prompt(const ChatModel& model, const FillIn& parts);

}  // namespace smelt
