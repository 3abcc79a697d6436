// Jobs for a tiny model, and `cake batch` on them.
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "io/json_file.h"
#include "support/golden.h"
#include "support/run_program.h"

namespace cake::test {

class BatchFixture : public testing::Test {
protected:
    std::filesystem::path folder =
        std::filesystem::path(testing::TempDir()) /
        ("cake_batch_" +
         std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::string model = golden_path("tiny-llama") + "/model";

    void SetUp() override {
        std::filesystem::remove_all(folder);
        std::filesystem::create_directories(folder);
    }
    void TearDown() override { std::filesystem::remove_all(folder); }
    std::string file(const std::string& name) const { return (folder / name).string(); }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(file(name), std::ios::binary) << text;
    }
    std::string read(const std::string& name) const {
        std::ifstream in(file(name), std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }

    // Job i: a prompt of its own, of 20 to 300 tokens.
    static nlohmann::json job(int i, int new_tokens) {
        std::vector<TokenId> prompt = Golden("tiny-llama").prompt("p300");
        prompt.resize(std::size_t(20 + i * 37 % 281));
        prompt[0] = i % 511 + 1;  // of 512 tokens
        return {{"id", "job" + std::to_string(i)},
                {"tokens", prompt},
                {"max_new_tokens", new_tokens + i % 7}};
    }
    void write_jobs(int n, int new_tokens) const {
        std::string lines;
        for (int i = 0; i < n; ++i)
            lines += job(i, new_tokens).dump() + "\n";
        write("jobs.jsonl", lines);
    }

    std::vector<std::string> batch(const std::string& output, std::vector<std::string> more = {}) {
        std::vector<std::string> args{
            "batch",    "--model",    model,          "--input", file("jobs.jsonl"),
            "--output", file(output), "--cache-size", "64",      "--window",
            "16",       "--quiet"};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }

    // When a program that writes there is at work.
    std::function<bool(double)> has_results(const std::string& output) const {
        return [this, output](double) { return !read(output).empty(); };
    }
    static std::function<bool(double)> after(double s) {
        return [s](double seconds) { return seconds >= s; };
    }

    // By id; a line that is no result, or an id that is there twice, is a failure.
    std::map<std::string, nlohmann::json> results(const std::string& text) const {
        std::map<std::string, nlohmann::json> out;
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) {
            const nlohmann::json result = nlohmann::json::parse(line);
            EXPECT_TRUE(out.emplace(result["id"], result).second) << result["id"] << " twice";
        }
        return out;
    }
    std::map<std::string, std::vector<TokenId>> tokens(const std::string& output) const {
        std::map<std::string, std::vector<TokenId>> out;
        for (const auto& [id, result] : results(read(output)))
            out[id] = result["tokens"].get<std::vector<TokenId>>();
        return out;
    }
};

}  // namespace cake::test
