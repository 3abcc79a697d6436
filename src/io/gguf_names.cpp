#include "io/gguf_names.h"

#include <algorithm>
#include <array>
#include <utility>

#include "io/file_error.h"

namespace cake {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// Source: https://github.com/ggml-org/llama.cpp, gguf-py/gguf/tensor_mapping.py
constexpr std::array<Pair, 3> whole_names = {{
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
}};

constexpr std::array<Pair, 11> block_names = {{
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
}};

template <std::size_t n>
std::string_view look_up(const std::array<Pair, n>& table, std::string_view name) {
    const auto at = std::find_if(table.begin(), table.end(),
                                 [&](const Pair& pair) { return pair.first == name; });
    return at == table.end() ? std::string_view{} : at->second;
}

struct BlockName {
    std::string_view number, part, suffix;  // "3", "attn_q", ".weight"
};

// "blk.3.attn_q.weight" taken apart; an empty number where the name is of another form.
BlockName take_apart(std::string_view name) {
    constexpr std::string_view prefix = "blk.";
    if (!name.starts_with(prefix))
        return {};
    name.remove_prefix(prefix.size());
    const std::size_t dot = name.find('.');
    const std::size_t last = name.rfind('.');
    if (dot == std::string_view::npos || dot == last || dot == 0 ||
        name.substr(0, dot).find_first_not_of("0123456789") != std::string_view::npos)
        return {};
    return {name.substr(0, dot), name.substr(dot + 1, last - dot - 1), name.substr(last)};
}

}  // namespace

std::string hugging_face_name(std::string_view gguf_name) {
    if (const auto whole = look_up(whole_names, gguf_name); !whole.empty())
        return std::string(whole);
    const BlockName block = take_apart(gguf_name);
    const std::string_view part = look_up(block_names, block.part);
    if (block.number.empty() || part.empty())
        return std::string(gguf_name);
    return fmt::format("model.layers.{}.{}{}", block.number, part, block.suffix);
}

std::int64_t interleaved_head(const GgufFile& metadata, std::string_view name, const Shape& shape) {
    const BlockName block = take_apart(name);
    const bool q = block.part == "attn_q";
    if (block.number.empty() || !(q || block.part == "attn_k"))
        return 0;
    if (metadata.string("general.architecture") != "llama")
        return 0;
    auto heads = metadata.integer("llama.attention.head_count");
    if (!q)
        if (const auto kv = metadata.integer("llama.attention.head_count_kv"))
            heads = kv;
    const std::string& file = metadata.file().path();
    if (!heads)
        throw usage_error("{}: llama.attention.head_count is missing; convert the model again",
                          file);
    if (*heads < 1 || shape[0] % *heads != 0 || shape[0] / *heads % 2 != 0)
        throw damaged(file, "tensor {} {} does not split into {} heads of even size", quote(name),
                      shape.str(), *heads);
    return shape[0] / *heads;
}

}  // namespace cake
