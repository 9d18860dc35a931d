// Looking ahead, and coming back.
#include "engine/drafting.h"

#include <algorithm>

#include "engine/sequence.h"

namespace smelt {

Ahead::Ahead(Sequence& s) : s_(s), n_ids_(s.ids.size()), thinking_(s.thinking) {
    if (s.grammar) place_ = s.grammar->place();
}

Ahead::~Ahead() {
    const SamplingParams& p = s_.request->sampling;
    if (has_penalties(p)) s_.counts.rewind(s_.ids, n_ids_, s_.n_prompt(), p.penalty_last_n);
    s_.ids.resize(n_ids_);
    if (place_) s_.grammar->go_back(*place_);
    if (thinking_) s_.thinking = thinking_;
}

bool Ahead::push(int32_t id) {
    const Request& r = *s_.request;
    if (std::ranges::find(r.stop_ids, id) != r.stop_ids.end()) return false;
    std::optional<ThinkingCount> thinking = s_.thinking;
    if (thinking) thinking->accept(r.thinking, id);
    if (s_.grammar) {
        const int32_t place = s_.grammar->place();
        const bool is_forced = thinking && thinking->forced(r.thinking) >= 0;
        if (!s_.grammar->look_ahead(id) || s_.grammar->must_end() ||
            (!is_forced && s_.grammar->allowed().empty())) {
            s_.grammar->go_back(place);
            return false;
        }
    }
    s_.thinking = thinking;
    s_.ids.push_back(id);
    return true;
}

}  // namespace smelt
