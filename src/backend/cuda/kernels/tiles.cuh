// How weights lie on the card: tiles of 16 rows by 64 (halves), 128 or 256 columns, each as many bytes as its
// blocks in the file; halves have a scale of 16 bytes more. A lane finds its share in 16-byte words: lane 4g
// + j has of each 32 columns those from 4j and from 16 + 4j on, of rows g and g + 8, which is what mma.sync
// wants as its first operand. Rows and columns beyond the end are zeros. pack() makes a tile from blocks of a
// file, load() and fragment() read it; no products here.
#pragma once

#include "backend/cuda/kernels/tiles_256.cuh"
#include "backend/cuda/kernels/tiles_32.cuh"
#include "backend/cuda/kernels/tiles_half.cuh"
