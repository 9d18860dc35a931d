// Optimal string alignment, three rows at a time.
#include "base/edit_distance.h"

#include <algorithm>
#include <vector>

namespace smelt {

namespace {

// Longer words are nobody's slip, and would cost time.
constexpr size_t max_length = 64;

std::string plain(std::string_view word) {
    std::string text(word);
    for (char& c : text) {
        if (c == '_') c = '-';
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    }
    return text;
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b, size_t at_most) {
    if (a.size() > b.size()) std::swap(a, b);
    if (b.size() - a.size() > at_most || a.size() > max_length) return at_most + 1;
    std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
        }
        before.swap(last);
        last.swap(row);
    }
    return std::min(last[b.size()], at_most + 1);
}

std::string nearest_word(std::string_view word, std::span<const std::string> candidates) {
    const std::string wanted = plain(word);
    // Dashes in front are the same for all flags and say nothing.
    const size_t dashes = std::min(wanted.find_first_not_of('-'), wanted.size());
    const size_t n_letters = wanted.size() - dashes;
    if (n_letters < 2 || wanted.size() > max_length) return "";
    size_t best_distance = n_letters < 4 ? 1 : std::max<size_t>(2, n_letters / 3);
    std::string best;
    for (const std::string& candidate : candidates) {
        const std::string name = plain(candidate);
        const size_t distance = edit_distance(wanted, name, best_distance);
        if (distance < best_distance || (distance == best_distance && best.empty())) {
            best_distance = distance;
            best = candidate;
        }
    }
    if (!best.empty() && best_distance < 2) return best;
    const auto goes_on = std::ranges::find_if(
        candidates, [&](const std::string& c) { return n_letters > 2 && plain(c).starts_with(wanted); });
    return goes_on != candidates.end() ? *goes_on : best;
}

}  // namespace smelt
