// |urlize: addresses in a text become links. Which words are addresses is Jinja2's choice, regular
// expressions and all.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <memory>
#include <set>

#include "base/error.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

class Pattern {
 public:
    Pattern(std::string_view text, uint32_t options) {
        int error = 0;
        PCRE2_SIZE at = 0;
        code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | options, &error, &at,
                                  nullptr));
        limits_.reset(pcre2_match_context_create(nullptr));
        CHECK(code_ != nullptr && limits_ != nullptr, "{} at {}", error, at);
        pcre2_set_match_limit(limits_.get(), max_steps);
    }

    bool matches(Heap& heap, std::string_view text) const {
        heap.touch(64 * text.size());
        const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
            pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
        if (match == nullptr) throw std::bad_alloc();
        const int n = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0,
                                  match.get(), limits_.get());
        if (n < 0 && n != PCRE2_ERROR_NOMATCH)
            raise("TemplateRuntimeError", "urlize: a word of the text takes too much work");
        return n >= 0;
    }

 private:
    static constexpr uint32_t max_steps = 200'000;
    std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code_{nullptr, pcre2_code_free};
    std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits_{
        nullptr, pcre2_match_context_free};
};

const Pattern& web_address() {
    static const Pattern pattern(
        R"(^(?:(?:https?://|www\.)(?:(?:[\w%-]+\.)+)?(?:[a-z]{2,63}|xn--[\w%]{2,59}))"
        R"(|(?:[\w%-]{2,63}\.)+(?:com|net|int|edu|gov|org|info|mil))"
        R"(|https?://(?:\d{1,3}(?:\.\d{1,3}){3}|\[(?:[\da-f]{0,4}:){2}(?:[\da-f]{0,4}:?){1,6}\]))"
        R"()(?::\d{1,5})?(?:[/?#]\S*)?$)",
        PCRE2_CASELESS);
    return pattern;
}
const Pattern& mail_address() {
    static const Pattern pattern(R"(^\S+@\w[\w.-]*\.\w+$)", 0);
    return pattern;
}
const Pattern& scheme_prefix() {
    static const Pattern pattern(R"(^[\w.+-]{2,}:/{0,2}$)", 0);
    return pattern;
}

int64_t count(std::string_view text, std::string_view part) {
    int64_t n = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) ++n;
    return n;
}

// Brackets, dots and commas around an address are the sentence's, unless they are one half of a pair in it.
struct Word {
    std::string head, middle, tail;

    explicit Word(std::string_view word) {
        std::string_view rest = word;
        while (rest.starts_with('(') || rest.starts_with('<') || rest.starts_with("&lt;"))
            rest.remove_prefix(rest[0] == '&' ? 4 : 1);
        head = word.substr(0, word.size() - rest.size());
        std::string_view kept = rest;
        while (!kept.empty()) {
            if (kept.ends_with("&gt;")) {
                kept.remove_suffix(4);
            } else if (std::string_view(")>.,\n").find(kept.back()) != std::string_view::npos) {
                kept.remove_suffix(1);
            } else {
                break;
            }
        }
        middle = kept;
        tail = rest.substr(kept.size());
        for (const auto& [open, close] :
             {std::pair{"(", ")"}, std::pair{"<", ">"}, std::pair{"&lt;", "&gt;"}})
            balance(open, close);
    }

 private:
    void balance(std::string_view open, std::string_view close) {
        const int64_t n_open = count(middle, open);
        if (n_open <= count(middle, close)) return;
        for (int64_t i = std::min(n_open, count(tail, close)); i > 0; --i) {
            const size_t end = tail.find(close) + close.size();
            middle += tail.substr(0, end);
            tail.erase(0, end);
        }
    }
};

class Linker {
 public:
    Linker(Heap& heap, const Value& limit, std::string attributes, std::vector<std::string> schemes)
        : heap_(heap), attributes_(std::move(attributes)), schemes_(std::move(schemes)) {
        if (!limit.is(Kind::missing) && !limit.is(Kind::none)) limit_ = expect_integer(limit);
    }

    std::string link(std::string_view text) const {
        Word word(text);
        std::string& m = word.middle;
        heap_.touch(8 * text.size() + 64);
        heap_.room_for(3 * text.size() + attributes_.size() + 64);
        if (web_address().matches(heap_, m)) {
            const bool has_scheme = m.starts_with("https://") || m.starts_with("http://");
            m = anchor((has_scheme ? "" : "https://") + m, attributes_, shortened(m));
        } else if (m.starts_with("mailto:") && mail_address().matches(heap_, std::string_view(m).substr(7))) {
            m = anchor(m, "", m.substr(7));
        } else if (m.find('@') != std::string::npos && !m.starts_with("www.") &&
                   m.find(':') == std::string::npos && mail_address().matches(heap_, m)) {
            m = anchor("mailto:" + m, "", m);
        } else {
            for (const std::string& scheme : schemes_) {
                heap_.room_for(3 * m.size() + attributes_.size() + 64);
                heap_.touch(4 * m.size());
                if (m != scheme && m.starts_with(scheme)) m = anchor(m, attributes_, m);
            }
        }
        return word.head + m + word.tail;
    }

 private:
    static std::string anchor(const std::string& target, const std::string& attributes,
                              const std::string& shown) {
        return "<a href=\"" + target + "\"" + attributes + ">" + shown + "</a>";
    }
    std::string shortened(const std::string& address) const {
        const auto n = static_cast<int64_t>(count_chars(address));
        if (!limit_ || n <= *limit_) return address;
        const int64_t kept = *limit_ >= 0 ? *limit_ : std::max<int64_t>(0, n + *limit_);
        return address.substr(0, char_offset(address, static_cast<size_t>(kept))) + "...";
    }

    Heap& heap_;
    std::string attributes_;
    std::vector<std::string> schemes_;
    std::optional<int64_t> limit_;
};

std::string escaped(Heap& heap, const Value& v) {
    std::string text = to_text(heap, v);
    return v.is(Kind::string) && v.as<String>().markup ? text : escape_html(heap, text);
}

bool given(const Value& v) {
    return !v.is(Kind::missing) && !v.is(Kind::none);
}

// rel and target of the links.
std::string attributes_of(Heap& heap, const Value& nofollow, const Value& target, const Value& rel) {
    std::set<std::string> words = {"noopener"};
    if (given(rel) && truth(heap, rel)) {
        std::string word;
        const std::string text = std::string(expect_text(rel, "rel")) + " ";
        for (size_t at = 0; at < text.size();) {
            const size_t begin = at;
            const bool blank = is_space(next_char(text, at));
            if (!blank) word.append(text, begin, at - begin);
            if (blank && !word.empty()) words.insert(std::exchange(word, {}));
        }
    }
    if (!nofollow.is(Kind::missing) && truth(heap, nofollow)) words.insert("nofollow");
    std::string all;
    for (const std::string& w : words) all += (all.empty() ? "" : " ") + w;
    all = " rel=\"" + escape_html(heap, all) + "\"";
    if (given(target) && truth(heap, target)) all += " target=\"" + escaped(heap, target) + "\"";
    return all;
}

}  // namespace

Value urlize(Interpreter& in, const Value& self, CallArguments& args) {
    Heap& heap = in.heap();
    const auto& [limit, nofollow, target, rel, extra] = std::tie(
        args.positional[0], args.positional[1], args.positional[2], args.positional[3], args.positional[4]);
    std::vector<std::string> schemes;
    if (given(extra)) {
        for (const Value& scheme : iterate(heap, extra)) {
            const std::string text(expect_text(scheme, "extra_schemes"));
            if (!scheme_prefix().matches(heap, text)) {
                raise("FilterArgumentError",
                      fmt::format("{} is not a valid URI scheme prefix.", text_repr(text)));
            }
            schemes.push_back(text);
        }
    }
    const Linker linker(heap, limit, attributes_of(heap, nofollow, target, rel), std::move(schemes));
    const std::string text = escaped(heap, self);
    StringBuilder out(heap);
    for (size_t at = 0, word = 0; at <= text.size();) {
        const size_t begin = at;
        const bool end = at == text.size();
        if (!end && !is_space(next_char(text, at))) continue;
        if (word < begin) out.append(linker.link(std::string_view(text).substr(word, begin - word)));
        if (end) break;
        out.append(std::string_view(text).substr(begin, at - begin));
        word = at;
    }
    return make_string(heap, out.take());
}

}  // namespace smelt::jinja
