// Models of exact published shapes with random weights, made in memory: `bench --shape` measures with them
// what a download would.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "files/model_file.h"

namespace smelt {

struct Shape {
    std::string name;          // "qwen3-4b"
    std::string architecture;  // "qwen3"
    std::string config;        // as JSON
    int64_t n_layers;
};

// Of every family, what was published.
std::vector<Shape> list_shapes();

// Throws Error that lists the names.
Shape find_shape(const std::string& name);

// The same model with fewer layers.
Shape with_layers(Shape shape, int64_t n_layers);

int64_t n_parameters(const Shape& shape);

// Matrices in `format` (in MXFP4 a mixture's experts alone, its other matrices in BF16, as published), norms
// and biases in F32; weights about N(0, 0.02), norms 1. The same bytes every time.
std::shared_ptr<const ModelFile> make_random_model(const Shape& shape, Format format);

}  // namespace smelt
