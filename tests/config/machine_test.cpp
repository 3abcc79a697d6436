#include "config/machine.h"

#include <nlohmann/json.hpp>

#include "config/compiled_files.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::HasSubstr;

const std::string whole =
    "name: one\n"
    "devices_per_node: 4\n"
    "memory_bytes: 2 GiB\n"
    "read_gb_s: 100\n"
    "gemm_tflop_s: 0.5\n"
    "attention_tflop_s: 2e-1\n"
    "link_gb_s: 10\n"
    "link_latency_us: 0\n"
    "network_gb_s: 1\n"
    "network_latency_us: 20\n"
    "backend: cuda\n";

std::string message(const std::string& text) {
    return usage_message([&] { machine_from_text(text, "m.yaml"); });
}

std::string with(const std::string& line, const std::string& instead) {
    std::string text = whole;
    return text.replace(text.find(line), line.size(), instead);
}

TEST(Machine, HasEveryKeyOfItsFile) {
    const Machine m = machine_from_text(whole, "m.yaml");
    EXPECT_EQ(m.name, "one");
    EXPECT_EQ(m.devices_per_node, 4);
    EXPECT_FALSE(m.shared);
    EXPECT_EQ(m.memory_bytes, std::size_t(2) << 30);
    EXPECT_EQ(m.read_gb_s, 100);
    EXPECT_EQ(m.gemm_tflop_s, 0.5);
    EXPECT_EQ(m.attention_tflop_s, 0.2);
    EXPECT_EQ(m.link_gb_s, 10);
    EXPECT_EQ(m.link_latency_us, 0);
    EXPECT_EQ(m.network_gb_s, 1);
    EXPECT_EQ(m.network_latency_us, 20);
    EXPECT_EQ(m.backend, "cuda");
    EXPECT_TRUE(machine_from_text(whole + "shared: true\n", "m.yaml").shared);
}

TEST(Machine, CanBeReadAgainFromItsDump) {
    const Machine m = machine_from_text(whole, "m.yaml");
    EXPECT_EQ(to_json(machine_from_text(to_json(m).dump(), "dump")), to_json(m));
}

TEST(Machine, FillsNodesOneAfterAnother) {
    const Machine m = machine_from_text(whole, "m.yaml");
    EXPECT_EQ(m.nodes(1), 1);
    EXPECT_EQ(m.nodes(4), 1);
    EXPECT_EQ(m.nodes(5), 2);
    EXPECT_EQ(m.nodes(256), 64);
}

TEST(Machine, RefusesWhatItDoesNotKnowWithLineAndNearestKey) {
    EXPECT_EQ(message(with("read_gb_s", "raed_gb_s")),
              "m.yaml:4: unknown key 'raed_gb_s' of a machine; the nearest one is read_gb_s");
    EXPECT_EQ(message(whole + "backend: cpu\n"), "m.yaml:12: backend is set twice");
    EXPECT_EQ(message(with("network_gb_s: 1\n", "")),
              "m.yaml: the key network_gb_s is missing: a number above 0, up to 1e9");
    EXPECT_THAT(message("- a\n- b\n"), HasSubstr("m.yaml: a machine is a map of keys"));
    EXPECT_THAT(message(""), HasSubstr("a machine is a map of keys"));
    EXPECT_THAT(message(whole + "[a, b]: c\n"), HasSubstr("m.yaml:12: the name of a key"));
    EXPECT_THAT(message(whole + "---\n"), HasSubstr("a second YAML document"));
}

TEST(Machine, RefusesValuesThatCannotBe) {
    for (const char* value : {"0", "-1", "fast", ".nan", ".inf", "1e10", "[1]", "{a: 1}", "", "~"})
        EXPECT_THAT(message(with("read_gb_s: 100", std::string("read_gb_s: ") + value)),
                    HasSubstr("m.yaml:4: read_gb_s is "))
            << value;
    EXPECT_EQ(message(with("link_latency_us: 0", "link_latency_us: -1")),
              "m.yaml:8: link_latency_us is '-1'; allowed is a number from 0 to 1e9");
    EXPECT_THAT(message(with("per_node: 4", "per_node: 0")), HasSubstr("from 1 to 65536"));
    EXPECT_THAT(message(with("per_node: 4", "per_node: 1.5")), HasSubstr("from 1 to 65536"));
    EXPECT_THAT(message(with("2 GiB", "2 GB")), HasSubstr("allowed is a number of bytes"));
    EXPECT_THAT(message(with("cuda", "gpu")), HasSubstr("allowed is cpu or cuda"));
    EXPECT_THAT(message(with("name: one", "name: \"\"")), HasSubstr("name is ''"));
    EXPECT_THAT(message(with("name: one", "name: \xff")), HasSubstr("m.yaml:1: name is "));
    EXPECT_THAT(message(whole + "shared: yes\n"), HasSubstr("allowed is true or false"));
}

TEST(Machine, IsANameOrAPath) {
    TempFolder folder;
    EXPECT_EQ(read_machine(folder.write("m.yaml", whole)).name, "one");
    EXPECT_THAT(read_machine("h100").name, HasSubstr("H100"));
    EXPECT_THAT(usage_message([] { read_machine("h10"); }), HasSubstr("the nearest one is h100"));
    EXPECT_THAT(usage_message([] { read_machine("none.yaml"); }),
                HasSubstr("none.yaml: cannot be opened"));
    EXPECT_THAT(usage_message([&] { read_machine(folder.path()); }), HasSubstr("this is a folder"));
}

TEST(Machine, EveryFileOfConfigsIsOne) {
    EXPECT_GE(machine_files().size(), 4u);
    for (const CompiledFile& file : machine_files()) {
        const Machine m = machine_from_text(file.text, file.path);
        EXPECT_FALSE(m.name.empty());
        EXPECT_LT(m.gemm_tflop_s, 1000) << file.path;
    }
}

}  // namespace
}  // namespace cake
