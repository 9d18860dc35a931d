// What a model may write where an answer is held to a form: calls as its format has them, and what comes
// before: thinking, marks of channels.
#pragma once

#include <optional>

#include "base/json.h"
#include "chat/answer_parser.h"
#include "grammar/grammar.h"

namespace smelt {

struct AnswerForm {
    CallStyle style = CallStyle::none;
    bool is_harmony = false;
    bool starts_thinking = false;  // the prompt opened the mark
    bool starts_final = false;     // harmony: or the final channel
    bool may_think = false;        // the answer itself may open it
};

struct CallRules {
    Json tools = {};        // in OpenAI's form; null: no calls
    std::string only = {};  // the one that may be called; empty: any
    bool must_call = false;
    bool parallel = true;
    // Arguments follow their schemas whether or not a tool says strict; of one that does not, what cannot be
    // enforced is left out, and grammar_warnings() tells it.
    bool all_held = false;
};

// The whole answer: thinking where it may be, then `content`, or calls, or either. Without content and where
// no call is forced, text is free before the calls. Throws Error naming what the model's form of calls cannot
// hold of a tool that is strict.
GrammarSpec answer_grammar(const AnswerForm& form, const std::optional<GrammarSpec>& content,
                           const CallRules& calls);

}  // namespace smelt
