// A ragged batch on the host: tokens of several sequences, some with one (decode), some with many (a chunk of
// a prompt), and what is wanted of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/step_input.h"

namespace smelt {

struct Batch {
    std::vector<int32_t> ids, positions, slots;  // (n_tokens)
    std::vector<int32_t> seq_start = {0};  // (n_seqs + 1) first token of each sequence; the last is n_tokens
    std::vector<int32_t> blocks;           // of all sequences, one after the other, in order of position
    std::vector<int32_t> block_start = {0};  // (n_seqs + 1) first block of each sequence
    // The same for windowed layers, where these have blocks of their own; else empty.
    std::vector<int32_t> window_slots, window_blocks;
    // Of pictures, where there are any: features of tokens, rows of feature_len floats; of each token its
    // row, -1 where it has none; and the positions that it is rotated by, one an axis. Else empty.
    std::vector<float> features;
    int feature_len = 0;
    std::vector<int32_t> feature_rows;
    std::vector<std::array<int32_t, 3>> rope_positions;
    // Adapters of tokens [first, end): the i-th of these.
    struct TokenAdapter {
        int32_t first = 0, end = 0, i = 0, number = 0;
        float scale = 1;
    };
    std::vector<TokenAdapter> adapters;
    int max_kv_len = 0;   // longest sequence, with this step's tokens
    int n_generated = 0;  // leading tokens that are of answers; the others are of prompts

    std::vector<int32_t> logits_rows;  // tokens whose logits are needed, ascending
    std::vector<int32_t> hidden_rows;  // tokens whose final hidden state is wanted, ascending
    bool all_logits = false;           // whole rows of logits come back
    int n_top = 0;                     // so many of the largest logits of each row come back
    std::vector<DrawRow> draws;        // one for each of logits_rows; empty: no token is drawn on the device
    std::vector<LogitEdit> edits;
    std::vector<uint64_t> masks;  // (logits_rows, mask_words) of allowed tokens; empty: every token
    int mask_words = 0;

    int n_tokens() const { return static_cast<int>(ids.size()); }
    int n_seqs() const { return static_cast<int>(seq_start.size()) - 1; }
    std::span<const int32_t> blocks_of(int seq) const { return part(blocks, seq); }
    std::span<const int32_t> window_blocks_of(int seq) const { return part(window_blocks, seq); }
    int max_blocks() const {
        int most = 0;
        for (int s = 0; s < n_seqs(); ++s) most = std::max(most, static_cast<int>(blocks_of(s).size()));
        return most;
    }

    int n_adapters() const {
        int most = 0;
        for (const TokenAdapter& a : adapters) most = std::max(most, a.i + 1);
        return most;
    }

    // Keeps the memory.
    void clear() {
        for (auto* v :
             {&ids, &positions, &slots, &blocks, &window_slots, &window_blocks, &logits_rows, &hidden_rows}) {
            v->clear();
        }
        seq_start.assign(1, 0);
        block_start.assign(1, 0);
        draws.clear();
        edits.clear();
        masks.clear();
        features.clear();
        feature_rows.clear();
        rope_positions.clear();
        adapters.clear();
        feature_len = 0;
        max_kv_len = n_generated = n_top = mask_words = 0;
        all_logits = false;
    }

    // The features of a token of the batch, in place of its embedding.
    void set_features(int token, std::span<const float> row) {
        feature_len = static_cast<int>(row.size());
        feature_rows.resize(ids.size(), -1);
        feature_rows[static_cast<size_t>(token)] = static_cast<int32_t>(features.size() / row.size());
        features.insert(features.end(), row.begin(), row.end());
        ids[static_cast<size_t>(token)] = 0;  // any of the vocabulary
    }
    // By what the token is rotated, where that is not its position.
    void set_rope_position(int token, const std::array<int32_t, 3>& position) {
        for (auto i = static_cast<int32_t>(rope_positions.size()); i < n_tokens(); ++i) {
            const int32_t own = positions[static_cast<size_t>(i)];
            rope_positions.push_back({own, own, own});
        }
        rope_positions[static_cast<size_t>(token)] = position;
    }

    // Tokens of a sequence from position `first` on; `own` are its blocks from position 0 on, `windows` those
    // of windowed layers where they have their own.
    void add_sequence(std::span<const int32_t> tokens, int first, std::span<const int32_t> own, int block_len,
                      std::span<const int32_t> windows = {}) {
        for (size_t i = 0; i < tokens.size(); ++i) {
            const int pos = first + static_cast<int>(i);
            const auto block = static_cast<size_t>(pos / block_len);
            ids.push_back(tokens[i]);
            positions.push_back(pos);
            slots.push_back(own[block] * block_len + pos % block_len);
            if (!windows.empty()) window_slots.push_back(windows[block] * block_len + pos % block_len);
        }
        seq_start.push_back(n_tokens());
        blocks.insert(blocks.end(), own.begin(), own.end());
        block_start.push_back(static_cast<int32_t>(blocks.size()));
        window_blocks.insert(window_blocks.end(), windows.begin(), windows.end());
        max_kv_len = std::max(max_kv_len, first + static_cast<int>(tokens.size()));
    }

 private:
    std::span<const int32_t> part(const std::vector<int32_t>& all, int seq) const {
        const auto s = static_cast<size_t>(seq);
        return std::span(all).subspan(static_cast<size_t>(block_start[s]),
                                      static_cast<size_t>(block_start[s + 1] - block_start[s]));
    }
};

}  // namespace smelt
