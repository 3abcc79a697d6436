// YAML out of files that may hold any bytes.
#pragma once

#include <string>

#include <yaml-cpp/yaml.h>

namespace cake {

// Where YAML comes from, for messages: a file with lines, or a flag.
struct YamlSource {
    std::string name;
    bool has_lines = false;

    std::string at_line(int line) const;  // "FILE:LINE"; `line` counts from 0, negative: unknown
    std::string at(const YAML::Mark& mark) const { return at_line(mark.line); }
};

// The text of a file. Usage errors: a folder, or it cannot be read.
std::string yaml_file_text(const std::string& path);

// The one document of a text; a null node where there is none. Nodes may be shared and even contain
// themselves, by anchors and aliases: walk only as deep as you know your keys. Usage errors: not
// YAML, more than one document, more than 1 MiB, nested deeper than 32.
YAML::Node parse_yaml(const std::string& text, const YamlSource& source);

// Reports are JSON, whose texts are UTF-8.
bool is_utf8(const std::string& text);

}  // namespace cake
