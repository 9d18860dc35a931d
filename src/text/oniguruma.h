// Patterns as Hugging Face's tokenizers read them (Oniguruma, Ruby's syntax), for PCRE2, which reads several
// constructs otherwise.
#pragma once

#include <string>
#include <string_view>

namespace smelt {

// The same pattern as PCRE2 has it, with PCRE2_UTF and PCRE2_UCP. Throws Error that names a construct which
// cannot be translated.
std::string pcre_pattern(std::string_view oniguruma);

}  // namespace smelt
