// The filter urlize: addresses and mail in a text become links, by Jinja2's own two patterns. No other HTML.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <memory>
#include <set>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

using In = Interpreter;
using Args = CallArguments;

// As jinja2.utils has them. Python, ignoring case, takes two letters for i that PCRE2 does not.
constexpr std::string_view http_pattern = R"(^
    (
        (https?://|www\.)
        (([\w%-]+\.)+)?
        ( [a-zİı]{2,63} | xn--[\w%]{2,59} )
    |
        ([\w%-]{2,63}\.)+
        (com|net|[iİı]nt|edu|gov|org|[iİı]nfo|m[iİı]l)
    |
        (https?://)
        (
            (([\d]{1,3})(\.[\d]{1,3}){3})
        |
            (\[([\da-f]{0,4}:){2}([\da-f]{0,4}:?){1,6}])
        )
    )
    (?::[\d]{1,5})?
    (?:[/?\#]\S*)?
    $)";
constexpr std::string_view email_pattern = R"(^\S+@\w[\w.-]*\.\w+$)";
constexpr std::string_view scheme_pattern = R"(^([\w.+-]{2,}:(/){0,2})$)";

class LinkPattern {
 public:
    LinkPattern(std::string_view text, uint32_t options) {
        int error = 0;
        PCRE2_SIZE at = 0;
        code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | options, &error, &at,
                                  nullptr));
        if (code_ == nullptr) throw std::bad_alloc();
    }
    bool matches(std::string_view text) const {
        const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
            pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
        if (data == nullptr) throw std::bad_alloc();
        const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                                      PCRE2_NO_UTF_CHECK, data.get(), nullptr);
        // PCRE2's own bounds on steps and memory: no address that somebody could open comes near them.
        if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
            raise("BudgetError",
                  fmt::format("urlize: a word of {} bytes takes too long to look through", text.size()));
        }
        return found >= 0;
    }

 private:
    std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code_{nullptr, pcre2_code_free};
};

bool is_web_address(std::string_view text) {
    static const LinkPattern pattern(http_pattern, PCRE2_CASELESS | PCRE2_EXTENDED);
    return pattern.matches(text);
}
bool is_mail_address(std::string_view text) {
    static const LinkPattern pattern(email_pattern, 0);
    return pattern.matches(text);
}
bool is_scheme(std::string_view text) {
    static const LinkPattern pattern(scheme_pattern, 0);
    return pattern.matches(text);
}

size_t count_of(std::string_view text, std::string_view part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size()))
        ++n;
    return n;
}

// head + middle + tail: brackets and stops around what may be an address.
struct WordParts {
    size_t begin = 0, end = 0;

    explicit WordParts(std::string_view word) : end(word.size()) {
        while (begin < end) {
            if (word[begin] == '(' || word[begin] == '<') {
                ++begin;
            } else if (word.substr(begin).starts_with("&lt;")) {
                begin += 4;
            } else {
                break;
            }
        }
        while (end > begin) {
            if (std::string_view(")>.,").find(word[end - 1]) != std::string_view::npos) {
                --end;
            } else if (word.substr(begin, end - begin).ends_with("&gt;")) {
                end -= 4;
            } else {
                break;
            }
        }
        balance(word);
    }

 private:
    // A bracket that was opened inside takes its other half, and what is before it, back from the tail.
    void balance(std::string_view word) {
        constexpr std::pair<std::string_view, std::string_view> brackets[] = {
            {"(", ")"}, {"<", ">"}, {"&lt;", "&gt;"}};
        for (const auto& [open, close] : brackets) {
            const std::string_view middle = word.substr(begin, end - begin);
            const size_t n_open = count_of(middle, open);
            if (n_open <= count_of(middle, close)) continue;
            for (size_t n = std::min(n_open, count_of(word.substr(end), close)); n > 0; --n)
                end = word.find(close, end) + close.size();
        }
    }
};

struct Links {
    Heap& heap;
    const Value limit;  // none: addresses are shown whole
    std::string attributes;
    std::vector<std::string> schemes;

    std::string shown(std::string_view address) const {
        if (limit.is(Kind::none)) return std::string(address);
        const Value text = make_string(heap, std::string(address));
        if (string_length(heap, text) <= limit.as_integer()) return std::string(address);
        return std::string(text_of(slice(heap, text, Value::none(), limit, Value::none()))) + "...";
    }

    std::string link(std::string_view middle) const {
        if (is_web_address(middle)) {
            const bool whole = middle.starts_with("https://") || middle.starts_with("http://");
            return fmt::format("<a href=\"{}{}\"{}>{}</a>", whole ? "" : "https://", middle, attributes,
                               shown(middle));
        }
        if (middle.starts_with("mailto:") && is_mail_address(middle.substr(7)))
            return fmt::format("<a href=\"{}\">{}</a>", middle, middle.substr(7));
        if (middle.find('@') != std::string_view::npos && !middle.starts_with("www.") &&
            !middle.starts_with('@') && middle.find(':') == std::string_view::npos && is_mail_address(middle))
            return fmt::format("<a href=\"mailto:{}\">{}</a>", middle, middle);
        const auto known = std::ranges::find_if(
            schemes, [&](const std::string& s) { return middle != s && middle.starts_with(s); });
        if (known == schemes.end()) return std::string(middle);
        return fmt::format("<a href=\"{}\"{}>{}</a>", middle, attributes, middle);
    }
};

bool is_given(const Value& v) {
    return !v.is(Kind::missing) && !v.is(Kind::none);
}

// The words of rel, nofollow and what Jinja2 always adds, each once and in order.
std::string rel_of(In& in, const Value& rel, const Value& nofollow) {
    std::set<std::string> parts{"noopener"};
    if (is_given(rel) && truth(in.heap(), rel)) {
        Args none;
        const Value text = make_string(in.heap(), std::string(expect_text(rel, "rel")));
        for (const Value& part : iterate(in.heap(), in.call(*find_method(Kind::string, "split"), text, none)))
            parts.emplace(text_of(part));
    }
    if (!nofollow.is(Kind::missing) && truth(in.heap(), nofollow)) parts.emplace("nofollow");
    return fmt::format("{}", fmt::join(parts, " "));
}

std::vector<std::string> schemes_of(Heap& heap, const Value& given) {
    std::vector<std::string> schemes;
    if (!is_given(given)) return schemes;
    for (const Value& scheme : iterate(heap, given)) {
        const std::string_view text = expect_text(scheme, "a URI scheme prefix");
        heap.touch(text.size() * 16);
        if (!is_scheme(text)) {
            raise("FilterArgumentError",
                  fmt::format("{} is not a valid URI scheme prefix.", text_repr(text)));
        }
        schemes.emplace_back(text);
    }
    return schemes;
}

}  // namespace

Value urlize(Interpreter& in, const Value& self, CallArguments& args) {
    Heap& heap = in.heap();
    const auto& [limit, nofollow, target, rel, extra_schemes] = std::tie(
        args.positional[0], args.positional[1], args.positional[2], args.positional[3], args.positional[4]);
    Links links{heap, is_given(limit) ? Value::integer(expect_integer(limit)) : Value::none(),
                fmt::format(" rel=\"{}\"", escape_html(heap, rel_of(in, rel, nofollow))),
                schemes_of(heap, extra_schemes)};
    if (is_given(target) && truth(heap, target))
        links.attributes += fmt::format(" target=\"{}\"", escape_html(heap, to_text(heap, target)));

    const bool markup = self.is(Kind::string) && self.as<String>().markup;
    const std::string text = markup ? std::string(text_of(self)) : escape_html(heap, to_text(heap, self));
    heap.room_for(text.size() * 2);
    heap.touch(text.size() * (64 + links.schemes.size()));
    StringBuilder out(heap);
    for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        size_t end = at;
        while (at < text.size() && !is_space(next_char(text, at))) end = at;
        const std::string_view word = std::string_view(text).substr(begin, end - begin);
        const WordParts parts(word);
        out.append(word.substr(0, parts.begin));
        out.append(links.link(word.substr(parts.begin, parts.end - parts.begin)));
        out.append(word.substr(parts.end));
        out.append(std::string_view(text).substr(end, at - end));
    }
    return make_string(heap, out.take());
}

}  // namespace smelt::jinja
