// All on messages in OpenAI's form, as templates get them.
#include "chat/template_forms.h"

#include <algorithm>

namespace smelt {

namespace {

bool has_role(const Json& m, const char* role) {
    const auto it = m.find("role");
    return it != m.end() && *it == role;
}
bool is_system(const Json& m) {
    return has_role(m, "system");
}
std::string text_of(const Json& m) {
    const auto it = m.find("content");
    return it != m.end() && it->is_string() ? it->get<std::string>() : "";
}

// Systems' texts, taken out of the messages.
std::string take_systems(Json& messages) {
    std::string all;
    Json rest = Json::array();
    for (Json& m : messages) {
        if (!is_system(m)) {
            rest.push_back(std::move(m));
            continue;
        }
        const std::string text = text_of(m);
        if (!text.empty()) all += (all.empty() ? "" : "\n\n") + text;
    }
    messages = std::move(rest);
    return all;
}

void join_systems(Json& messages) {
    const std::string text = take_systems(messages);
    Json joined = Json::array({{{"role", "system"}, {"content", text}}});
    for (Json& m : messages) joined.push_back(std::move(m));
    messages = std::move(joined);
}

void give_systems_to_user(Json& messages) {
    const std::string text = take_systems(messages);
    const auto user = std::ranges::find_if(messages, [](const Json& m) { return has_role(m, "user"); });
    if (user != messages.end()) {
        Json& content = (*user)["content"];
        if (content.is_array()) {
            content.insert(content.begin(), {{"type", "text"}, {"text", text + "\n\n"}});
        } else {
            content = text + "\n\n" + text_of(*user);
        }
        return;
    }
    Json all = Json::array({{{"role", "user"}, {"content", text}}});
    for (Json& m : messages) all.push_back(std::move(m));
    messages = std::move(all);
}

// As Python's json.dumps and Jinja's tojson write it, with which models were trained: a blank after each
// comma and colon.
std::string spaced_json(const Json& v) {
    if (!v.is_structured()) return to_string(v);
    std::string inside;
    for (const auto& [key, item] : v.items()) {
        if (!inside.empty()) inside += ", ";
        if (v.is_object()) inside += to_string(Json(key)) + ": ";
        inside += spaced_json(item);
    }
    return v.is_object() ? "{" + inside + "}" : "[" + inside + "]";
}

void write_arguments(Json& messages) {
    for (Json& m : messages) {
        if (!m.contains("tool_calls")) continue;
        for (Json& call : m["tool_calls"]) {
            if (!call.is_object() || !call.contains("function")) continue;
            Json& arguments = call["function"]["arguments"];
            if (arguments.is_object()) arguments = spaced_json(arguments);
        }
    }
}

// Whether the template reads a member of this name, and not only one that begins so.
bool reads_member(std::string_view source, std::string_view name) {
    const auto is_name = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    };
    for (size_t at = source.find(name); at != std::string_view::npos; at = source.find(name, at + 1)) {
        const char before = at == 0 ? ' ' : source[at - 1];
        const size_t end = at + name.size();
        const bool ends = end == source.size() || !is_name(source[end]);
        if (ends && (before == '.' || before == '\'' || before == '"')) return true;
    }
    return false;
}

}  // namespace

std::vector<TemplateForm> template_forms(const Json& messages) {
    using Systems = TemplateForm::Systems;
    const bool has_calls =
        std::ranges::any_of(messages, [](const Json& m) { return m.contains("tool_calls"); });
    const auto n_systems = std::ranges::count_if(messages, is_system);
    std::vector<Systems> systems = {Systems::as_they_are};
    if (n_systems > 1 || (n_systems == 1 && !is_system(messages.front()))) {
        systems.push_back(Systems::one_in_front);
    }
    if (n_systems > 0) systems.push_back(Systems::of_the_user);
    std::vector<TemplateForm> forms;
    for (const Systems s : systems) {
        forms.push_back({.arguments_as_text = false, .systems = s});
        if (has_calls) forms.push_back({.arguments_as_text = true, .systems = s});
    }
    return forms;
}

Json in_form(Json messages, const TemplateForm& form) {
    using Systems = TemplateForm::Systems;
    if (form.arguments_as_text) write_arguments(messages);
    if (form.systems == Systems::one_in_front) join_systems(messages);
    if (form.systems == Systems::of_the_user) give_systems_to_user(messages);
    return messages;
}

void name_reasoning(Json& messages, std::string_view source) {
    std::vector<const char*> names;
    for (const char* name : {"thinking", "reasoning"}) {
        if (reads_member(source, name)) names.push_back(name);
    }
    if (names.empty()) return;
    for (Json& m : messages) {
        const auto reasoning = m.find("reasoning_content");
        if (reasoning == m.end()) continue;
        const Json text = *reasoning;
        for (const char* name : names) m[name] = text;
    }
}

}  // namespace smelt
