// Jobs and results of a batch: one JSON object per line. docs/interface.md, "Jobs and results".
#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/dtype.h"

namespace cake {

// What is not set comes from the configuration. Either a prompt or tokens.
struct Job {
    std::string id;  // no two jobs of a reader have the same
    std::string prompt;
    std::optional<std::vector<TokenId>> tokens;
    std::optional<int> max_new_tokens;
    std::optional<std::vector<std::string>> stop;
    std::optional<std::int64_t> seed;
    std::optional<double> temperature;
    std::int64_t line = 0;  // of the file, from 1
    std::string error;      // what is wrong with the line, which is named; empty: nothing
};

// A line, and how it ended.
struct TextLine {
    std::string text;  // without its newline; empty where the line is too long
    bool terminated = false;
    bool too_long = false;
    std::int64_t bytes = 0;  // its newline included
};

// The next line; false at the end. A line of more than `most` bytes is passed over without being held in memory.
// Throws where the stream breaks.
bool next_line(std::istream& in, const std::string& name, std::size_t most, TextLine& line);

// Reads jobs as they are asked for; holds one line and the ids so far.
class JobReader {
public:
    static constexpr std::size_t most_line_bytes = std::size_t(16) << 20;

    // "-" is standard input. Usage error where the file cannot be opened.
    explicit JobReader(const std::string& path);
    // `name` is what messages call it; `in` must outlive the reader.
    JobReader(std::istream& in, std::string name);

    const std::string& name() const { return name_; }  // as messages call the file

    // The next job, nothing at the end. Lines of white space are passed over. A line that is no job becomes a job with
    // an error, and its own id, where it has one that no line before had, else "line N".
    std::optional<Job> next();

private:
    Job read(const TextLine& line);
    void take_id(const nlohmann::json& object, Job& job);

    std::unique_ptr<std::istream> file_;
    std::istream* in_;
    std::string name_;
    std::int64_t n_lines_ = 0;
    std::unordered_set<std::string> ids_;
};

// Appends results, a line each, to a file that one job writes at a time. A line carries "config", the digest of the
// configuration that it was made with.
class ResultWriter {
public:
    // "-" is standard output, where nothing is done yet. A file is created, or read: lines with an id and a digest are done; a last
    // line without an end was cut short and is removed, so that its job is done again. Usage errors: the file is no
    // file of results, it is locked by another job, or it holds results of another digest (not with `append_anyway`).
    // Then it is left as it was.
    ResultWriter(std::string path, std::string config_digest, bool append_anyway = false);
    ~ResultWriter();
    ResultWriter(const ResultWriter&) = delete;
    ResultWriter& operator=(const ResultWriter&) = delete;

    // One whole line by one system call, "config" put in front. It is with the system when this returns: the end of
    // this process loses nothing. Throws where it cannot be written (a full disk), after removing what was.
    void write(const nlohmann::json& result);

    bool done(const std::string& id) const { return done_.contains(id); }
    std::size_t n_done() const { return done_.size(); }
    std::size_t n_failed() const { return n_failed_; }  // of them with an error

private:
    void take_over(bool append_anyway);
    void append(std::string_view line);

    std::string path_, digest_;
    int file_ = -1;
    bool regular_ = false;  // else a terminal, a pipe, a device: nothing to read, lock or cut
    std::unordered_set<std::string> done_;
    std::size_t n_failed_ = 0;
};

}  // namespace cake
