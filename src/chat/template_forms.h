// Templates differ in what they take: some want arguments as text, some one system message in front, some
// none. The forms in which a conversation may be put to one, the plainest first, so that none is refused
// which the model could answer.
#pragma once

#include <string_view>

#include "base/json.h"

namespace smelt {

struct TemplateForm {
    bool arguments_as_text = false;
    enum class Systems {
        as_they_are,
        one_in_front,  // joined; a later one cannot stay where it is
        of_the_user,   // in front of what the user says first
    } systems = Systems::as_they_are;
};

// Those that differ for these messages; the first is the plain one.
std::vector<TemplateForm> template_forms(const Json& messages);
Json in_form(Json messages, const TemplateForm& form);

// Gives the thinking of earlier messages the names that the template reads: reasoning_content, thinking
// (gpt-oss), reasoning.
void name_reasoning(Json& messages, std::string_view template_source);

}  // namespace smelt
