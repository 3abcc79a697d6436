// Tasks and prompts of LongBench, and its files.
#include "eval/longbench.h"

#include <fcntl.h>
#include <fstream>
#include <sys/file.h>
#include <unistd.h>

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"
#include "text/small_tokenizers.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

TEST(LongBenchTasks, AreTheSixteenEnglishOnes) {
    std::vector<std::string> names;
    for (const LongBenchTask& task : longbench_tasks())
        names.push_back(task.name);
    EXPECT_THAT(names, ElementsAre("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa",
                                   "2wikimqa", "musique", "gov_report", "qmsum", "multi_news",
                                   "trec", "triviaqa", "samsum", "passage_count",
                                   "passage_retrieval_en", "lcc", "repobench-p"));
}

TEST(LongBenchTasks, HaveTheOfficialRules) {
    const LongBenchTask samsum = longbench_task("samsum");
    EXPECT_EQ(samsum.metric, Metric::RougeL);
    EXPECT_EQ(samsum.max_new_tokens, 128);
    EXPECT_FALSE(samsum.chat);
    EXPECT_TRUE(samsum.first_line);
    EXPECT_TRUE(samsum.stop_at_newline);
    const LongBenchTask qasper = longbench_task("qasper");
    EXPECT_TRUE(qasper.chat);
    EXPECT_FALSE(qasper.first_line);
    EXPECT_FALSE(qasper.stop_at_newline);
    for (const char* name : {"trec", "triviaqa", "samsum", "lcc", "repobench-p"})
        EXPECT_FALSE(longbench_task(name).chat) << name;
    // Spaces at the ends of lines are part of a prompt.
    EXPECT_THAT(longbench_task("passage_count").prompt, EndsWith("The final answer is: "));
    EXPECT_THAT(longbench_task("multi_news").prompt, HasSubstr("all news. \n\nNews:\n"));
    EXPECT_EQ(longbench_task("lcc").prompt,
              "Please complete the code given below. \n{context}Next line of code:\n");
    EXPECT_EQ(longbench_task("trec").prompt,
              "Please determine the type of the question below. Here are some examples of "
              "questions.\n\n{context}\n{input}");
}

TEST(LongBenchTasks, NameTheNearestOfAnUnknownOne) {
    EXPECT_THAT(usage_message([] { longbench_task("hotpot"); }),
                AllOf(HasSubstr("'hotpot'"), HasSubstr("nearest one is hotpotqa")));
}

LongBenchTask asking(const std::string& prompt, bool chat = false) {
    LongBenchTask task;
    task.name = "t";
    task.prompt = prompt;
    task.chat = chat;
    return task;
}

LongBenchRow row_of(const std::string& context, const std::string& input) {
    LongBenchRow row;
    row.context = context;
    row.input = input;
    return row;
}

TEST(LongBenchPrompt, FillsInWhatTheRowHasAndNothingMore) {
    EXPECT_EQ(
        longbench_text(asking("C: {context}\nQ: {input}{"), row_of("{input} {x}", "{context}")),
        "C: {input} {x}\nQ: {context}{");
}

// Ids: <s> 1, "▁" 4, "a" 5, "▁a" 6; BOS is put in front.
Tokenizer small() { return Tokenizer::from_json(test::small_sentencepiece().dump(), "small"); }

TEST(LongBenchPrompt, LosesItsMiddleWhereItIsTooLong) {
    const Tokenizer tokenizer = small();
    const std::string text = "aaaaa a";  // <s> ▁a a a a a ▁a
    ASSERT_THAT(tokenizer.encode(text, true), ElementsAre(1, 6, 5, 5, 5, 5, 6));
    EXPECT_EQ(without_middle(text, 7, tokenizer), text);
    // 3 from either end, and BOS is one of the first. The decoder takes the space from a half that begins with one.
    EXPECT_EQ(without_middle(text, 6, tokenizer), "aaaa a");
    EXPECT_EQ(without_middle(text, 5, tokenizer), "aa a");  // 5 / 2 from either end
    EXPECT_EQ(without_middle(text, 1, tokenizer), "");
}

// A model whose text of BOS is <s>, as Mistral's.
Tokenizer with_bos() {
    const TempFolder folder;
    folder.write("tokenizer.json", test::small_sentencepiece().dump());
    folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "a"})");
    return Tokenizer::from_folder(folder.path());
}

TEST(LongBenchPrompt, HasTheScriptsFormOfEachChat) {
    const Tokenizer tokenizer = with_bos();
    EXPECT_EQ(longbench_chat("none", " q ", tokenizer), " q ");
    EXPECT_EQ(longbench_chat("llama2", " q ", tokenizer), "[INST] q [/INST]");
    EXPECT_EQ(longbench_chat("mistral", " q ", tokenizer), "<s>[INST]  q  [/INST]");
    EXPECT_EQ(longbench_chat("llama3", " q ", tokenizer),
              "<s><|start_header_id|>user<|end_header_id|>\n\n q <|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n");
    EXPECT_EQ(longbench_chat("chatml", "q", tokenizer),
              "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n");
    EXPECT_THAT(usage_message([&] { longbench_chat("lama", "q", tokenizer); }), HasSubstr("lama"));
}

TEST(LongBenchPrompt, HasBosTwiceWhereTheChatWritesItAsTheScriptDoes) {
    const Tokenizer tokenizer = with_bos();
    const LongBenchRow row = row_of("a", "");
    LongBenchPrompting prompting{.chat = "mistral"};
    const auto count = [&](const LongBenchTask& task) {
        const auto ids = longbench_prompt(task, row, prompting, tokenizer);
        return std::ranges::count(ids, *tokenizer.bos());
    };
    EXPECT_EQ(count(asking("{context}", true)), 2);
    EXPECT_EQ(count(asking("{context}", false)), 1);
    prompting.single_bos = true;
    EXPECT_EQ(count(asking("{context}", true)), 1);
    EXPECT_EQ(count(asking("{context}", false)), 1);
}

TEST(LongBenchPrompt, IsCutBeforeTheChatIsPutAround) {
    const Tokenizer tokenizer = with_bos();
    const LongBenchRow row = row_of(std::string(100, 'a'), "");
    const auto ids = [&](int longest) {
        return longbench_prompt(asking("{context}", true), row,
                                {.chat = "llama2", .longest = longest}, tokenizer);
    };
    EXPECT_EQ(ids(0), tokenizer.encode("[INST]" + row.context + "[/INST]", true));
    EXPECT_EQ(ids(20), tokenizer.encode("[INST]" + std::string(19, 'a') + "[/INST]", true));
}

TEST(LongBenchRows, HaveWhatTheFileHas) {
    const TempFolder folder;
    const auto rows = read_longbench_rows(folder.write(
        "t.jsonl",
        R"({"input": "q", "context": "c\u00e9", "answers": ["x", "y"], "length": 3, "all_classes": null, "_idx": 1})"
        "\n \n"
        R"({"input": "", "context": "", "answers": ["z"], "length": 4, "all_classes": ["z"]})"));
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[0].input, "q");
    EXPECT_EQ(rows[0].context, "cé");
    EXPECT_EQ(rows[0].reference, (Reference{{"x", "y"}, std::nullopt, 3}));
    EXPECT_EQ(rows[1].reference, (Reference{{"z"}, std::vector<std::string>{"z"}, 4}));
    EXPECT_EQ(rows[1].line, 3);
}

TEST(Predictions, AreWrittenInTheOfficialForm) {
    EXPECT_EQ(to_line({"say \"é\"\n", {{"x"}, std::nullopt, 7}}),
              R"({"pred":"say \"é\"\n","answers":["x"],"all_classes":null,"length":7})"
              "\n");
    EXPECT_EQ(to_line({"", {{"x"}, std::vector<std::string>{"k"}, std::nullopt}}),
              R"({"pred":"","answers":["x"],"all_classes":["k"]})"
              "\n");
}

TEST(Predictions, AreReadAsTheyWereWritten) {
    const TempFolder folder;
    const Prediction written{"a\tb\\ \U0001F370", {{"x", ""}, std::vector<std::string>{"k"}, 7}};
    const auto read =
        read_predictions(folder.write("t.jsonl", to_line(written) + to_line(written)));
    ASSERT_EQ(read.size(), 2u);
    EXPECT_EQ(read[1].pred, written.pred);
    EXPECT_EQ(read[1].reference, written.reference);
}

TEST(Predictions, ThatAreBadAreRefusedByFileAndLine) {
    const TempFolder folder;
    const std::string good = to_line({"p", {{"x"}, std::nullopt, 7}});
    const auto message = [&](const std::string& text) {
        const std::string path = folder.write("t.jsonl", text);
        const std::string said = usage_message([&] { read_predictions(path); });
        EXPECT_THAT(said, StartsWith(path + ":"));
        return said.substr(path.size());
    };
    EXPECT_EQ(message(good + R"({"pred": "p", "answers": [], "all_classes": null})"),
              ":2: there are no answers to score by: 'answers' is empty");
    EXPECT_EQ(message(R"({"pred": "p", "all_classes": null})"), ":1: the key 'answers' is missing");
    EXPECT_EQ(message(R"({"answers": ["x"], "all_classes": null})"),
              ":1: the key 'pred' is missing");
    EXPECT_EQ(message(R"({"pred": "p", "answers": ["x"]})"),
              ":1: the key 'all_classes' is missing");
    EXPECT_EQ(message(R"({"pred": null, "answers": ["x"], "all_classes": null})"),
              ":1: 'pred' is no text");
    EXPECT_EQ(message(R"({"pred": "p", "answers": "x", "all_classes": null})"),
              ":1: 'answers' is no list of texts");
    EXPECT_EQ(message(R"({"pred": "p", "answers": [3], "all_classes": null})"),
              ":1: 'answers' holds something else than texts");
    EXPECT_EQ(message(R"({"pred": "p", "answers": ["x"], "all_classes": null, "length": "7"})"),
              ":1: 'length' is no whole number");
    EXPECT_EQ(message("[1]\n"), ":1: the line is no JSON object");
    EXPECT_THAT(message(good + "{\"pred\": \n" + good), StartsWith(":2:"));
    EXPECT_EQ(message("\n"), ": there is no row in this file");
    EXPECT_EQ(message(""), ": there is no row in this file");
    EXPECT_THAT(message(good + good.substr(0, 12)), StartsWith(":2: the last line is cut short"));
}

TEST(Predictions, NeedNoLineBreakAtTheirEnd) {
    const TempFolder folder;
    std::string line = to_line({"p", {{"x"}, std::nullopt, 7}});
    line.pop_back();
    EXPECT_EQ(read_predictions(folder.write("t.jsonl", line)).size(), 1u);
}

TEST(Predictions, AreNotReadWhileAJobWritesThem) {
    const TempFolder folder;
    const std::string path = folder.write("t.jsonl", to_line({"p", {{"x"}, std::nullopt, 7}}));
    const int job = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(::flock(job, LOCK_EX), 0);
    EXPECT_EQ(usage_message([&] { read_predictions(path); }),
              path + ": a job is writing to this file; wait until it has ended");
    ::close(job);
    EXPECT_EQ(read_predictions(path).size(), 1u);
}

TEST(Predictions, ComeFromAFile) {
    const TempFolder folder;
    EXPECT_THAT(usage_message([&] { read_predictions(folder.path()); }), HasSubstr("is a folder"));
    EXPECT_THAT(usage_message([&] { read_predictions(folder.file("no")); }),
                HasSubstr("cannot be opened"));
}

}  // namespace
}  // namespace cake
