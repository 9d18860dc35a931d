// Ids of calls are written anew: templates of Mistral take nine letters and digits and no others.
#include "chat/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace smelt {

namespace {

const char* role_name(Role role) {
    switch (role) {
        case Role::system:
            return "system";
        case Role::user:
            return "user";
        case Role::assistant:
            return "assistant";
        case Role::tool:
            return "tool";
    }
    return "";
}

std::string call_id(size_t call) {
    return fmt::format("call{:05}", call % 100'000);
}

template <class T>
const T* only_part(const Message& m) {
    return m.parts.size() == 1 ? std::get_if<T>(&m.parts.front()) : nullptr;
}

// As templates of models that take pictures read them.
Json template_parts(const Message& m) {
    Json parts = Json::array();
    for (const Part& part : m.parts) {
        if (const auto* text = std::get_if<TextPart>(&part)) {
            parts.push_back({{"type", "text"}, {"text", text->text}});
        } else if (std::holds_alternative<ImagePart>(part)) {
            parts.push_back({{"type", "image"}});
        }
    }
    return parts;
}

Json template_message(const Message& m) {
    Json clean = {{"role", role_name(m.role)}};
    if (!m.name.empty()) clean["name"] = m.name;
    if (const auto* result = only_part<ResultPart>(m)) {
        clean["content"] = result->text;
        clean["tool_call_id"] = call_id(result->call);
        return clean;
    }
    clean["content"] = m.has_pictures() ? template_parts(m) : Json(m.text());
    if (const std::string reasoning = m.reasoning(); !reasoning.empty())
        clean["reasoning_content"] = reasoning;
    for (const Part& part : m.parts) {
        const auto* call = std::get_if<CallPart>(&part);
        if (call == nullptr) continue;
        clean["tool_calls"].push_back({{"id", call_id(call->call)},
                                       {"type", "function"},
                                       {"function", {{"name", call->name}, {"arguments", call->arguments}}}});
    }
    return clean;
}

}  // namespace

std::string Message::text(std::string_view between) const {
    std::string all;
    bool first = true;
    for (const Part& part : parts) {
        const auto* text = std::get_if<TextPart>(&part);
        const auto* refusal = std::get_if<RefusalPart>(&part);
        if (text == nullptr && refusal == nullptr) continue;
        if (!std::exchange(first, false)) all += between;
        all += text != nullptr ? text->text : refusal->text;
    }
    return all;
}

std::string Message::reasoning() const {
    std::string all;
    for (const Part& part : parts) {
        const auto* r = std::get_if<ReasoningPart>(&part);
        if (r == nullptr || r->text.empty()) continue;
        if (!all.empty()) all += '\n';
        all += r->text;
    }
    return all;
}

bool Message::has_calls() const {
    return std::ranges::any_of(parts, [](const Part& p) { return std::holds_alternative<CallPart>(p); });
}

bool Message::has_pictures() const {
    return std::ranges::any_of(parts, [](const Part& p) { return std::holds_alternative<ImagePart>(p); });
}

size_t CallBook::add_call(std::string id, std::string name) {
    calls_.push_back({std::move(id), std::move(name), message_});
    return calls_.size() - 1;
}

std::optional<size_t> CallBook::find_call(const Result& result) {
    const auto is_meant = [&](const Call& c) {
        if (result.id) return c.id == *result.id;
        return !result.name || c.name == *result.name;
    };
    std::optional<size_t> open, answered;
    for (size_t i = 0; i < calls_.size(); ++i) {
        if (!is_meant(calls_[i])) continue;
        std::optional<size_t>& best = calls_[i].open ? open : answered;
        if (!best || calls_[i].message > calls_[*best].message) best = i;
    }
    if (open) calls_[*open].open = false;
    // A second result of a call that has one must name it.
    return open || !result.id ? open : answered;
}

void sort_results(std::vector<Message>& messages) {
    const auto is_result = [](const Message& m) { return only_part<ResultPart>(m) != nullptr; };
    const auto by_call = [](const Message& a, const Message& b) {
        return only_part<ResultPart>(a)->call < only_part<ResultPart>(b)->call;
    };
    for (auto begin = messages.begin(); begin != messages.end();) {
        begin = std::find_if(begin, messages.end(), is_result);
        const auto end = std::find_if_not(begin, messages.end(), is_result);
        std::stable_sort(begin, end, by_call);
        begin = end;
    }
}

bool ToolRules::any_strict() const {
    return std::ranges::any_of(tools, &Tool::strict);
}

const Tool* ToolRules::find(const std::string& wanted) const {
    const auto it = std::ranges::find(tools, wanted, &Tool::name);
    return it == tools.end() ? nullptr : &*it;
}

Json template_messages(const std::vector<Message>& messages) {
    Json result = Json::array();
    for (const Message& m : messages) result.push_back(template_message(m));
    return result;
}

Json call_tools(const std::vector<Tool>& tools) {
    Json result = Json::array();
    for (const Tool& t : tools) result.push_back({{"type", "function"}, {"function", t.function}});
    return result;
}

Json template_tools(const std::vector<Tool>& tools) {
    Json result = call_tools(tools);
    for (Json& tool : result) {
        Json& function = tool["function"];
        function.erase("strict");
        // Templates put them together without asking.
        if (!function.contains("description") || function["description"].is_null())
            function["description"] = "";
        if (!function.contains("parameters") || function["parameters"].is_null()) {
            function["parameters"] = {{"type", "object"}, {"properties", Json::object()}};
        }
    }
    return result;
}

}  // namespace smelt
