#include "text/stop.h"

#include <gtest/gtest.h>

namespace cake::test {
namespace {

// What comes out of pieces, in one string, and whether it stopped.
std::pair<std::string, bool> through(std::vector<std::string> stops,
                                     const std::vector<std::string>& pieces) {
    StopMatcher matcher(std::move(stops));
    std::string out;
    for (const std::string& piece : pieces)
        out += matcher.next(piece);
    return {out + matcher.finish(), matcher.stopped()};
}

TEST(StopMatcher, EndsBeforeAStopString) {
    EXPECT_EQ(through({"END"}, {"one END two"}), std::pair(std::string("one "), true));
    EXPECT_EQ(through({"END"}, {"one two"}), std::pair(std::string("one two"), false));
}

TEST(StopMatcher, FindsAStopStringAcrossPieces) {
    EXPECT_EQ(through({"\n\nQ:"}, {"a\n", "\n", "Q", ": more"}), std::pair(std::string("a"), true));
    EXPECT_EQ(through({"aab"}, {"a", "a", "a", "b", "c"}), std::pair(std::string("a"), true));
}

TEST(StopMatcher, GivesBackWhatOnlyLookedLikeOne) {
    EXPECT_EQ(through({"END"}, {"EN", "D", "x"}).first, "");
    EXPECT_EQ(through({"END"}, {"EN", "ding"}), std::pair(std::string("ENding"), false));
    EXPECT_EQ(through({"END"}, {"EN"}), std::pair(std::string("EN"), false));
}

TEST(StopMatcher, TakesTheFirstOfSeveral) {
    EXPECT_EQ(through({"two", "one"}, {"zero one two"}), std::pair(std::string("zero "), true));
    EXPECT_EQ(through({"", "x"}, {"ab"}), std::pair(std::string("ab"), false))
        << "an empty one is none";
}

TEST(StopMatcher, HoldsBackNoMoreThanItMust) {
    StopMatcher matcher({"END"});
    EXPECT_EQ(matcher.next("abcE"), "abc");
    EXPECT_EQ(matcher.next("x"), "Ex");
}

}  // namespace
}  // namespace cake::test
