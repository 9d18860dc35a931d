// Lines that begin with "data: ", of /v1/completions and /v1/chat/completions.
#include "apps/streamed_answer.h"

#include <chrono>

#include "base/error.h"

namespace smelt {

namespace {

std::string text_of(const Json& choice) {
    if (choice.contains("text")) return choice.value("text", "");
    const auto delta = choice.find("delta");
    if (delta == choice.end() || !delta->is_object()) return "";
    for (const char* key : {"content", "reasoning_content", "reasoning"}) {
        const auto text = delta->find(key);
        if (text != delta->end() && text->is_string() && !text->get_ref<const std::string&>().empty())
            return *text;
    }
    return "";
}

}  // namespace

StreamedAnswer stream_answer(const ServerAddress& address, const std::string& path, const Json& body,
                             const std::string& key) {
    using Clock = std::chrono::steady_clock;
    Connection connection(address);
    const std::string request = request_text(address, "POST", path, to_string(body), key);
    const auto start = Clock::now();
    const auto now = [start] {
        return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    };
    connection.send(request);
    std::string line;
    if (!connection.read_line(line) || line.find(" 200") == std::string::npos) {
        throw Error("the server answered {}: {}", line, connection.read_rest());
    }
    StreamedAnswer a;
    while (connection.read_line(line) && line != "data: [DONE]") {
        if (!line.starts_with("data: ")) continue;
        const double at = now();
        const Json event = parse_json(line.substr(6), "an event of the server");
        if (!event.is_object()) throw Error("the server sent an event that is no object: {}", line);
        if (event.contains("error")) throw Error("the server ended an answer: {}", to_string(event["error"]));
        if (a.first_event == 0) a.first_event = at;
        if (const auto usage = event.find("usage"); usage != event.end() && usage->is_object()) {
            a.n_tokens = usage->value("completion_tokens", 0);
            a.n_prompt = usage->value("prompt_tokens", 0);
        }
        if (const auto t = event.find("timings"); t != event.end() && t->is_object()) {
            a.engine_ttft = t->value("queued_ms", 0.0) + t->value("prompt_ms", 0.0);
            a.engine_decode = t->value("predicted_ms", -1.0);
        }
        const auto choices = event.find("choices");
        if (choices == event.end() || !choices->is_array() || choices->empty()) continue;
        const std::string text = text_of(choices->front());
        if (text.empty()) continue;
        if (a.ttft == 0) {
            a.ttft = at;
        } else {
            a.itl.push_back(at - a.whole);
        }
        a.whole = at;
        a.text += text;
    }
    a.end = now();
    return a;
}

std::string first_model(const ServerAddress& address, const std::string& key) {
    const ServerAnswer answer = ask_server(address, "GET", "/v1/models", "", key);
    if (answer.status != 200) {
        throw Error("{}:{}/v1/models: status {}: {}", address.host, address.port, answer.status, answer.body);
    }
    const Json list = parse_json(answer.body, "/v1/models");
    const auto data = list.is_object() ? list.find("data") : list.end();
    if (data == list.end() || !data->is_array() || data->empty() || !data->front().contains("id"))
        throw Error("{}:{}/v1/models: expected a list of models, found {}", address.host, address.port,
                    answer.body);
    return data->front().at("id");
}

}  // namespace smelt
