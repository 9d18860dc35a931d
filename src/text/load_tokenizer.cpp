// From a model or a path to its tokenizer: picks the reader that the container needs.
#include "base/error.h"
#include "files/model_file.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

Vocabulary read_tokens(const ModelFile& model) {
    if (model.tokenizer != nullptr) {
        return read_vocabulary_json(model.tokenizer->text(), model.tokenizer->path().string());
    }
    const auto vocab = model.path / "vocab.json", merges = model.path / "merges.txt";
    if (!std::filesystem::is_regular_file(vocab) || !std::filesystem::is_regular_file(merges)) {
        throw Error("{}: the folder has no tokenizer.json", model.path.string());
    }
    return read_vocabulary_and_merges(MappedFile(vocab).text(), MappedFile(merges).text(), vocab.string());
}

Vocabulary read_hugging_face(const ModelFile& model) {
    Vocabulary v = read_tokens(model);
    if (model.tokenizer_config != nullptr) {
        read_tokenizer_config(v, model.tokenizer_config->text(), model.tokenizer_config->path().string());
    }
    return v;
}

Vocabulary read_qwen3c(const ModelFile& model) {
    const TensorView* embedding = model.find("token_embd.weight");
    if (model.tokenizer == nullptr || embedding == nullptr) {
        throw Error("{}: the model has no .tokenizer file beside it", model.path.string());
    }
    return read_vocabulary_qwen3c(model.tokenizer->bytes(), embedding->n_rows(),
                                  model.tokenizer->path().string());
}

}  // namespace

Tokenizer load_tokenizer(const ModelFile& model) {
    switch (model.container) {
        case Container::hugging_face:
        case Container::onnx:
            return Tokenizer(read_hugging_face(model));
        case Container::gguf:
            return Tokenizer(read_vocabulary_gguf(model.metadata, model.path.string()));
        case Container::qwen3c:
            return Tokenizer(read_qwen3c(model));
    }
    CHECK(false, "container {}", static_cast<int>(model.container));
}

Tokenizer load_tokenizer(const std::filesystem::path& path) {
    if (path.extension() == ".json") {
        const MappedFile file(path);
        Vocabulary v = read_vocabulary_json(file.text(), path.string());
        const auto config = path.parent_path() / "tokenizer_config.json";
        if (std::filesystem::is_regular_file(config)) {
            read_tokenizer_config(v, MappedFile(config).text(), config.string());
        }
        return Tokenizer(std::move(v));
    }
    return load_tokenizer(*open_model(path));
}

bool has_vocabulary(const ModelFile& model) {
    return model.tokenizer != nullptr || std::filesystem::exists(model.path / "merges.txt") ||
           model.metadata.find("tokenizer.ggml.model") != nullptr;
}

Metadata gguf_vocabulary(const ModelFile& model) {
    Metadata vocabulary;
    if (model.container != Container::gguf && has_vocabulary(model)) {
        write_vocabulary_gguf(load_tokenizer(model).vocabulary(), vocabulary);
    }
    return vocabulary;
}

}  // namespace smelt
