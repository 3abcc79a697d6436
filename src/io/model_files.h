// The files of a model, as ranks on different hosts compare their copies.
#pragma once

#include <map>
#include <string>

namespace cake {

// By file name: "F bytes, digest D". The digest is of a weight file's header (names, types and places of tensors; of GGUF
// the metadata too), and of the whole of all other files of a folder that decide an answer: config.json,
// generation_config.json, the tokenizer's. `path`: as Checkpoint::open takes it, or a config.json alone. Usage errors as
// there.
std::map<std::string, std::string> describe_model_files(const std::string& path);

}  // namespace cake
