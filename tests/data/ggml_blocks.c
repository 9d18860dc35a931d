// Made ggml_blocks.bin: 256 weights in each number format, as smelt wrote them and as ggml (0.18) decodes them.
//   smelt quantize models/demo-5m all.gguf --recipe RECIPE   (a tensor in each format)
//   cc ggml_blocks.c -I ggml/include -lggml-base && ./a.out all.gguf > ggml_blocks.bin
// A record: name (8 bytes), number of bytes (int32), the bytes, 256 floats.
#include <stdio.h>
#include <string.h>

#include "ggml.h"
#include "gguf.h"

int main(int argc, char** argv) {
    struct ggml_context* tensors = NULL;
    struct gguf_init_params params = {false, &tensors};
    if (argc < 2 || !gguf_init_from_file(argv[1], params)) return 1;
    for (struct ggml_tensor* t = ggml_get_first_tensor(tensors); t; t = ggml_get_next_tensor(tensors, t)) {
        if (!ggml_is_quantized(t->type)) continue;
        char name[8] = {0};
        strncpy(name, ggml_type_name(t->type), 8);
        const int n = (int)ggml_row_size(t->type, 256);
        float values[256];
        ggml_get_type_traits(t->type)->to_float(t->data, values, 256);
        fwrite(name, 1, 8, stdout);
        fwrite(&n, 4, 1, stdout);
        fwrite(t->data, 1, (size_t)n, stdout);
        fwrite(values, 4, 256, stdout);
    }
    return 0;
}
