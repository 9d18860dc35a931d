// Containers say vocabulary and prompts in different ways; the text room translates, the files room writes.
#include "apps/conversion_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>

#include "apps/disk_size.h"
#include "apps/progress.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/number.h"
#include "base/units.h"
#include "files/adapter.h"
#include "files/writers.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

HuggingFaceTexts hugging_face_texts(const ModelFile& model) {
    if (!has_vocabulary(model)) return {};
    if ((model.container == Container::hugging_face || model.container == Container::onnx) &&
        model.tokenizer != nullptr) {
        const bool has_config = model.tokenizer_config != nullptr;
        return {std::string(model.tokenizer->text()),
                has_config ? std::string(model.tokenizer_config->text()) : std::string()};
    }
    const Tokenizer tokenizer = load_tokenizer(model);
    return {write_vocabulary_json(tokenizer.vocabulary()),
            write_tokenizer_config(tokenizer.vocabulary()).dump(2) + "\n"};
}

// As qwen3.c's export renders them: "%s" stands for the texts.
Qwen3cPrompts render_prompts(const std::string& source) {
    const ChatTemplate chat(source);
    const Json user = {{"role", "user"}, {"content", "%s"}}, system = {{"role", "system"}, {"content", "%s"}};
    const auto render = [&](bool with_system, bool thinking) {
        return chat.render({{"messages", with_system ? Json::array({system, user}) : Json::array({user})},
                            {"add_generation_prompt", true},
                            {"enable_thinking", thinking}});
    };
    return {render(false, false), render(false, true), render(true, false), render(true, true)};
}

Qwen3cTexts qwen3c_texts(const ModelFile& model) {
    Qwen3cTexts texts;
    if (model.container == Container::qwen3c && model.tokenizer != nullptr) {
        texts.tokenizer = model.tokenizer->text();
    } else if (has_vocabulary(model)) {
        const Tokenizer tokenizer = load_tokenizer(model);
        const auto* ids = model.metadata.get_ints("generation.eos_token_ids");
        const auto eos =
            ids != nullptr && !ids->empty() ? static_cast<int32_t>(ids->front()) : tokenizer.eos();
        const auto bos = model.metadata.get_int("generation.bos_token_id").value_or(tokenizer.bos());
        texts.tokenizer =
            write_vocabulary_qwen3c(tokenizer.vocabulary(), bos < 0 ? eos : static_cast<int32_t>(bos), eos);
    }
    if (const std::string* chat = model.metadata.get_string("tokenizer.chat_template")) {
        texts.prompts = render_prompts(*chat);
    }
    return texts;
}

// PATH:SCALE; a path that exists is whole.
std::shared_ptr<const ModelFile> with_adapters(std::shared_ptr<const ModelFile> model,
                                               const std::vector<std::string>& adapters) {
    for (const std::string& text : adapters) {
        std::string path = text;
        double scale = 1;
        if (const size_t colon = text.rfind(':'); colon != std::string::npos && !fs::exists(text)) {
            const auto number = parse_real(std::string_view(text).substr(colon + 1));
            if (!number || !std::isfinite(*number))
                throw Error("--lora: expected PATH or PATH:SCALE, found {}", text);
            scale = *number;
            path.resize(colon);
        }
        model = std::make_shared<const ModelFile>(merged(*model, read_adapter(path, *model), scale));
    }
    return model;
}

void write_tower(const ModelFile& model, const ConversionJob& job) {
    if (target_container(job.out) != Container::gguf)
        throw Error("--mmproj: expected a model that goes into GGUF, found {}", job.out);
    if (!job.force && fs::exists(job.mmproj))
        throw Error("{}: exists already; --force writes over it", job.mmproj);
    write_mmproj(model, job.mmproj);
}

}  // namespace

Container target_container(const std::string& out) {
    const std::string extension = fs::path(out).extension().string();
    if (extension == ".gguf") return Container::gguf;
    if (extension == ".bin") return Container::qwen3c;
    if (extension == ".onnx") return Container::onnx;
    if (extension == ".safetensors" || extension == ".json") {
        throw Error("{}: expected NAME.gguf, NAME.bin, NAME.onnx or the name of a folder to write", out);
    }
    return Container::hugging_face;
}

void check_target(const ConversionJob& job) {
    const bool folder = target_container(job.out) == Container::hugging_face;
    if (!job.force && !folder && fs::exists(job.out)) {
        throw Error("{}: exists already; --force writes over it", job.out);
    }
    if (job.force || target_container(job.out) != Container::onnx) return;
    for (const fs::path& file : onnx_neighbours(job.out)) {
        if (fs::exists(file)) throw Error("{}: exists already; --force writes over it", file.string());
    }
}

uint64_t write_model(const ModelFile& model, const ConversionJob& job) {
    const Container target = target_container(job.out);
    check_target(job);
    if (!has_vocabulary(model)) spdlog::warn("{} has no vocabulary; {} will have none", job.in, job.out);
    WriteOptions options;
    options.format = job.format;
    options.formats = job.formats;
    options.importance = job.importance.get();
    options.packed = job.packed;
    options.n_threads = job.n_threads > 0
                            ? job.n_threads
                            : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    ProgressBar bar(fs::path(job.out).filename().string());
    options.progress = [&](uint64_t done, uint64_t total) { bar.show(done, total); };
    switch (target) {
        case Container::gguf:
            write_gguf(model, job.out, gguf_vocabulary(model), options);
            break;
        case Container::hugging_face:
            write_hugging_face(model, job.out, hugging_face_texts(model), options);
            break;
        case Container::qwen3c:
            write_qwen3c(model, job.out, qwen3c_texts(model), options);
            break;
        case Container::onnx:
            write_onnx(model, job.out, hugging_face_texts(model), options);
            return size_on_disk(job.out) + size_on_disk(onnx_neighbours(job.out).front().string());
    }
    return size_on_disk(job.out);
}

uint64_t gguf_size(const ModelFile& model, const ConversionJob& job) {
    return gguf_bytes(model, gguf_vocabulary(model), {.format = job.format, .formats = job.formats});
}

void run_conversion(const ConversionJob& job) {
    const auto started = std::chrono::steady_clock::now();
    check_target(job);
    const auto model = with_adapters(open_model(job.in), job.lora);
    if (!job.mmproj.empty()) write_tower(*model, job);
    const uint64_t n_bytes = write_model(*model, job);
    if (model->vision != nullptr && job.mmproj.empty())
        spdlog::warn("{}: the vision tower is left out; --mmproj FILE writes it", job.in);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    const std::string container = open_model(job.out)->container_version;
    if (job.json) {
        fmt::print(
            "{}\n",
            to_string(Json{
                {"output", job.out}, {"container", container}, {"bytes", n_bytes}, {"seconds", seconds}}));
    } else {
        fmt::print("{}: {}, {} in {:.1f} s\n", job.out, container, bytes_text(n_bytes), seconds);
    }
}

}  // namespace smelt
