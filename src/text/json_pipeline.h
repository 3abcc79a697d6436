// The steps around a tokenizer.json's model.
#pragma once

#include <nlohmann/json.hpp>

#include "text/tokenizer_spec.h"

namespace cake {

// Reads normalizer, pre_tokenizer, post_processor and decoder of `file` into `spec`, whose vocabulary is there
// already. Usage errors name a step that is not supported, and those that are.
void read_pipeline(const nlohmann::json& file, const std::string& name, TokenizerSpec& spec);

}  // namespace cake
