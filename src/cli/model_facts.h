// What can be said of a model without reading its weights.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace cake {

// `path`: a Hugging Face folder, its config.json alone, or a .gguf file. Usage errors name the
// file. `tensors` and `tokenizer` are null where there are none; a tokenizer that cannot be read is
// an `error` in its place.
nlohmann::json model_facts(const std::string& path);

}  // namespace cake
