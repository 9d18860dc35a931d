// A request meets the model: its sampling, its template, its vocabulary.
#include "chat/chat_request.h"

#include <algorithm>

#include "chat/picture_prompt.h"

namespace smelt {

Prompt make_plain_prompt(const ChatModel& model, const PlainPrompt& plain, const std::string& param) {
    Prompt p;
    const Tokenizer& tokenizer = model.tokenizer();
    if (const auto* text = std::get_if<std::string>(&plain)) {
        p.text = *text;
        p.ids = tokenizer.encode(p.text, {.add_special = true});
    } else {
        p.ids = std::get<std::vector<int32_t>>(plain);
        for (size_t i = 0; i < p.ids.size(); ++i) {
            if (p.ids[i] >= 0 && p.ids[i] < tokenizer.n_tokens()) continue;
            throw Error("{}[{}]: expected token ids below {}, found {}", param, i, tokenizer.n_tokens(),
                        p.ids[i]);
        }
        p.text = tokenizer.decode(p.ids);
    }
    if (p.ids.empty() && tokenizer.bos() >= 0) p.ids.push_back(tokenizer.bos());
    if (p.ids.empty()) throw Error("{}: expected at least one token", param);
    return p;
}

namespace {

std::vector<Message> with_system(const ChatModel& model, std::vector<Message> messages) {
    const auto instructs = [](const Message& m) { return m.role == Role::system; };
    if (!model.default_system().empty() && std::ranges::none_of(messages, instructs)) {
        messages.insert(messages.begin(),
                        {.role = Role::system, .parts = {TextPart{model.default_system()}}});
    }
    return messages;
}

std::string fetch(const ChatModel& model, const ImagePart& image,
                  std::chrono::steady_clock::time_point deadline) {
    try {
        return model.fetch_picture()(image.url, deadline);
    } catch (const Error& e) {
        throw Error("{}: {}", image.name, e.what());
    }
}

std::vector<std::shared_ptr<const Patches>> patches_of(const ChatModel& model,
                                                       const std::vector<Message>& messages) {
    constexpr std::chrono::seconds patience{20};  // for all that is fetched
    const auto deadline = std::chrono::steady_clock::now() + patience;
    PromptPictures pictures(model);
    for (const Message& m : messages) {
        for (const Part& part : m.parts) {
            const auto* image = std::get_if<ImagePart>(&part);
            if (image == nullptr) continue;
            if (image->file == nullptr && !model.fetch_picture())
                throw Error("{}: nothing is fetched from other places", image->name);
            const std::string fetched = image->file == nullptr ? fetch(model, *image, deadline) : "";
            pictures.add(image->file == nullptr ? std::span(fetched) : *image->file, image->name);
        }
    }
    return pictures.take();
}

}  // namespace

bool has_pictures(const ChatRequest& request) {
    return std::ranges::any_of(request.messages, &Message::has_pictures);
}

Prompt make_prompt(const ChatModel& model, const ChatRequest& r) {
    if (r.plain) return make_plain_prompt(model, *r.plain, r.param);
    PromptOptions options{.thinking = r.thinking,
                          .template_kwargs = r.template_kwargs,
                          .add_generation_prompt = r.add_generation_prompt,
                          .continues = r.continues};
    options.pictures = patches_of(model, r.messages);
    // A model that shall not call is not told of what it could.
    if (r.tools.may_call) options.tools = template_tools(r.tools.tools);
    return model.make_prompt(template_messages(with_system(model, r.messages)), options);
}

GenerateOptions make_options(const ChatModel& model, const ChatRequest& r) {
    constexpr const char* llama_cpp_breakers[] = {"\n", ":", "\"", "*"};
    GenerateOptions o = r.options;
    SamplingParams s = model.default_sampling();
    s.seed = o.sampling.seed;
    s.logit_bias = o.sampling.logit_bias;
    r.sampling.apply(s);
    if (s.dry_multiplier > 0) {
        s.dry_breakers = model.tokens_with(r.dry_breakers.value_or(
            std::vector<std::string>(std::begin(llama_cpp_breakers), std::end(llama_cpp_breakers))));
    }
    o.sampling = std::move(s);
    if (!r.tools.tools.empty()) o.tools = call_tools(r.tools.tools);
    o.single_call = !r.tools.parallel;
    if (!r.prediction.empty()) {
        o.prediction = model.tokenizer().encode(r.prediction);
        // More could never be part of an answer.
        o.prediction.resize(std::min(o.prediction.size(), static_cast<size_t>(model.n_ctx())));
    }
    if (r.plain) o.split_thinking = false;
    return o;
}

}  // namespace smelt
