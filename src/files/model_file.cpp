// Look-ups in an opened model, and the choice of its reader.
#include "files/model_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "files/families.h"
#include "files/gguf/gguf_types.h"
#include "files/known_keys.h"
#include "files/onnx/onnx.h"
#include "files/onnx/onnx_graph.h"
#include "files/qwen3c/qwen3c.h"
#include "files/readers.h"

namespace smelt {

int64_t TensorView::n_elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
}

RowView TensorView::row(int64_t r) const {
    const int64_t n = row_len();
    CHECK(r >= 0 && r < n_rows(), "{}: row {} of {}", name, r, n_rows());
    return {format, data.data() + data_bytes(format, n) * static_cast<size_t>(r),
            scales.empty() ? nullptr : scales.data() + scale_bytes(format, n) * static_cast<size_t>(r), n};
}

std::vector<float> TensorView::decoded() const {
    std::vector<float> values(static_cast<size_t>(n_elements()));
    for (int64_t r = 0; r < n_rows(); ++r) {
        decode_row(row(r), std::span(values).subspan(static_cast<size_t>(r * row_len()),
                                                     static_cast<size_t>(row_len())));
    }
    return values;
}

const TensorView* ModelFile::find(std::string_view name) const {
    const auto it = std::ranges::find(tensors, name, &TensorView::name);
    return it == tensors.end() ? nullptr : &*it;
}

const TensorView& ModelFile::require(std::string_view name) const {
    if (const TensorView* t = find(name)) return *t;
    const auto it = std::ranges::find(unsupported, name, &UnsupportedTensor::name);
    if (it != unsupported.end()) {
        throw Error("{}: tensor {}: number format {} is not supported by this build", it->source, name,
                    it->type);
    }
    throw Error("{}: tensor {} is missing", path.string(), name);
}

std::string shape_text(std::span<const int64_t> shape) {
    return fmt::format("({})", fmt::join(shape, ", "));
}

size_t ModelFile::n_bytes() const {
    size_t n = 0;
    for (const TensorView& t : tensors) n += t.n_bytes();
    for (const UnsupportedTensor& t : unsupported) n += t.n_bytes;
    return n;
}

uint64_t ModelFile::n_weights() const {
    uint64_t n = 0;
    for (const TensorView& t : tensors) n += static_cast<uint64_t>(t.n_elements());
    return n;
}

// A file that another process shortens while it is mapped gives SIGBUS on access; only copying it all could
// prevent that.
std::shared_ptr<const ModelFile> open_model(const std::filesystem::path& path, Weights weights) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) throw Error("{}: no such file or folder", path.string());
    const auto finished = [](std::shared_ptr<ModelFile> model) {
        if (const Family* family = family_of(model->metadata)) {
            refuse_unknown_tensors(*family, *model);
            if (model->vision != nullptr) refuse_unknown_tensors(*family->tower, *model->vision);
        }
        return model;
    };
    if (std::filesystem::is_directory(status)) {
        if (is_onnx_folder(path)) return finished(std::make_shared<ModelFile>(open_onnx(path, weights)));
        return finished(std::make_shared<ModelFile>(read_hugging_face(path, weights)));
    }
    auto model = std::make_shared<ModelFile>();
    model->path = path;
    const auto file = std::make_shared<const MappedFile>(path);
    model->mappings.push_back(file);
    uint32_t magic = 0;
    if (file->bytes().size() >= sizeof(magic)) std::memcpy(&magic, file->bytes().data(), sizeof(magic));
    if (magic == gguf_magic) {
        read_gguf(file->bytes(), path.string(), *model);
        apply_nvfp4_scales(*model, weights);
    } else if (magic == qwen3c_magic) {
        read_qwen3c(file->bytes(), path.string(), *model);
        read_qwen3c_neighbours(*model);
    } else if (is_onnx(file->bytes())) {
        return finished(std::make_shared<ModelFile>(open_onnx(path, weights)));
    } else if (path.extension() == ".safetensors" || is_torch_bin(file->bytes())) {
        throw Error("{}: open the folder that it is in: config.json says what these weights mean",
                    path.string());
    } else {
        throw Error(
            "{}: expected a Hugging Face folder, a GGUF file, an ONNX model or a qwen3.c .bin; the file "
            "starts with "
            "{:08x}",
            path.string(), magic);
    }
    return finished(std::move(model));
}

}  // namespace smelt
