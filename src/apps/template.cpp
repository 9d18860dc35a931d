// smelt template: what the chat template makes of a conversation, byte for byte.
#include <fmt/format.h>

#include <cstdio>
#include <ctime>

#include "apps/hub_model.h"
#include "apps/stdin_text.h"
#include "apps/verbs.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "files/model_file.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace smelt {

namespace {

struct PrintOptions {
    std::string model, template_file, input = "-", now;
};

Json read_input(const std::string& path) {
    Json input =
        path == "-" ? parse_json(read_stdin(), "standard input") : parse_json(MappedFile(path).text(), path);
    if (!input.is_object())
        throw Error("{}: expected an object with \"messages\", found {}", path, input.type_name());
    return input;
}

// bos_token and eos_token as the model writes them, where the input does not say.
void add_special_tokens(const ModelFile& model, Json& variables) {
    const Tokenizer tokenizer = load_tokenizer(model);
    const auto add = [&](const char* name, int32_t id) {
        if (!variables.contains(name)) variables[name] = id < 0 ? "" : std::string(tokenizer.token_bytes(id));
    };
    add("bos_token", tokenizer.bos());
    add("eos_token", tokenizer.eos());
}

RenderOptions render_options(const std::string& now) {
    if (now.empty()) return {};
    std::tm time{};
    const char* end = strptime(now.c_str(), "%Y-%m-%d %H:%M:%S", &time);
    if (!end || *end)
        throw CLI::ValidationError("--now", "expected \"YYYY-MM-DD HH:MM:SS\", got \"" + now + "\"");
    return {time};
}

void print_conversation(const PrintOptions& o) {
    if (o.model.empty() == o.template_file.empty()) {
        throw CLI::ValidationError("template", "give either a model or --template-file");
    }
    const RenderOptions options = render_options(o.now);
    Json variables = read_input(o.input);
    std::string source;
    if (o.model.empty()) {
        source = MappedFile(o.template_file).text();
    } else {
        const auto model = open_model(local_model(o.model));
        const std::string* text = model->metadata.get_string("tokenizer.chat_template");
        if (!text) throw Error("{}: the model has no chat template", o.model);
        source = *text;
        add_special_tokens(*model, variables);
    }
    const std::string prompt = ChatTemplate(source).render(variables, options);
    std::fwrite(prompt.data(), 1, prompt.size(), stdout);
}

}  // namespace

Verb add_template(CLI::App& smelt) {
    auto o = std::make_shared<PrintOptions>();
    CLI::App* verb =
        smelt.add_subcommand("template", "Print the prompt that the chat template makes of a conversation");
    add_model_argument(*verb, o->model);
    verb->add_option("--template-file", o->template_file, "A Jinja file instead of a model's template");
    verb->add_option(
            "--input", o->input,
            "JSON object: messages, and tools, add_generation_prompt, enable_thinking, ...; - is stdin")
        ->capture_default_str();
    verb->add_option("--now", o->now, "The time that strftime_now() shows: \"YYYY-MM-DD HH:MM:SS\"");
    verb->footer(
        "Examples:\n"
        "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"add_generation_prompt\": "
        "true}' |\n"
        "    smelt template models/demo-5m\n"
        "  smelt template --template-file chat.jinja --input case.json");
    return {verb, [o] { print_conversation(*o); }};
}

}  // namespace smelt
