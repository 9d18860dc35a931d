// Which keys and tensors of a model file mean nothing for its results. What is neither here nor in a family's
// table may change them, and is refused by name rather than left out.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "files/family.h"

namespace smelt {

struct ModelFile;

// Adds to model.refused what config.json says that the code for the family does not know: keys, and values
// other than those that it needs.
void refuse_unknown_config(const Json& config, const Family& family, const std::string& source,
                           ModelFile& model);
// The same of "<architecture>." keys of a GGUF file.
void refuse_unknown_metadata(const Family& family, ModelFile& model);
// The same of tensors, under the names that readers give them.
void refuse_unknown_tensors(const Family& family, ModelFile& model);

// Throws Error with the first of model.refused, if there is one.
void require_known(const ModelFile& model);

}  // namespace smelt
