#include "config/yaml_text.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>
#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>

#include "base/error.h"

namespace cake {
namespace {

// A configuration is a page of text. yaml-cpp is not made for hostile megabytes.
constexpr std::size_t most_bytes = 1 << 20;
constexpr int most_depth = 32;

// YAML has no place for control characters, and yaml-cpp takes some of them for the end of the
// file.
void refuse_control_characters(const std::string& text, const YamlSource& source) {
    int line = 0;
    for (const char c : text) {
        line += c == '\n';
        if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t')
            throw usage_error("{}: this is not YAML: a byte of value {}", source.at_line(line),
                              int(c));
    }
}

// Listens to the parser before any node is built. yaml-cpp 0.7 makes documents without end of a
// text that begins with a comma, so the second one ends the reading.
class Extent final : public YAML::EventHandler {
public:
    explicit Extent(const YamlSource& source) : source_(source) {}

    void OnDocumentStart(const YAML::Mark& mark) override {
        if (++documents_ > 1)
            throw usage_error("{}: a second YAML document begins here; a configuration is one",
                              source_.at(mark));
    }
    void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                         YAML::EmitterStyle::value) override {
        enter(mark);
    }
    void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                    YAML::EmitterStyle::value) override {
        enter(mark);
    }
    void OnSequenceEnd() override { --depth_; }
    void OnMapEnd() override { --depth_; }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
    void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
    void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  const std::string&) override {}

private:
    void enter(const YAML::Mark& mark) {
        if (++depth_ > most_depth)
            throw usage_error("{}: maps or lists are nested deeper than {}", source_.at(mark),
                              most_depth);
    }

    const YamlSource& source_;
    int documents_ = 0;
    int depth_ = 0;
};

}  // namespace

std::string YamlSource::at_line(int line) const {
    return has_lines && line >= 0 ? fmt::format("{}:{}", name, line + 1) : name;
}

std::string yaml_file_text(const std::string& path) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        throw usage_error("{}: this is a folder, and must be a YAML file", path);
    std::ifstream file(path, std::ios::binary);
    if (!file)
        throw usage_error("{}: cannot be opened: {}", path, std::generic_category().message(errno));
    std::string text(std::size_t(2) << 20, '\0');  // more than parse_yaml takes
    file.read(text.data(), std::streamsize(text.size()));
    text.resize(std::size_t(file.gcount()));
    if (file.bad())
        throw usage_error("{}: cannot be read", path);
    return text;
}

YAML::Node parse_yaml(const std::string& text, const YamlSource& source) {
    if (text.size() > most_bytes)
        throw usage_error("{}: more than {} bytes are not a configuration", source.name,
                          most_bytes);
    refuse_control_characters(text, source);
    try {
        Extent extent(source);
        std::istringstream stream(text);
        YAML::Parser parser(stream);
        while (parser.HandleNextDocument(extent)) {
        }
        return YAML::Load(text);
    } catch (const YAML::Exception& error) {
        throw usage_error("{}: this is not YAML: {}", source.at(error.mark), error.msg);
    }
}

bool is_utf8(const std::string& text) {
    try {  // JSON's writer is asked rather than a second judge
        return !nlohmann::json(text).dump().empty();
    } catch (const nlohmann::json::exception&) {
        return false;
    }
}

}  // namespace cake
