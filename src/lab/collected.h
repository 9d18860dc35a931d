// An importance matrix from a text: what each product of a model reads, squared and summed.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "files/gguf/imatrix.h"
#include "files/model_file.h"
#include "lab/windows.h"

namespace smelt {

// Of experts each gets what all of them are offered: which one a token chose is not looked at.
ImportanceMatrix collect_importance(const std::shared_ptr<const ModelFile>& model, Backend& backend,
                                    const TextWindows& windows);

}  // namespace smelt
