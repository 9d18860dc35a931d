// The families' tables against what files say: unknown tensors, what the reference implementation
// takes where a config is silent, windows, RoPE keys, biases; how weights may be cut; how many files name a
// family.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "model/families_support.h"
#include "model/weight_loader.h"

namespace smelt {
namespace {

TEST(Families, UnknownTensorsOfAFolderAreRefused) {
    for (const char* model_type : {"llama", "qwen2", "qwen3"}) {
        for (const char* name :
             {"model.layers.0.self_attn.wonder.weight", "model.layers.1.mlp.gate_proj.bias",
              "model.layers.0.self_attn.o_proj.bias", "wonder", "model.layers.9.mlp.up_proj.weight"}) {
            Folder folder(tiny(model_type));
            folder.add(name, {32});
            const std::string error = load_error(folder.open());
            EXPECT_NE(error.find("tensor "), std::string::npos) << model_type << " " << name << ": " << error;
        }
        Folder folder(tiny(model_type));
        folder.add("model.layers.0.self_attn.rotary_emb.inv_freq", {4});
        folder.add("model.layers.0.mlp.up_proj.bias", {48});
        for (float& v : folder.values("model.layers.0.mlp.up_proj.bias")) v = 0;
        EXPECT_EQ(load_error(folder.open()), "");
        EXPECT_EQ(folder.open()->notes.size(), 1u);
    }
}

TEST(Families, ConfigsThatAreSilentMeanWhatTheReferenceTakes) {
    const auto metadata = [](Json config) {
        config["hidden_size"] = 32;
        config["num_attention_heads"] = 16;
        return read_hf_config(config.dump(), "", "m");
    };
    const Metadata mixtral = metadata({{"model_type", "mixtral"}});
    EXPECT_EQ(mixtral.get_int("llama.attention.head_count_kv"), 8);
    EXPECT_EQ(mixtral.get_int("llama.expert_count"), 8);
    EXPECT_EQ(mixtral.get_int("llama.expert_used_count"), 2);
    EXPECT_EQ(mixtral.get_double("llama.rope.freq_base"), 1e6);
    EXPECT_EQ(mixtral.get_double("llama.attention.layer_norm_rms_epsilon"), 1e-5);
    const Metadata moe = metadata({{"model_type", "qwen3_moe"}});
    EXPECT_EQ(moe.get_bool("qwen3moe.expert_weights_norm"), false);
    EXPECT_EQ(moe.get_int("qwen3moe.expert_count"), 128);
    EXPECT_EQ(moe.get_int("qwen3moe.expert_used_count"), 8);
    EXPECT_EQ(moe.get_int("qwen3moe.attention.head_count_kv"), 4);
    EXPECT_EQ(
        metadata({{"model_type", "qwen3_moe"}, {"num_local_experts", 16}}).get_int("qwen3moe.expert_count"),
        16);
    const Metadata qwen3 = metadata({{"model_type", "qwen3"}});
    EXPECT_EQ(qwen3.get_int("qwen3.attention.key_length"), 128);
    const Metadata oss = metadata({{"model_type", "gpt_oss"}});
    EXPECT_EQ(*oss.get_string("gpt-oss.rope.scaling.type"), "yarn");
    EXPECT_EQ(oss.get_double("gpt-oss.rope.scaling.factor"), 32);
    EXPECT_EQ(oss.get_bool("gpt-oss.rope.scaling.truncate"), false);
    EXPECT_EQ(oss.get_int("gpt-oss.attention.sliding_window"), 128);
    EXPECT_EQ(oss.get_double("gpt-oss.rope.freq_base"), 150000);
    // Said, it counts.
    EXPECT_EQ(metadata({{"model_type", "qwen3_moe"}, {"norm_topk_prob", true}})
                  .get_bool("qwen3moe.expert_weights_norm"),
              true);
    EXPECT_FALSE(metadata({{"model_type", "gpt_oss"}, {"sliding_window", nullptr}})
                     .get_int("gpt-oss.attention.sliding_window"));
}

TEST(Families, NumbersAreReadHoweverTheyAreWritten) {
    const Metadata m = read_hf_config(
        R"({"model_type": "qwen3", "num_hidden_layers": 28.0, "bos_token_id": [7], "eos_token_id": [3, 4.0],
            "rope_theta": 1000000})",
        "", "m");
    EXPECT_EQ(m.get_int("qwen3.block_count"), 28);
    EXPECT_EQ(m.get_int("generation.bos_token_id"), 7);
    EXPECT_EQ(*m.get_ints("generation.eos_token_ids"), (std::vector<int64_t>{3, 4}));
    for (const char* bad : {R"("num_hidden_layers": 28.5)", R"("num_hidden_layers": 1e300)",
                            R"("num_hidden_layers": "28")", R"("bos_token_id": [1, 2])"}) {
        EXPECT_THROW(read_hf_config(fmt::format(R"({{"model_type": "qwen3", {}}})", bad), "", "m"), Error)
            << bad;
    }
}

TEST(Families, WindowsAreWhereTheReferenceHasThem) {
    const auto same = [](const Json& with, const char* model_type) {
        return Folder(tiny(model_type, with)).logits() == Folder(tiny(model_type)).logits();
    };
    for (const char* model_type : {"llama", "qwen2", "qwen3"}) {
        EXPECT_TRUE(same({{"sliding_window", 4}}, model_type)) << model_type;
    }
    for (const char* model_type : {"qwen2", "qwen3"}) {
        EXPECT_TRUE(
            same({{"sliding_window", 4}, {"use_sliding_window", true}}, model_type));  // from layer 28 on
        EXPECT_TRUE(same({{"sliding_window", 4}, {"use_sliding_window", false}, {"max_window_layers", 0}},
                         model_type));
        EXPECT_FALSE(same({{"sliding_window", 4}, {"use_sliding_window", true}, {"max_window_layers", 0}},
                          model_type));
        EXPECT_FALSE(same({{"sliding_window", 4},
                           {"use_sliding_window", true},
                           {"layer_types", {"full_attention", "sliding_attention"}}},
                          model_type));
    }
    EXPECT_TRUE(
        same({{"layer_types", {"sliding_attention", "sliding_attention"}}, {"sliding_window", 4}}, "llama"));
    for (const auto& [model_type, experts] :
         {std::pair<const char*, Json>{"mixtral", {{"num_local_experts", 4}, {"num_experts_per_tok", 2}}},
          {"qwen3_moe", {{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 16}}}}) {
        Json windowed = experts, opted = experts;
        windowed["sliding_window"] = 4;
        opted.update({{"sliding_window", 4}, {"use_sliding_window", true}});
        const auto none = Folder(tiny(model_type, experts)).logits();
        // Mixtral has it where there is a number; Qwen3's mixtures ask for it, then in all layers.
        EXPECT_EQ(Folder(tiny(model_type, windowed)).logits() == none,
                  model_type == std::string("qwen3_moe"));
        EXPECT_NE(Folder(tiny(model_type, opted)).logits(), none);
    }
}

TEST(Families, BiasesAreUsed) {
    // Llama with biases on q, k and v and zeros on the output is Qwen2.
    Folder llama(tiny("llama", {{"attention_bias", true}})), qwen2(tiny("qwen2"));
    for (int il = 0; il < 2; ++il) {
        for (float& v : llama.values(fmt::format("model.layers.{}.self_attn.o_proj.bias", il))) v = 0;
    }
    EXPECT_EQ(llama.logits(), qwen2.logits());
    for (const char* model_type : {"llama", "qwen3"}) {
        Folder folder(tiny(model_type, {{"attention_bias", true}}));
        const auto before = folder.logits();
        for (const char* part : {"q", "k", "v", "o"}) {
            auto& bias = folder.values(fmt::format("model.layers.1.self_attn.{}_proj.bias", part));
            const auto kept = bias;
            for (float& v : bias) v += 0.5f;
            EXPECT_NE(folder.logits(), before) << model_type << " " << part;
            bias = kept;
        }
    }
    // A gate that is shut leaves the bias of `down` alone, so does one whose product is zero.
    Folder shut(tiny("llama", {{"mlp_bias", true}})), zero(tiny("llama", {{"mlp_bias", true}}));
    for (int il = 0; il < 2; ++il) {
        for (float& v : shut.values(fmt::format("model.layers.{}.mlp.gate_proj.bias", il))) v = -1e4f;
        for (float& v : zero.values(fmt::format("model.layers.{}.mlp.down_proj.weight", il))) v = 0;
    }
    EXPECT_EQ(shut.logits(), zero.logits());
    Folder up(tiny("llama", {{"mlp_bias", true}}));
    const auto before = up.logits();
    for (float& v : up.values("model.layers.0.mlp.up_proj.bias")) v += 1;
    EXPECT_NE(up.logits(), before);
    // They survive conversion.
    write_gguf(*up.open(), up.path() / "m.gguf", {}, {.n_threads = 1});
    write_hugging_face(*open_model(up.path() / "m.gguf"), up.path() / "hf", {}, {.n_threads = 1});
    const auto backend = make_reference_backend();
    const std::vector<int32_t> ids = {3, 9, 27, 1, 14, 8, 40, 2, 33, 11};
    const auto expected = up.logits();
    for (const char* name : {"m.gguf", "hf"}) {
        const auto got = forward_logits(*load_model(open_model(up.path() / name), *backend), *backend, ids);
        ASSERT_EQ(got.size(), expected.size());
        for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-5f) << name;
    }
}

TEST(Families, BiasesThatTheConfigNamesMustBeThere) {
    Folder folder(tiny("llama", {{"attention_bias", true}}));
    folder.erase("model.layers.1.self_attn.k_proj.bias");
    const auto missing = missing_tensors(*folder.open());
    ASSERT_EQ(missing, std::vector<std::string>{"blk.1.attn_k.bias"});
    EXPECT_NE(load_error(folder.open()).find("blk.1.attn_k.bias"), std::string::npos);
}

// A checkpoint with pictures, as published: the text's config and tensors one level down, a tower beside
// them.
TEST(Families, TextOfModelsWithPicturesRuns) {
    struct Case {
        const char *model, *wrapper;
        std::vector<std::pair<std::string, std::string>> prefixes;
    };
    for (const Case& c :
         {Case{"gemma3",
               "gemma3",
               {{"model.", "language_model.model."}, {"lm_head.", "language_model.lm_head."}}},
          Case{"qwen3.5", "qwen3_5", {{"model.", "model.language_model."}}},
          Case{"qwen3.5-moe", "qwen3_5_moe", {{"model.", "model.language_model."}}}}) {
        const TemporaryFolder t;
        const Json text = parse_json(read_file(golden(c.model) / "config.json"), "config.json");
        const MappedFile weights(golden(c.model) / "model.safetensors");
        Json header = Json::object();
        std::string data;
        const auto add = [&](const std::string& name, const SafetensorsEntry& e) {
            header[name] = {{"dtype", e.dtype},
                            {"shape", e.shape},
                            {"data_offsets", {data.size(), data.size() + e.data.size()}}};
            data.append(reinterpret_cast<const char*>(e.data.data()), e.data.size());
        };
        const auto entries = read_safetensors(weights.bytes(), "golden");
        // Experts in one tensor, as published checkpoints have them.
        std::map<std::string, std::vector<SafetensorsEntry>> joined;
        for (const SafetensorsEntry& e : entries) {
            std::string name = e.name;
            for (const auto& [prefix, instead] : c.prefixes) {
                if (e.name.starts_with(prefix)) name = instead + e.name.substr(prefix.size());
            }
            const size_t at = name.find(".mlp.experts.");
            if (at == std::string::npos) {
                add(name, e);
                continue;
            }
            const std::string number = name.substr(at + 13, name.find('.', at + 13) - at - 13);
            const std::string layer = name.substr(0, at + 13);
            const int64_t expert = std::stoll(number);
            const bool down = name.ends_with("down_proj.weight"), up = name.ends_with("up_proj.weight");
            auto& list = joined[layer + (down ? "down_proj" : "gate_up_proj")];
            const size_t place = static_cast<size_t>(down ? expert : 2 * expert + (up ? 1 : 0));
            if (list.size() <= place) list.resize(place + 1);
            list[place] = e;
        }
        for (const auto& [name, list] : joined) {
            const bool down = name.ends_with("down_proj");
            const int64_t n = std::ssize(list) / (down ? 1 : 2);
            const size_t begin = data.size();
            for (const SafetensorsEntry& e : list)
                data.append(reinterpret_cast<const char*>(e.data.data()), e.data.size());
            header[name] = {{"dtype", list[0].dtype},
                            {"shape", {n, list[0].shape[0] * (down ? 1 : 2), list[0].shape[1]}},
                            {"data_offsets", {begin, data.size()}}};
        }
        add("model.vision_tower.patches.weight", entries.front());
        add("multi_modal_projector.weight", entries.front());
        if (std::string_view(c.wrapper) != "gemma3") add("mtp.fc.weight", entries.front());
        write_file(t.path() / "model.safetensors", safetensors(header.dump(), data));
        const Json config = {{"model_type", c.wrapper},
                             {"text_config", text},
                             {"vision_config", {{"hidden_size", 8}}},
                             {"image_token_id", 7},
                             {"eos_token_id", {1, 106}}};
        write_file(t.path() / "config.json", config.dump());
        const auto model = open_model(t.path());
        EXPECT_EQ(load_error(model), "");
        ASSERT_EQ(model->notes.size(), 1u) << c.model;
        EXPECT_NE(model->notes[0].find("for pictures"), std::string::npos) << model->notes[0];
        const auto backend = make_reference_backend();
        const std::vector<int32_t> ids = {3, 9, 27, 1, 14};
        EXPECT_EQ(forward_logits(*load_model(model, *backend), *backend, ids),
                  forward_logits(*load_model(open_model(golden(c.model)), *backend), *backend, ids))
            << c.model;
    }
}

TEST(Families, OldRopeKeysOfGgufStretchPositions) {
    Folder folder(tiny("qwen2"));
    write_gguf(*folder.open(), folder.path() / "m.gguf", {}, {.n_threads = 1});
    const auto backend = make_reference_backend();
    const auto logits = [&](const std::vector<std::pair<std::string, MetadataValue>>& more) {
        ModelFile m = *open_model(folder.path() / "m.gguf");
        for (const auto& [key, value] : more) m.metadata.set("qwen2.rope." + key, value);
        write_gguf(m, folder.path() / "x.gguf", {}, {.n_threads = 1});
        return forward_logits(*load_model(open_model(folder.path() / "x.gguf"), *backend), *backend,
                              std::vector<int32_t>{3, 9, 27, 1, 14, 8});
    };
    const auto linear = logits({{"scaling.type", std::string("linear")}, {"scaling.factor", 2.0}});
    EXPECT_NE(linear, logits({}));
    EXPECT_EQ(linear, logits({{"scale_linear", 2.0}}));
    EXPECT_EQ(linear, logits({{"scaling.factor", 2.0}}));
    EXPECT_EQ(logits({}), logits({{"scaling.factor", 2.0}, {"scaling.type", std::string("none")}}));
    // Of a config without a type nobody knows what the factor means.
    EXPECT_THROW(Folder(tiny("qwen2", {{"rope_scaling", {{"factor", 2.0}}}})).open(), Error);
}

// Of sentence-transformers' folders, in metadata as GGUF has it, and back.
TEST(Families, PoolingOfEmbeddingFoldersIsRead) {
    const auto modules = [](const char* last) {
        return Json{
            {{"idx", 0}, {"path", ""}, {"type", "sentence_transformers.models.Transformer"}},
            {{"idx", 1}, {"path", "1_Pooling"}, {"type", "sentence_transformers.models.Pooling"}},
            {{"idx", 2}, {"path", "2_X"}, {"type", std::string("sentence_transformers.models.") + last}}};
    };
    const auto folder = [&](const Json& pooling, const char* last) {
        auto f = std::make_unique<Folder>(tiny("qwen3"));
        write_file(f->path() / "modules.json", modules(last).dump());
        fs::create_directories(f->path() / "1_Pooling");
        write_file(f->path() / "1_Pooling" / "config.json", pooling.dump());
        return f;
    };
    for (const auto& [mode, type] :
         {std::pair("pooling_mode_lasttoken", 3), {"pooling_mode_mean_tokens", 1}}) {
        const auto f = folder(
            {{"word_embedding_dimension", 32}, {"pooling_mode_cls_token", false}, {mode, true}}, "Normalize");
        EXPECT_EQ(f->open()->metadata.get_int("qwen3.pooling_type"), type);
        EXPECT_EQ(load_error(f->open()), "");
        write_gguf(*f->open(), f->path() / "m.gguf", {}, {.n_threads = 1});
        const auto gguf = open_model(f->path() / "m.gguf");
        EXPECT_EQ(gguf->metadata.get_int("qwen3.pooling_type"), type);
        write_hugging_face(*gguf, f->path() / "hf", {}, {.n_threads = 1});
        EXPECT_EQ(open_model(f->path() / "hf")->metadata.get_int("qwen3.pooling_type"), type);
        // Pooling by the first token is none of smelt's.
        ModelFile first = *gguf;
        first.metadata.set("qwen3.pooling_type", int64_t{2});
        write_gguf(first, f->path() / "first.gguf", {}, {.n_threads = 1});
        EXPECT_NE(load_error(open_model(f->path() / "first.gguf")).find("qwen3.pooling_type"),
                  std::string::npos);
    }
    EXPECT_NE(load_error(folder({{"pooling_mode_cls_token", true}}, "Normalize")->open())
                  .find("pooling_mode_cls_token"),
              std::string::npos);
    EXPECT_NE(
        load_error(folder({{"pooling_mode_lasttoken", true}, {"pooling_mode_mean_tokens", true}}, "Normalize")
                       ->open())
            .find("alone"),
        std::string::npos);
    EXPECT_NE(load_error(folder({{"pooling_mode_lasttoken", true}}, "Dense")->open()).find("Dense"),
              std::string::npos);
}

TEST(Sizes, ShapesSayWhereTheyMayBeCut) {
    const Metadata m = read_hf_config(tiny("llama").dump(), "", "m");
    const Sizes sizes(*family_of(m), m);
    const auto q = sizes.extents("[n_heads] head_dim, dim");
    EXPECT_EQ(q[0].n, 32);
    EXPECT_TRUE(q[0].may_be_cut);
    EXPECT_EQ(q[0].unit, 8);
    EXPECT_FALSE(q[1].may_be_cut);
    const auto qkv = sizes.extents("3 [n_heads] head_dim, dim");
    EXPECT_EQ(qkv[0].n, 96);
    EXPECT_EQ(qkv[0].parts, 3);
    EXPECT_EQ(sizes.shape("head_dim / 2"), std::vector<int64_t>{4});
    EXPECT_EQ(sizes.shape("[n_heads] head_dim + 2 * dim, 3"), (std::vector<int64_t>{288, 3}));
    EXPECT_EQ(
        spelled_out(*family_of(m), "[n_heads] head_dim + dim, ffn_dim"),
        (std::vector<std::string>{"num_attention_heads * (head_dim + hidden_size)", "intermediate_size"}));
}

TEST(Families, WeightsSayHowTheyMayBeCut) {
    // "rows 8 x 3" is by rows, in units of 8, in three parts; lists one matrix at a time.
    const auto cut = [](const char* golden_name, const std::string& tensor, bool in_list = false) {
        const auto file = open_model(golden(golden_name));
        const Family& family = *family_of(file->metadata);
        const Sizes sizes(family, file->metadata);
        const TensorRule* rule = find_rule(family, tensor.starts_with("token") || tensor.starts_with("output")
                                                       ? tensor
                                                       : "blk.{}." + tensor);
        EXPECT_NE(rule, nullptr) << tensor;
        const WeightRole role = role_of(sizes, {rule, 1, -1}, in_list);
        EXPECT_EQ(role.layer, 1);
        if (role.cut.by == CutBy::none) return std::string("whole");
        std::string text = role.cut.by == CutBy::rows ? "rows " : "columns ";
        text += std::to_string(role.cut.unit);
        return role.cut.parts > 1 ? text + " x " + std::to_string(role.cut.parts) : text;
    };
    for (const char* name : {"qwen3", "qwen2", "llama3", "mixtral", "qwen3-moe", "gpt-oss"}) {
        SCOPED_TRACE(name);
        const auto file = open_model(golden(name));
        const std::string head = std::to_string(*file->metadata.get_int(
            *file->metadata.get_string("general.architecture") + ".attention.key_length"));
        for (const char* tensor : {"attn_q.weight", "attn_k.weight", "attn_v.weight"}) {
            EXPECT_EQ(cut(name, tensor), "rows " + head) << tensor;
        }
        EXPECT_EQ(cut(name, "attn_output.weight"), "columns " + head);
        EXPECT_EQ(cut(name, "token_embd.weight"), "rows 1");
        EXPECT_EQ(cut(name, "output.weight"), "rows 1");
        EXPECT_EQ(cut(name, "attn_norm.weight"), "whole");
        EXPECT_EQ(cut(name, "output_norm.weight"), "whole");
    }
    EXPECT_EQ(cut("qwen2", "attn_q.bias"), "rows 32");
    EXPECT_EQ(cut("qwen3", "attn_q_norm.weight"), "whole");
    EXPECT_EQ(cut("llama3", "attn_output.bias"), "whole");
    EXPECT_EQ(cut("llama3", "ffn_up.bias"), "rows 1");
    EXPECT_EQ(cut("llama3", "ffn_down.bias"), "whole");
    EXPECT_EQ(cut("qwen3", "ffn_gate.weight"), "rows 1");
    EXPECT_EQ(cut("qwen3", "ffn_up.weight"), "rows 1");
    EXPECT_EQ(cut("qwen3", "ffn_down.weight"), "columns 1");
    for (const char* name : {"qwen3-moe", "mixtral", "gpt-oss", "glm4-moe-lite"}) {
        SCOPED_TRACE(name);
        EXPECT_EQ(cut(name, "ffn_gate_exps.weight", true), "rows 1");
        EXPECT_EQ(cut(name, "ffn_up_exps.weight", true), "rows 1");
        EXPECT_EQ(cut(name, "ffn_down_exps.weight", true), "columns 1");
        EXPECT_EQ(cut(name, "ffn_gate_inp.weight"), "whole");
    }
    EXPECT_EQ(cut("gpt-oss", "attn_sinks.weight"), "rows 1");
    EXPECT_EQ(cut("gpt-oss", "ffn_up_exps.bias", true), "rows 1");
    EXPECT_EQ(cut("gpt-oss", "ffn_down_exps.bias", true), "whole");
    EXPECT_EQ(cut("glm4-moe-lite", "attn_q_b.weight"), "rows 40");  // 24 + 16
    EXPECT_EQ(cut("glm4-moe-lite", "attn_k_b.weight", true), "rows 64");
    EXPECT_EQ(cut("glm4-moe-lite", "attn_v_b.weight", true), "rows 32");
    EXPECT_EQ(cut("glm4-moe-lite", "attn_output.weight"), "columns 32");
    EXPECT_EQ(cut("glm4-moe-lite", "attn_kv_a_mqa.weight"), "whole");
    EXPECT_EQ(cut("glm4-moe-lite", "ffn_down_shexp.weight"), "columns 1");
    EXPECT_EQ(cut("gpt2", "attn_qkv.weight"), "rows 32 x 3");
    EXPECT_EQ(cut("gpt2", "attn_qkv.bias"), "rows 32 x 3");
    EXPECT_EQ(cut("gpt2", "attn_output.weight"), "columns 32");
    EXPECT_EQ(cut("gpt2", "ffn_up.bias"), "rows 1");
}

// Every table can be read with every size known, and each rule's name is its own.
TEST(Families, TablesAreSound) {
    for (const Family* family : all_families()) {
        SCOPED_TRACE(family->model_type);
        std::set<std::string_view> hf, gguf;
        const Sizes sizes(*family, {});
        for (const TensorRule& rule : family->tensors) {
            EXPECT_FALSE(sizes.extents(rule.shape).empty());
            if (!rule.hf.empty()) {
                EXPECT_TRUE(hf.insert(rule.hf).second) << rule.hf;
            }
            if (!rule.gguf.empty()) {
                EXPECT_TRUE(gguf.insert(rule.gguf).second) << rule.gguf;
            }
        }
        for (const std::string_view text : {family->defaults, family->gguf_defaults, family->must}) {
            EXPECT_TRUE(parse_json(text, "text").is_object());
        }
        ASSERT_NE(family->make, nullptr);
    }
}

// docs/ARCHITECTURE.md says so: a table with its code, a line in the list, a line for CMake.
TEST(Families, TheNewestIsNamedInThreeFilesOfTheSources) {
    std::set<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(SMELT_SOURCES)) {
        if (!entry.is_regular_file()) continue;
        const std::string text = read_file(entry.path());
        for (const char* name : {"qwen3_5", "Qwen3_5", "qwen35moe", "qwen3.5", "Qwen3.5 35B"}) {
            if (text.find(name) != std::string::npos) files.insert(fs::relative(entry.path(), SMELT_SOURCES));
        }
    }
    EXPECT_EQ(files, (std::set<std::string>{"CMakeLists.txt", "model/architectures.h", "model/qwen3_5.cpp"}));
}

}  // namespace
}  // namespace smelt
