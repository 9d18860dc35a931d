// PCRE2 for pre-tokenizer patterns that are not written out by hand, with limits: the pattern comes from a
// model file and the text from anyone.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "text/oniguruma.h"
#include "text/pre_tokenizer.h"
#include "text/unicode.h"

namespace smelt {

namespace {

constexpr uint32_t max_match_steps = 50'000'000;  // about a second
constexpr uint32_t max_heap_kib = 256 << 10;
constexpr size_t max_jit_stack = size_t{8} << 20;
constexpr size_t max_pattern_bytes = 64 << 10;  // o200k has 400

template <auto release>
struct Releaser {
    template <class T>
    void operator()(T* p) const {
        release(p);
    }
};

std::string message(int code) {
    PCRE2_UCHAR text[256];
    if (pcre2_get_error_message(code, text, sizeof text) < 0) return "error " + std::to_string(code);
    return reinterpret_cast<const char*>(text);
}

}  // namespace

struct RegexSplitter::Code {
    std::unique_ptr<pcre2_code, Releaser<pcre2_code_free>> pattern;
    std::unique_ptr<pcre2_match_context, Releaser<pcre2_match_context_free>> limits;
};

RegexSplitter::RegexSplitter(const std::string& pattern) : code_(new Code), pattern_(pattern) {
    if (pattern.size() > max_pattern_bytes) {
        throw Error("pre-tokenizer pattern: {} bytes, at most {} are accepted", pattern.size(),
                    max_pattern_bytes);
    }
    const std::string text = pcre_pattern(pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_->pattern.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                       nullptr));
    if (code_->pattern == nullptr) {
        throw Error("pre-tokenizer pattern {}: {} at offset {}", pattern, message(error), offset);
    }
    pcre2_jit_compile(code_->pattern.get(), PCRE2_JIT_COMPLETE);  // where it fails, matching interprets
    code_->limits.reset(pcre2_match_context_create(nullptr));
    if (code_->limits == nullptr) throw std::bad_alloc();
    pcre2_set_match_limit(code_->limits.get(), max_match_steps);
    pcre2_set_heap_limit(code_->limits.get(), max_heap_kib);
}

RegexSplitter::~RegexSplitter() = default;
RegexSplitter::RegexSplitter(RegexSplitter&&) noexcept = default;

namespace {

// PCRE2's working memory, and the pieces found with it.
class Matcher {
 public:
    Matcher(const pcre2_code* code, const pcre2_match_context* limits, const std::string& pattern)
        : code_(code),
          pattern_(pattern),
          match_(pcre2_match_data_create(1, nullptr)),
          context_(pcre2_match_context_copy(const_cast<pcre2_match_context*>(limits))),
          stack_(pcre2_jit_stack_create(32 << 10, max_jit_stack, nullptr)) {
        if (match_ == nullptr || context_ == nullptr || stack_ == nullptr) throw std::bad_alloc();
        pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
    }

    // Any bytes.
    void split(std::string_view text) {
        const char* const end = text.data() + text.size();
        const char* done = text.data();
        for (const char* p = done; p != end;) {
            const Utf8Char c = decode_utf8(p, end);
            if (c.value == invalid_char) {
                split_valid({done, p});
                pieces.emplace_back(p, static_cast<size_t>(c.length));
                done = p + c.length;
            }
            p += c.length;
        }
        split_valid({done, end});
    }

    std::vector<std::string_view> pieces;

 private:
    void split_valid(std::string_view text) {
        size_t done = 0;
        while (done < text.size()) {
            // NO_UTF_CHECK: PCRE2's own check would look at all of the rest each time.
            const int rc = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), done,
                                       PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match_.get(), context_.get());
            if (rc == PCRE2_ERROR_NOMATCH) break;
            if (rc < 0) throw Error("pre-tokenizer pattern {}: {}", pattern_, message(rc));
            const PCRE2_SIZE* const found = pcre2_get_ovector_pointer(match_.get());
            if (found[0] < done || found[0] >= found[1]) {  // a lookaround with \K
                throw Error("pre-tokenizer pattern {}: matches backwards", pattern_);
            }
            if (found[0] > done) pieces.push_back(text.substr(done, found[0] - done));
            pieces.push_back(text.substr(found[0], found[1] - found[0]));
            done = found[1];
        }
        if (done < text.size()) pieces.push_back(text.substr(done));
    }

    const pcre2_code* code_;
    const std::string& pattern_;
    std::unique_ptr<pcre2_match_data, Releaser<pcre2_match_data_free>> match_;
    std::unique_ptr<pcre2_match_context, Releaser<pcre2_match_context_free>> context_;
    std::unique_ptr<pcre2_jit_stack, Releaser<pcre2_jit_stack_free>> stack_;
};

}  // namespace

std::vector<std::string_view> RegexSplitter::split(const std::vector<std::string_view>& texts) const {
    Matcher matcher(code_->pattern.get(), code_->limits.get(), pattern_);
    for (const std::string_view text : texts) matcher.split(text);
    return std::move(matcher.pieces);
}

}  // namespace smelt
