// smelt logits: one causal forward pass, the logits of every position as a NumPy file.
#include <fmt/format.h>

#include "apps/device_options.h"
#include "apps/hub_model.h"
#include "apps/kv_option.h"
#include "apps/trace_file.h"
#include "apps/verbs.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "engine/forward.h"

namespace smelt {

namespace {

struct LogitsOptions {
    std::string model, output;
    std::vector<int32_t> ids;
    std::vector<std::string> images;
    int chunk = 0;
    KvFormats kv = {Format::F32, Format::F32};
    DeviceOptions device;
};

// NumPy's format 1.0: magic, header of a multiple of 64 bytes, row-major float32.
void write_npy(const std::string& path, const std::vector<float>& values, size_t rows, size_t cols) {
    std::string header =
        fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, cols);
    constexpr size_t prefix = 10;  // magic, version, header length
    header.append(63 - (prefix + header.size()) % 64, ' ');
    header += '\n';
    AtomicFile file(path);
    file.write(std::string_view("\x93NUMPY\x01\x00", 8));
    const auto length = static_cast<uint16_t>(header.size());
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(header);
    file.write(std::as_bytes(std::span(values)));
    file.commit();
}

std::vector<Picture> pictures_of(const LogitsOptions& o, const Model& model) {
    if (o.images.empty()) return {};
    if (model.vision() == nullptr) throw Error("{}: this model takes no pictures", o.model);
    const VisionConfig& vision = model.vision()->config();
    if (vision.image_token < 0) throw Error("{}: no token <|image_pad|> stands for pictures", o.model);
    std::vector<std::shared_ptr<const Patches>> all;
    for (const std::string& path : o.images) {
        const MappedFile file(path);
        all.push_back(
            std::make_shared<const Patches>(make_patches(decode_image(file.bytes(), path), vision.patches)));
    }
    return find_places(o.ids, vision.image_token, all);
}

void write_logits(const LogitsOptions& o) {
    const auto backend = o.device.open();
    const auto model =
        load_model(with_mmproj(override_rope_scaling(open_model(local_model(o.model)), o.device.rope_scaling),
                               o.device.mmproj),
                   *backend);
    const std::vector<float> logits =
        forward_logits(*model, *backend, o.ids, o.chunk, o.kv, pictures_of(o, *model));
    write_npy(o.output, logits, o.ids.size(), static_cast<size_t>(model->config().vocab_size));
}

}  // namespace

Verb add_logits(CLI::App& smelt) {
    auto o = std::make_shared<LogitsOptions>();
    CLI::App* verb = smelt.add_subcommand("logits", "Write the logits of a forward pass to a NumPy file");
    add_model_argument(*verb, o->model)->required();
    verb->add_option("--ids", o->ids, "Token ids, comma-separated")->required()->delimiter(',');
    verb->add_option("--image", o->images,
                     "A picture (PPM, PNG, JPEG, WebP, GIF) whose placeholder tokens are among the ids; may "
                     "be repeated")
        ->check(CLI::ExistingFile)
        ->type_name("FILE")
        ->allow_extra_args(false);
    verb->add_option("-o,--output", o->output, "File to write: float32 (n ids, vocabulary)")->required();
    verb->add_option("--chunk", o->chunk, "Feed the ids in chunks of this many; 0: all at once")
        ->check(CLI::NonNegativeNumber);
    add_mmproj_option(*verb, o->device);
    add_kv_option(*verb, o->kv);
    add_model_options(*verb, o->device);
    verb->footer(
        "Example:\n  smelt logits models/demo-5m --ids 5,17,3 --output logits.npy\n"
        "  python3 -c \"import numpy; print(numpy.load('logits.npy').argmax(1))\"");
    return {verb, [o] { run_traced(o->device, [&] { write_logits(*o); }); }};
}

}  // namespace smelt
