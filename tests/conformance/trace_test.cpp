// Every device times its ops: each op of a record is an event, in the record's order, and timing changes no
// result.
#include "backend/trace.h"

#include "conformance/rig.h"

namespace smelt {
namespace {

TEST(TraceOfADevice, HasEveryOpInOrder) {
    constexpr int64_t n = 5, len = 96;
    const EncodedWeight norm = encode_vector(normal(len, 1));
    const EncodedWeight matrix = random_weight(Format::Q8_0, len, len, 2);
    for (const Device& d : devices()) {
        const auto run = [&](Trace* trace) {
            d.backend->set_trace(trace);
            Rig rig(*d.backend);
            const Weight w = rig.vector(norm), m = rig.matrix(matrix);
            const Tensor x = rig.floats({n, len}, normal(n * len, 3)), y = rig.empty({n, len}),
                         z = rig.empty({n, len});
            rig.add(op::RmsNorm{y, x, &w, 1e-6f});
            rig.add(op::Matmul{.x = y, .products = {{.out = z, .w = &m}}, .n = 1});
            rig.add(op::Add{z, x});
            rig.run();
            d.backend->set_trace(nullptr);
            return rig.read(z);
        };
        Trace trace;
        const std::vector<float> timed = run(&trace);
        EXPECT_TRUE(identical(run(nullptr), timed)) << d.label;

        const Trace::Contents c = trace.take();
        ASSERT_EQ(c.streams.size(), 1u) << d.label;
        ASSERT_EQ(c.events.size(), 3u) << d.label;
        const std::string_view names[] = {"RmsNorm", "Matmul", "Add"};
        for (size_t i = 0; i < 3; ++i) {
            const Trace::Event& e = c.events[i];
            EXPECT_EQ(c.texts[static_cast<size_t>(e.text)].name, names[i]) << d.label;
            EXPECT_LE(e.begin, e.end) << d.label;
            EXPECT_GE(e.begin, i == 0 ? 0 : c.events[i - 1].begin) << d.label;
        }
    }
}

}  // namespace
}  // namespace smelt
