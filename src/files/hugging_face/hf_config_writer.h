// Metadata -> config.json and generation_config.json, the way back of read_hf_config().
#pragma once

#include "base/json.h"
#include "files/families.h"
#include "files/model_file.h"

namespace smelt {

// Throws Error naming what config.json cannot say.
Json make_hf_config(const ModelFile& model, const Family& family, Format main_format);
// An empty object where the model recommends nothing.
Json make_generation_config(const Metadata& metadata);

}  // namespace smelt
