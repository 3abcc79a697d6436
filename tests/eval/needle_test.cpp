// Needles in a haystack: prompts, where the needles lie in them, and scores.
#include "eval/needle.h"

#include <regex>
#include <set>

#include <gmock/gmock.h>

#include "eval/needle_scores.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"
#include "text/small_tokenizers.h"

namespace cake {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

// Numbered sentences of 21 to 23 bytes.
std::string numbered(int n) {
    std::string out;
    for (int i = 0; i < n; ++i)
        out += "This is sentence " + std::to_string(i) + ".\n";
    return out;
}

class Needles : public testing::Test {
protected:
    Tokenizer tokenizer = Tokenizer::from_json(test::byte_tokenizer().dump(), "tokenizer.json");
    NeedleStudy study{"none", 0, tokenizer};

    std::string text_of(const NeedlePrompt& prompt) const {
        return tokenizer.decode(prompt.tokens, false);
    }
    NeedlePrompt prompt(const NeedleCase& which, int sentences = 400) const {
        const std::vector<std::string> texts{numbered(sentences)};
        return needle_prompts({&which, 1}, texts, study).front();
    }
};

TEST(Sentences, EndAtTheirMarksAndAtBlankLines) {
    EXPECT_THAT(sentences_of("CHAPTER I\n \nIt was  \n late. \"Why?\" he\tasked. So"),
                ElementsAre("CHAPTER I", "It was late.", "\"Why?\"", "he asked.", "So"));
    EXPECT_THAT(sentences_of("Mr. Ray paid 3.50! (All of it.) “Él.” End"),
                ElementsAre("Mr. Ray paid 3.50!", "(All of it.)", "“Él.”", "End"));
    EXPECT_TRUE(sentences_of(" \n\n ").empty());
}

TEST(Sentences, OfATextWithoutMarksAreCutAtSpacesAndBetweenCharacters) {
    std::string words, letters;
    for (int i = 0; i < 600; ++i)
        words += "word ";
    for (int i = 0; i < 1500; ++i)
        letters += "é";
    const auto of_words = sentences_of(words);
    EXPECT_THAT(of_words, testing::SizeIs(3));
    EXPECT_THAT(of_words[0], EndsWith("word"));
    const auto of_letters = sentences_of(letters);
    ASSERT_THAT(of_letters, testing::SizeIs(2));
    EXPECT_EQ(of_letters[0].size(), 2000u);
    EXPECT_EQ(of_letters[0] + of_letters[1], letters);
}

TEST(Places, AreTheNearestEndsOfSentencesByTokens) {
    const std::vector<int> tokens{10, 10, 60, 20};  // ends at 0, 10, 20, 80, 100
    EXPECT_THAT(needle_places(tokens, 0, 1), ElementsAre(0));
    EXPECT_THAT(needle_places(tokens, 14, 1), ElementsAre(1));
    EXPECT_THAT(needle_places(tokens, 49, 1), ElementsAre(2));
    EXPECT_THAT(needle_places(tokens, 51, 1), ElementsAre(3));
    EXPECT_THAT(needle_places(tokens, 100, 1), ElementsAre(4));
    EXPECT_THAT(needle_places(tokens, 0, 5), ElementsAre(0, 2, 2, 3, 3));  // 0, 20, 40, 60, 80 %
    EXPECT_THAT(needle_places(tokens, 60, 2), ElementsAre(3, 3));          // 60, 80 %
    EXPECT_THAT(needle_places(tokens, 100, 2), ElementsAre(4, 4));
    EXPECT_THAT(needle_places({}, 50, 2), ElementsAre(0, 0));
}

TEST_F(Needles, AskAsRulerDoes) {
    const NeedlePrompt one = prompt({"single", 700, 50, 1, 0});
    const Fact fact = make_facts(one.which, 0)[0];
    EXPECT_THAT(fact.value, testing::MatchesRegex("[1-9][0-9]{6}"));
    EXPECT_THAT(one.answers, ElementsAre(fact.value));
    const std::string text = text_of(one);
    EXPECT_THAT(text, StartsWith("A special magic number is hidden within the following text. Make "
                                 "sure to memorize it. I will quiz you about the number "
                                 "afterwards.\nThis is sentence "));
    EXPECT_THAT(text, HasSubstr(". One of the special magic numbers for " + fact.key +
                                " is: " + fact.value + ". This is sentence "));
    EXPECT_THAT(text, EndsWith(".\nWhat is the special magic number for " + fact.key +
                               " mentioned in the provided text? The special magic number for " +
                               fact.key + " mentioned in the provided text is"));
}

TEST_F(Needles, OfSeveralAreAllAskedFor) {
    const NeedlePrompt three = prompt({"multi", 1200, 0, 3, 0});
    const std::vector<Fact> facts = make_facts(three.which, 0);
    ASSERT_EQ(facts.size(), 3u);
    const std::string text = text_of(three);
    EXPECT_THAT(text, StartsWith("Some special magic numbers are hidden within"));
    const std::string query = facts[0].key + ", " + facts[1].key + ", and " + facts[2].key;
    EXPECT_THAT(text, EndsWith("What are all the special magic numbers for " + query +
                               " mentioned in the provided text? The special magic numbers for " +
                               query + " mentioned in the provided text are"));
    std::size_t at = 0;
    for (const Fact& fact : facts) {
        const std::size_t found = text.find(fact_sentence("number", fact.key, fact.value));
        ASSERT_NE(found, text.npos);
        EXPECT_GE(found, at);
        at = found;
    }
    EXPECT_THAT(three.answers, ElementsAre(facts[0].value, facts[1].value, facts[2].value));
}

TEST_F(Needles, FillTheirLengthToWithinASentence) {
    for (int length : {500, 640, 2000, 4711})
        for (int depth : {0, 50, 100}) {
            const auto n = int(prompt({"single", length, depth, 1, 0}).tokens.size());
            EXPECT_LE(n, length);
            EXPECT_GT(n, length - 24) << depth;
        }
}

TEST_F(Needles, LieAtTheirDepth) {
    for (int depth : {0, 25, 50, 75, 100}) {
        const std::string text = text_of(prompt({"single", 3000, depth, 1, 0}));
        const double begin = double(text.find('\n') + 1), end = double(text.rfind('\n'));
        const double needle = double(text.find("One of the special magic"));
        const auto sentence = double(text.find('.', std::size_t(needle)) + 1) - needle;
        // Of the haystack without the needle.
        EXPECT_NEAR(100 * (needle - begin) / (end - begin - sentence), depth, 100 * 12.0 / 2500);
    }
}

TEST_F(Needles, AreTheSameForASeedAndOtherForAnother) {
    const NeedleCase which{"single", 900, 25, 1, 3};
    const NeedlePrompt here = prompt(which);
    EXPECT_EQ(prompt(which).tokens, here.tokens);
    const NeedlePrompt other_trial = prompt({"single", 900, 25, 1, 4});
    EXPECT_NE(other_trial.answers, here.answers);
    study.seed = 1;
    const NeedlePrompt other_seed = prompt(which);
    EXPECT_NE(other_seed.answers, here.answers);
    EXPECT_NE(other_seed.tokens, here.tokens);
}

TEST_F(Needles, OfATrialAreTheSameAtAnyLengthAndDepth) {
    EXPECT_EQ(prompt({"single", 900, 25, 1, 3}).answers,
              prompt({"single", 2000, 75, 1, 3}).answers);
    // What the seed draws is part of what a score means.
    EXPECT_EQ(make_facts({"single", 0, 0, 1, 0}, 0)[0].value, "4451071");
}

TEST_F(Needles, FactsAreAllDifferent) {
    for (const char* form : {"multi", "kv"}) {
        std::set<std::string> keys, values;
        for (const Fact& fact : make_facts({form, 0, 0, 100, 0}, 7)) {
            keys.insert(fact.key);
            values.insert(fact.value);
        }
        EXPECT_EQ(keys.size(), 100u);
        EXPECT_EQ(values.size(), 100u);
    }
}

TEST_F(Needles, OfTheKeyValueFormLieAmongOthersLikeThem) {
    const NeedlePrompt kv = prompt({"kv", 2000, 50, 1, 0});
    EXPECT_LE(kv.tokens.size(), 2000u);
    EXPECT_GT(kv.tokens.size(), 2000u - 120);
    const std::string text = text_of(kv);
    const std::string uuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
    const std::regex line("\nOne of the special magic uuids for (" + uuid + ") is: (" + uuid +
                          ")\\.(?=\n)");
    std::map<std::string, std::string> values;
    for (std::sregex_iterator i(text.begin(), text.end(), line), end; i != end; ++i)
        values[(*i)[1]] = (*i)[2];
    EXPECT_GE(values.size(), 10u);
    const std::regex question("What is the special magic uuid for (" + uuid + ") mentioned");
    std::smatch asked;
    ASSERT_TRUE(std::regex_search(text, asked, question));
    EXPECT_THAT(kv.answers, ElementsAre(values[asked[1]]));
}

TEST_F(Needles, GoThroughTheChatTemplateWithTheBeginningOfTheAnswerBehindIt) {
    study.chat = "chatml";
    const std::string text = text_of(prompt({"single", 900, 0, 1, 0}));
    EXPECT_THAT(text, HasSubstr("<|im_start|>user\nA special magic number"));
    EXPECT_THAT(text, HasSubstr("provided text?<|im_end|>\n<|im_start|>assistant\n The special "
                                "magic number for "));
    EXPECT_THAT(text, EndsWith(" mentioned in the provided text is"));
}

TEST_F(Needles, ThatHaveNoRoomOrTooShortATextAreRefused) {
    EXPECT_THAT(usage_message([&] {
                    prompt({"single", 200, 0, 1, 0});
                }),
                HasSubstr("a prompt of 200 tokens has no room"));
    EXPECT_THAT(usage_message([&] {
                    prompt({"single", 1000, 0, 1, 0}, 10);
                }),
                HasSubstr("the text is too short for a prompt of 1000 tokens"));
    EXPECT_THAT(usage_message([&] {
                    prompt({"single", 1000, 0, 1, 0}, 0);
                }),
                HasSubstr("too short"));
}

TEST(NeedleCases, AreAllCombinationsOnce) {
    RunConfig::Eval eval;
    eval.lengths = {1000, 2000, 1000};
    eval.depths = {0, 100};
    eval.needles = {1, 3};
    eval.trials = 2;
    const auto cases = needle_cases(eval);
    EXPECT_EQ(cases.size(), 16u);
    EXPECT_EQ(cases[0].id(), "single/1000/1/0/0");
    EXPECT_EQ(cases[7].id(), "multi/1000/3/100/1");
    eval.form = "kv";
    EXPECT_EQ(needle_cases(eval)[15].id(), "kv/2000/3/100/1");
}

TEST(PartFound, CountsWhatTheTextContains) {
    const std::vector<std::string> two{"1234567", "7654321"};
    EXPECT_EQ(part_found(" 1234567 and 7654321.", two), 1);
    EXPECT_EQ(part_found("it is 7654321", two), 0.5);
    EXPECT_EQ(part_found("123456 7 and 765432", two), 0);
    EXPECT_EQ(part_found("", two), 0);
    const std::vector<std::string> uuid{"AB-Éc"};
    EXPECT_EQ(part_found("xab-ÉCx", uuid), 1);
}

TEST_F(Needles, RowsOfRulerAreTakenAsTheyAre) {
    const TempFolder folder;
    const auto rows = read_ruler_rows(folder.write(
        "t.jsonl",
        R"({"index": 0, "input": "What is k? It is", "outputs": ["v", "w"], "length": 9})"
        "\n\n"
        R"({"input": "b", "outputs": ["c"]})"));
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[1].line, 3);
    const NeedlePrompt plain = ruler_prompt(rows[0], study);
    EXPECT_EQ(text_of(plain), "What is k? It is");
    EXPECT_THAT(plain.answers, ElementsAre("v", "w"));
    EXPECT_EQ(plain.which.needles, 2);
    EXPECT_EQ(plain.which.length, 16);
    EXPECT_EQ(plain.which.id(), "row/1");
    study.chat = "chatml";
    EXPECT_THAT(text_of(ruler_prompt(rows[0], study)),
                EndsWith("<|im_start|>user\nWhat is k? It is<|im_end|>\n<|im_start|>assistant\n"));
}

TEST(RulerRows, ThatAreBadAreRefusedByFileAndLine) {
    const TempFolder folder;
    const std::string good = R"({"input": "a", "outputs": ["b"]})"
                             "\n";
    const auto message = [&](const std::string& text) {
        const std::string path = folder.write("t.jsonl", text);
        const std::string said = usage_message([&] { read_ruler_rows(path); });
        EXPECT_THAT(said, StartsWith(path + ":"));
        return said.substr(path.size());
    };
    EXPECT_EQ(message(good + R"({"input": "a"})"), ":2: the key 'outputs' is missing");
    EXPECT_EQ(message(R"({"input": "a", "outputs": []})"),
              ":1: there is nothing to find: 'outputs' is empty");
    EXPECT_EQ(message(R"({"input": "a", "outputs": "b"})"), ":1: 'outputs' is no list of texts");
    EXPECT_EQ(message(R"({"outputs": ["b"]})"), ":1: the key 'input' is missing");
    EXPECT_EQ(message("\n"), ": there is no row in this file");
    EXPECT_THAT(message(good + good.substr(0, 9)), StartsWith(":2: the last line is cut short"));
}

TEST(NeedleScores, AreMeansOverTrials) {
    const auto asked = [](int depth, int trial, std::vector<std::string> answers) {
        return NeedlePrompt{{"single", 1000, depth, 1, trial}, {}, std::move(answers)};
    };
    const std::vector<NeedlePrompt> prompts{asked(0, 0, {"7"}), asked(0, 1, {"8"}),
                                            asked(50, 0, {"7"}), asked(50, 1, {"8"})};
    Policy cake;
    cake.name = "cake";
    cake.share = Share::Preference;
    cake.cache_size = 256;
    const std::map<std::string, std::string> answers{{"single/1000/1/0/0", "it is 7"},
                                                     {"single/1000/1/0/1", "it is 7"},
                                                     {"single/1000/1/50/1", "8"}};
    std::vector<NeedleScore> scores = needle_scores(cake, prompts, answers);
    std::ranges::copy(needle_scores({}, prompts, {}), std::back_inserter(scores));
    EXPECT_EQ(needle_csv(scores),
              "policy,cache_size,form,length,depth,needles,trials,score\n"
              "cake,256,single,1000,0,1,2,0.500000\n"
              "cake,256,single,1000,50,1,1,1.000000\n");
    EXPECT_EQ(needle_table(scores),
              "| policy | C | form | needles | length | 0 % deep | 50 % deep | mean |\n"
              "|---|--:|---|--:|--:|--:|--:|--:|\n"
              "| cake | 256 | single | 1 | 1000 | 50.0 | 100.0 | 75.0 |\n");
}

TEST(NeedleScores, OfADataFileHaveNoDepth) {
    const auto row = [](int length, int line) {
        return NeedlePrompt{{"kv", length, std::nullopt, 1, line}, {}, {"x"}};
    };
    const std::vector<NeedlePrompt> prompts{row(30, 1), row(40, 2), row(35, 3), row(36, 4)};
    const auto scores =
        needle_scores({}, prompts, {{"row/1", "X"}, {"row/2", "y"}, {"row/3", "z"}, {"row/4", ""}});
    EXPECT_EQ(needle_csv(scores),
              "policy,cache_size,form,length,depth,needles,trials,score\n"
              "full,0,kv,40,,1,4,0.250000\n");
    EXPECT_THAT(needle_table(scores), EndsWith("| full | - | kv | 1 | 40 | 25.0 | 25.0 |\n"));
}

}  // namespace
}  // namespace cake
