// Fidelity in files and tables.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "eval/fidelity.h"

namespace cake {

// As a line of fidelity.jsonl holds it; the other way round, usage errors name the file.
nlohmann::json to_json(const TextFidelity& text);
TextFidelity fidelity_of(const nlohmann::json& row, const std::string& file);

// CSV, columns as docs/interface.md has them: a line per text and policy; per position; per layer.
std::string fidelity_csv(std::span<const TextFidelity> texts);
std::string positions_csv(std::span<const TextFidelity> texts);
std::string layers_csv(std::span<const TextFidelity> texts);

// One policy after prompts of one length: means over texts.
struct FidelityMeans {
    std::string policy;
    int cache_size = 0, prompt_tokens = 0, texts = 0;
    double kept_percent = 0, kl_mean = 0, kl_p99 = 0, top1_agreement = 0, perplexity = 0,
           perplexity_full = 0, attention_error = 0;
};
// In the order in which they first come.
std::vector<FidelityMeans> means_over_texts(std::span<const TextFidelity> texts);
nlohmann::json to_json(const FidelityMeans& means);
// For people, in Markdown.
std::string fidelity_table(std::span<const FidelityMeans> means);

}  // namespace cake
