// What is asked of a model for LongBench, and the official files of its answers.
#include "eval/longbench_rows.h"

#include <filesystem>

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"
#include "text/small_tokenizers.h"

namespace cake {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Tokenizer bytes() { return Tokenizer::from_json(test::byte_tokenizer().dump(), "bytes"); }

class LongBenchRowFiles : public testing::Test {
protected:
    TempFolder folder;
    RunConfig::Eval eval;

    void SetUp() override { eval.data = folder.path(); }
    void write(const std::string& name, const std::vector<std::size_t>& contexts) const {
        std::string lines;
        for (std::size_t bytes : contexts)
            lines += nlohmann::json{{"input", "q"},
                                    {"context", std::string(bytes, 'a')},
                                    {"answers", {"yes"}},
                                    {"length", bytes},
                                    {"all_classes", nullptr}}
                         .dump() +
                     "\n";
        folder.write(name + ".jsonl", lines);
    }
    std::vector<std::string> names(bool buckets = false) const {
        std::vector<std::string> out;
        for (const LongBenchFile& file : longbench_files(eval, buckets))
            out.push_back(file.task->name + " " +
                          std::filesystem::path(file.path).filename().string());
        return out;
    }
    std::vector<LongBenchQuestion> questions(int longest = 0, int context = 2048) const {
        return longbench_questions(longbench_files(eval, false), eval, {.longest = longest},
                                   context, false, bytes());
    }
};

TEST_F(LongBenchRowFiles, AreTheTasksInTheirOrder) {
    write("lcc", {1});
    write("qasper", {1});
    write("dureader", {1});
    write("notes", {1});
    EXPECT_THAT(names(), ElementsAre("qasper qasper.jsonl", "lcc lcc.jsonl"));
    eval.tasks = {"lcc"};
    EXPECT_THAT(names(), ElementsAre("lcc lcc.jsonl"));
    eval.tasks = {"lcc", "trec"};
    EXPECT_THAT(usage_message([&] { names(); }), HasSubstr("trec.jsonl: there is no such file"));
}

TEST_F(LongBenchRowFiles, AreThoseOfLongBenchEWhereTheyAreAsked) {
    write("lcc", {1});
    write("lcc_e", {1});
    write("musique", {1});  // not in LongBench-E
    EXPECT_THAT(names(false), ElementsAre("musique musique.jsonl", "lcc lcc.jsonl"));
    EXPECT_THAT(names(true), ElementsAre("musique musique.jsonl", "lcc lcc_e.jsonl"));
}

TEST_F(LongBenchRowFiles, BecomeQuestionsByTheirPlaceInTheFile) {
    write("lcc", {10, 600, 20, 30});
    eval.whole_only = true;
    eval.limit = 2;
    const auto some = questions(400);
    ASSERT_EQ(some.size(), 2u);
    EXPECT_EQ(some[0].id, "lcc/0");
    EXPECT_EQ(some[1].id, "lcc/2");  // the same row has the same id, whatever was passed over
    EXPECT_EQ(some[1].reference.length, 20);
    EXPECT_EQ(some[1].prompt.size(), longbench_task("lcc").prompt.size() - 9 + 20);  // {context}
}

TEST_F(LongBenchRowFiles, AreCutToWhatTheContextLeaves) {
    write("lcc", {3000});
    const int left = 1024 - longbench_task("lcc").max_new_tokens - 64;
    EXPECT_EQ(questions(0, 1024).at(0).prompt.size(), std::size_t(left));
    EXPECT_EQ(questions(500, 1024).at(0).prompt.size(), 500u);
}

TEST(LongBenchEnds, AreALineBreakForDialogues) {
    const Tokenizer tokenizer = bytes();
    EXPECT_THAT(ends_of(longbench_task("samsum"), tokenizer), ElementsAre('\n'));
    EXPECT_THAT(ends_of(longbench_task("qasper"), tokenizer), IsEmpty());
}

TEST(LongBenchOfficialFiles, AreInTheRowsOrderAndWhole) {
    const auto question = [](const char* task, int i) {
        LongBenchQuestion out;
        out.task = &longbench_task(task);
        out.id = std::string(task) + "/" + std::to_string(i);
        out.reference = {{"yes"}, std::nullopt, i};
        return out;
    };
    const std::vector<LongBenchQuestion> questions{question("lcc", 2), question("lcc", 10),
                                                   question("trec", 0), question("trec", 1)};
    const auto files = official_files(questions, {{"lcc/10", "b"}, {"lcc/2", "a"}, {"trec/1", ""}});
    ASSERT_EQ(files.size(), 2u);
    EXPECT_EQ(files[0].task, "lcc");
    EXPECT_EQ(files[0].missing, 0);
    EXPECT_EQ(files[0].text,
              "{\"pred\":\"a\",\"answers\":[\"yes\"],\"all_classes\":null,\"length\":2}\n"
              "{\"pred\":\"b\",\"answers\":[\"yes\"],\"all_classes\":null,\"length\":10}\n");
    EXPECT_EQ(files[1].missing, 1);
    EXPECT_EQ(files[1].text, "");
}

}  // namespace
}  // namespace cake
