// Model files that somebody has changed, opened and asked as a server does it: an Error of one line or an
// answer, never a signal and never for long. Seeds are fixed, SMELT_SOAK_SECONDS says how long each takes;
// default 30. ctest -L soak.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <map>
#include <random>

#include "chat/chat_model.h"
#include "files/writers.h"
#include "text/vocabulary.h"

namespace smelt {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Random = std::mt19937;

Clock::time_point end_of_battery() {
    const char* seconds = std::getenv("SMELT_SOAK_SECONDS");
    return Clock::now() + std::chrono::seconds(seconds == nullptr ? 30 : std::atoi(seconds));
}

size_t below(Random& r, size_t n) {
    return r() % n;
}

std::string read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

class HostileFiles : public ::testing::Test {
 protected:
    HostileFiles() { fs::create_directories(folder_); }
    ~HostileFiles() override { fs::remove_all(folder_); }

    void write(const std::string& name, const std::string& bytes) {
        std::ofstream(folder_ / name, std::ios::binary) << bytes;
    }
    // Opens it, and lets it answer where that works.
    void try_it(const fs::path& path) {
        const auto start = Clock::now();
        try {
            ChatModelOptions options;
            options.kv_tokens = 256;
            options.n_ctx = 64;
            options.engine.scheduler.max_seqs = 2;
            options.engine.scheduler.max_batch_tokens = 64;
            const auto model = ChatModel::open(path, options);
            Prompt prompt = model->make_text_prompt("12 + 30 = ");
            if (prompt.ids.size() > 32) prompt.ids.resize(32);
            if (prompt.ids.empty()) return;
            GenerateOptions short_text;
            short_text.max_tokens = 3;
            short_text.split_thinking = false;
            const auto generation = model->generate(prompt, short_text);
            while (generation->next()) {
            }
            (void)generation->finish();
            ++n_opened_;
        } catch (const Error& e) {
            EXPECT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos) << e.what();
            ++n_refused_;
        }
        EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), 20) << path;
    }

    const fs::path folder_ = fs::temp_directory_path() / ("smelt_hostile_" + std::to_string(::getpid()));
    int n_opened_ = 0, n_refused_ = 0;
};

void flip(std::string& bytes, size_t first, size_t n_bytes, Random& r) {
    for (size_t n = 1 + below(r, 6); n > 0; --n) {
        const size_t at = first + below(r, n_bytes);
        switch (below(r, 4)) {
            case 0:
                bytes[at] = static_cast<char>(r());
                break;
            case 1:
                bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(r, 8)));
                break;
            case 2:
                for (size_t i = at; i < std::min(at + 8, bytes.size()); ++i) bytes[i] = '\xff';
                break;
            default:
                for (size_t i = at; i < std::min(at + 8, bytes.size()); ++i) bytes[i] = '\0';
        }
    }
}

// Numbers, strings and shapes of the JSON files, and what they say of each other.
void mutate(Json& value, Random& r) {
    std::vector<Json*> places;
    const auto list = [&](auto& self, Json& v, int depth) -> void {
        places.push_back(&v);
        if (!v.is_structured() || depth > 4) return;
        size_t n = 0;
        for (auto& item : v) {
            if (++n < 60 || below(r, 500) == 0) self(self, item, depth + 1);
        }
    };
    list(list, value, 0);
    Json& place = *places[below(r, places.size())];
    if (place.is_object() && !place.empty() && below(r, 2) == 0) {
        auto it = place.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(below(r, place.size())));
        place.erase(it.key());
        return;
    }
    static const Json odd[] = {nullptr,
                               0,
                               -1,
                               1,
                               3,
                               1e300,
                               4294967296,
                               true,
                               "",
                               "x",
                               Json::array(),
                               Json::object(),
                               Json::array({"a", "b"}),
                               0.5,
                               "(((((",
                               "{{ 1 / 0 }}",
                               std::numeric_limits<int64_t>::max(),
                               std::string(3000, 'a')};
    place = below(r, 4) == 0 ? Json(*places[below(r, places.size())]) : odd[below(r, std::size(odd))];
}

TEST_F(HostileFiles, HuggingFaceFolders) {
    const fs::path original = fs::path(SMELT_MODELS) / "demo-5m";
    std::map<std::string, std::string> files;
    for (const char* name : {"config.json", "generation_config.json", "tokenizer.json",
                             "tokenizer_config.json", "model.safetensors"}) {
        files[name] = read(original / name);
    }
    for (const auto& [name, bytes] : files) write(name, bytes);
    try_it(folder_);
    ASSERT_EQ(n_opened_, 1);
    Random r(1);
    for (const auto end = end_of_battery(); Clock::now() < end && !HasFailure();) {
        auto it = files.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(below(r, files.size())));
        const auto& [name, bytes] = *it;
        std::string changed = bytes;
        if (name == "model.safetensors") {
            const size_t header = std::min<size_t>(bytes.size(), 8 + 6000);
            below(r, 8) == 0 ? changed.resize(below(r, changed.size())) : flip(changed, 0, header, r);
        } else if (below(r, 4) == 0) {
            flip(changed, 0, changed.size(), r);
        } else {
            Json json = Json::parse(bytes);
            for (size_t n = 1 + below(r, 2); n > 0; --n) mutate(json, r);
            changed = json.dump();
        }
        write(name, changed);
        SCOPED_TRACE(name + " " + changed.substr(0, name == "tokenizer.json" ? 0 : 600));
        try_it(folder_);
        write(name, bytes);
    }
    EXPECT_GT(n_refused_, 3);
    EXPECT_GT(n_opened_, 3) << "the changes are too wild";
}

TEST_F(HostileFiles, GgufFiles) {
    const fs::path path = folder_ / "model.gguf";
    const auto original = open_model(fs::path(SMELT_MODELS) / "demo-5m");
    Metadata vocabulary;
    write_vocabulary_gguf(load_tokenizer(*original).vocabulary(), vocabulary);
    write_gguf(*original, path, vocabulary, {});
    const std::string bytes = read(path);
    try_it(path);
    ASSERT_EQ(n_opened_, 1);
    // Metadata and tensor descriptions; the vocabulary is most of it.
    const size_t head = std::min<size_t>(bytes.size(), 400'000);
    Random r(2);
    for (const auto end = end_of_battery(); Clock::now() < end && !HasFailure();) {
        std::string changed = bytes;
        switch (below(r, 8)) {
            case 0:
                changed.resize(below(r, changed.size()));
                break;
            case 1:
                flip(changed, 0, changed.size(), r);
                break;
            default:
                flip(changed, 0, below(r, 2) == 0 ? size_t{1500} : head, r);
        }
        write("model.gguf", changed);
        try_it(path);
    }
    EXPECT_GT(n_refused_, 3);
    EXPECT_GT(n_opened_, 3) << "the changes are too wild";
}

}  // namespace
}  // namespace smelt
