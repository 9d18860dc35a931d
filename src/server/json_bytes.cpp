// Counts commas and brackets outside of strings.
#include "server/json_bytes.h"

namespace smelt {

size_t json_bytes(std::string_view text) {
    constexpr size_t value_bytes = 100;  // with its name, and room for the next ones
    constexpr size_t n_copies = 5;       // the value's, a message's, two of a template's, tokens
    size_t n_values = 1;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string && c == '\\') {
            ++i;
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string && (c == '[' || c == '{' || c == ',')) {
            ++n_values;
        }
    }
    return text.size() * n_copies + n_values * value_bytes;
}

}  // namespace smelt
