// What people and models wrote into the variables of a template: control tokens in a prompt come from the
// template alone. In the rest they are broken by a mark that nobody wrote, and where the mark comes out of
// the template, no control token is looked for.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace smelt {

class Untrusted {
 public:
    Untrusted(const Tokenizer& tokenizer, const Json& variables);

    Json broken(const Json& value) const;
    // Takes the marks out of the text; where they were.
    std::vector<size_t> take_marks(std::string& text) const;

 private:
    std::string broken_text(std::string_view text) const;

    const Tokenizer& tokenizer_;
    std::string mark_;
};

}  // namespace smelt
