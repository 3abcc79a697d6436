// `cake eval fidelity` as its users run it: tables, files to go on from, what is refused.
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/json_file.h"
#include "support/golden.h"
#include "support/run_program.h"
#include "support/temp_folder.h"
#include "text/small_tokenizers.h"

namespace cake::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

class EvalFidelity : public testing::Test {
protected:
    TempFolder folder;
    std::string model = folder.file("model");

    // tiny-llama with a tokenizer, whose tokens are bytes.
    void SetUp() override {
        std::filesystem::create_directory(model);
        for (const char* file : {"config.json", "model.safetensors"})
            std::filesystem::copy_file(golden_model("tiny-llama") + "/" + file, model + "/" + file);
        std::ofstream(model + "/tokenizer.json") << byte_tokenizer().dump();
    }

    // Words, of which no two texts have the same.
    std::string text(const std::string& name, int bytes) const {
        std::string words;
        for (unsigned i = unsigned(name[0]); int(words.size()) < bytes; ++i)
            words += fmt::format("{} ", i * i * 2654435761u % 9973);
        words.resize(std::size_t(bytes));
        return folder.write(name, words);
    }
    std::vector<std::string> eval(const std::string& texts, std::vector<std::string> more) const {
        std::vector<std::string> args{
            "eval",          "fidelity",        "--model",   model, "--texts",     texts,
            "--cache-sizes", "24,48",           "--lengths", "100", "--positions", "8",
            "--set",         "policy.window=8", "--quiet"};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }
    std::string complaint(const std::vector<std::string>& args) const {
        const ProgramResult r = run_program(args);
        EXPECT_EQ(r.exit_code, 2);
        EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
        EXPECT_EQ(r.out, "");
        return r.err;
    }
    // Rows of a table by the fields of `keys`, each a map from column to value.
    using Row = std::map<std::string, std::string>;
    static std::map<std::string, Row> table(const std::string& path,
                                            const std::vector<std::string>& keys) {
        std::map<std::string, Row> out;
        std::ifstream in(path);
        std::vector<std::string> columns;
        for (std::string line; std::getline(in, line);) {
            std::istringstream fields(line);
            std::vector<std::string> values;
            for (std::string field; std::getline(fields, field, ',');)
                values.push_back(field);
            if (columns.empty()) {
                columns = values;
                continue;
            }
            Row row;
            for (std::size_t i = 0; i < columns.size(); ++i)
                row[columns[i]] = values.at(i);
            std::string key;
            for (const std::string& k : keys)
                key += row.at(k) + " ";
            EXPECT_TRUE(out.emplace(key, row).second) << key << "twice";
        }
        return out;
    }
};

TEST_F(EvalFidelity, WritesTablesAndAReport) {
    const std::string out = folder.file("out"), report = folder.file("report.json");
    const std::string texts = text("a.txt", 300) + "," + text("b.txt", 300);
    const ProgramResult r =
        run_program(eval(texts, {"--policies", "cake,cake:share=uniform,full", "--lengths",
                                 "100,60", "--output", out, "--report", report}));
    ASSERT_EQ(r.exit_code, 0) << r.err;
    EXPECT_THAT(r.out, AllOf(HasSubstr("| full | - | 60 | 2 | 100.00 | 0.0000 | 0.000 | 100.0 |"),
                             HasSubstr("| cake:share=uniform | 48 | 100 | 2 | 48.00 |")));
    const auto all =
        table(out + "/fidelity.csv", {"text", "policy", "cache_size", "prompt_tokens"});
    EXPECT_EQ(all.size(), 2u * 2 * 5);
    const Row &full = all.at("a.txt full 0 100 "), &cake = all.at("a.txt cake 24 100 ");
    EXPECT_EQ(full.at("kl_mean"), "0");
    EXPECT_EQ(full.at("perplexity"), cake.at("perplexity_full"));
    EXPECT_EQ(cake.at("positions"), "8");
    EXPECT_EQ(cake.at("kept_percent"), "24");
    EXPECT_GT(std::stod(cake.at("kl_mean")), 0);
    EXPECT_NE(cake.at("kl_mean"), all.at("b.txt cake 24 100 ").at("kl_mean"));

    const auto positions = table(out + "/positions.csv",
                                 {"text", "policy", "cache_size", "prompt_tokens", "position"});
    EXPECT_EQ(positions.size(), 2u * 2 * 5 * 8);
    double kl = 0;
    for (int i = 1; i <= 8; ++i)
        kl += std::stod(positions.at(fmt::format("a.txt cake 24 100 {} ", i)).at("kl")) / 8;
    EXPECT_NEAR(kl, std::stod(cake.at("kl_mean")), 1e-8);
    const auto layers =
        table(out + "/layers.csv", {"text", "policy", "cache_size", "prompt_tokens", "layer"});
    EXPECT_EQ(layers.size(), 2u * 2 * 5 * 5);
    EXPECT_EQ(layers.at("b.txt cake:share=uniform 48 100 4 ").at("budget"), "40");

    const json written = read_json_file(report);
    EXPECT_EQ(written["command"], "eval fidelity");
    EXPECT_EQ(written["fidelity"].size(), 2u * 5);
    EXPECT_EQ(written["config"]["eval"]["positions"], 8);
    EXPECT_EQ(written["config"]["policy"]["share"], json());
    EXPECT_EQ(written["policies"][2]["cells"]["share"], "uniform");
    EXPECT_GT(written["memory"]["kv_peak_bytes"][0], 0);
}

TEST_F(EvalFidelity, IsTheSameOnEveryNumberOfRanks) {
    const std::string texts = text("a.txt", 300);
    std::vector<std::map<std::string, Row>> found;
    for (int ranks : {1, 3}) {
        const std::string out = folder.file(std::to_string(ranks));
        const auto args = eval(texts, {"--policies", "cake,tova", "--output", out});
        const ProgramResult r = ranks == 1 ? run_program(args) : run_program_on_ranks(ranks, args);
        ASSERT_EQ(r.exit_code, 0) << r.err;
        found.push_back(table(out + "/fidelity.csv", {"policy", "cache_size"}));
    }
    ASSERT_EQ(found[0].size(), 5u);
    for (const auto& [key, row] : found[0])
        for (const char* number : {"kl_mean", "perplexity", "attention_error"}) {
            const double one = std::stod(row.at(number)),
                         three = std::stod(found[1].at(key).at(number));
            EXPECT_NEAR(three, one, 1e-4 * std::abs(one)) << key << number;
        }
}

TEST_F(EvalFidelity, GoesOnWhereItWasStoppedAndMayBeWidened) {
    const std::string out = folder.file("out");
    const std::string a = text("a.txt", 700), both = a + "," + text("b.txt", 700);
    const auto long_run = [&](const std::string& texts) {
        return eval(texts,
                    {"--policies", "cake,snapkv,h2o,tova", "--positions", "500", "--output", out});
    };
    const ProgramResult r = run_program(
        long_run(both), {.signals = {{[&](double) {
                                          std::ifstream in(out + "/fidelity.jsonl");
                                          return in.peek() != std::ifstream::traits_type::eof();
                                      },
                                      SIGTERM}}});
    ASSERT_EQ(r.exit_code, 75) << r.err;
    const auto before = table(out + "/fidelity.csv", {"text", "policy", "cache_size"});
    EXPECT_EQ(before.size(), 9u);  // the first text's
    const ProgramResult rest = run_program(long_run(both));
    ASSERT_EQ(rest.exit_code, 0) << rest.err;
    const auto after = table(out + "/fidelity.csv", {"text", "policy", "cache_size"});
    EXPECT_EQ(after.size(), 18u);
    for (const auto& [key, row] : before)
        EXPECT_EQ(after.at(key), row) << key;
    // Nothing is left to do; other policies, or another text of this name, are no part of it.
    EXPECT_EQ(run_program(long_run(a)).out, rest.out);
    EXPECT_THAT(complaint(eval(a, {"--positions", "500", "--output", out})),
                HasSubstr("made with another configuration"));
    folder.write("a.txt", std::string(700, 'x'));
    EXPECT_THAT(complaint(long_run(a)), HasSubstr("a.txt/100 was made of another text"));
}

TEST_F(EvalFidelity, RefusesWhatItCannotMeasure) {
    const std::string good = text("a.txt", 300);
    EXPECT_THAT(complaint({"eval", "fidelity", "--model", model}), HasSubstr("give --texts"));
    EXPECT_THAT(complaint(eval(folder.file("none.txt"), {})),
                AllOf(HasSubstr("none.txt"), HasSubstr("cannot be opened")));
    EXPECT_THAT(complaint(eval(text("short.txt", 108), {})),
                AllOf(HasSubstr("short.txt: the text has 108 tokens"), HasSubstr("are 109")));
    EXPECT_THAT(complaint(eval(folder.write("binary", std::string("ab\0cd", 5)), {})),
                HasSubstr("binary: is no text in UTF-8"));
    EXPECT_THAT(complaint(eval(folder.write("latin1", "caf\xe9"), {})),
                HasSubstr("latin1: is no text in UTF-8"));
    EXPECT_THAT(complaint(eval(good + "," + good, {})), HasSubstr("another text is called a.txt"));
    EXPECT_THAT(complaint(eval(good, {"--lengths", "2041"})),
                HasSubstr("a prompt of 2041 tokens and 8 positions exceed the model's context of "
                          "2048"));
    EXPECT_THAT(complaint(eval(good, {"--policies", "cak"})), HasSubstr("policy cak is unknown"));
    EXPECT_THAT(complaint(eval(good, {"--policies", "cake:shar=uniform"})),
                HasSubstr("policy.share"));
    EXPECT_THAT(complaint(eval(good, {"--cache-sizes", "8"})), HasSubstr("cache_size is 8"));
    std::filesystem::create_directory(folder.file("out"));
    folder.write("out/fidelity.jsonl", "{\"id\": \"a.txt/100\"}\n");
    EXPECT_THAT(complaint(eval(good, {"--output", folder.file("out")})),
                HasSubstr("fidelity.jsonl"));
    std::filesystem::remove(model + "/tokenizer.json");
    EXPECT_THAT(complaint(eval(good, {})), HasSubstr("tokenizer"));
}

// Under the emulation of CUDA, where the host cannot touch what is the device's.
TEST_F(EvalFidelity, RunsOnGpus) {
    auto args =
        eval(text("a.txt", 100), {"--policies", "cake,h2o", "--lengths", "40", "--positions", "3",
                                  "--output", folder.file("out"), "--backend", "cuda"});
    args.insert(args.begin(), std::getenv("CAKE_EMULATED"));
    const ProgramResult r = run_command(args);
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const auto rows = table(folder.file("out/fidelity.csv"), {"policy", "cache_size"});
    EXPECT_EQ(rows.size(), 5u);
    EXPECT_EQ(rows.at("full 0 ").at("attention_error"), "0");
    EXPECT_GT(std::stod(rows.at("cake 24 ").at("attention_error")), 0.01);
    EXPECT_LT(std::stod(rows.at("cake 24 ").at("attention_error")), 1);
}

}  // namespace
}  // namespace cake::test
