// Tokenizers in GGUF metadata.
//
//   tokenizer.ggml.model        "gpt2": byte-level BPE with merges; "llama": SentencePiece BPE with scores
//   tokenizer.ggml.pre          which pre-tokenizer a gpt2 model uses, by name only
//   tokenizer.ggml.tokens       texts by id
//   tokenizer.ggml.token_type   by id: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
//   tokenizer.ggml.merges       "left right", best first
//   tokenizer.ggml.scores       by id, the higher the earlier a token is merged
//   tokenizer.ggml.{bos,eos,eot,eom,unknown}_token_id, .add_bos_token, .add_eos_token, .add_space_prefix
//   tokenizer.chat_template     Jinja
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "io/file_error.h"
#include "io/gguf.h"
#include "text/tokenizer_spec.h"
#include "text/utf8.h"

namespace cake {

namespace {

enum TokenType : std::int64_t { Normal = 1, Unknown = 2, Control = 3, UserDefined = 4 };

// The longest token of a SentencePiece vocabulary in bytes; its trainer's limit is far lower.
constexpr std::size_t longest_piece_bytes = 1024;

struct Reader {
    const GgufFile& gguf;

    const std::string& name() const { return gguf.file().path(); }
    const std::vector<std::string>& required_strings(std::string_view key) const {
        const auto* found = gguf.strings(key);
        if (!found)
            throw usage_error("{}: no {}, thus no tokenizer", name(), key);
        return *found;
    }
    std::optional<TokenId> id(std::string_view key, const Vocabulary& vocabulary) const {
        const auto value = gguf.integer(key);
        if (!value)
            return std::nullopt;
        if (*value < 0 || *value >= vocabulary.size())
            throw usage_error("{}: {} is {}, but there are {} tokens", name(), key, *value,
                              vocabulary.size());
        return TokenId(*value);
    }
};

struct PreTokenizerRow {
    std::string_view name;  // as llama.cpp's converter writes it
    const char* pattern;    // null: GPT-2's
    bool digits = false;    // digits are cut off one by one first
    bool nfc = false;
    bool llama3 = false;  // ignore_merges, and BOS unless told otherwise
};

// The patterns are those of the models' own tokenizer.json.
constexpr const char* llama3_pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* qwen2_pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

constexpr std::array pre_tokenizer_rows = {
    PreTokenizerRow{"gpt-2", nullptr},
    PreTokenizerRow{"smollm", nullptr, /*digits=*/true},
    PreTokenizerRow{"llama-bpe", llama3_pattern, false, false, /*llama3=*/true},
    PreTokenizerRow{"qwen2", qwen2_pattern, false, /*nfc=*/true},
    PreTokenizerRow{"deepseek-r1-qwen", qwen2_pattern, false, /*nfc=*/true},
};

const PreTokenizerRow& pre_tokenizer_named(const std::string& name, const std::string& file) {
    std::string known;
    for (const PreTokenizerRow& row : pre_tokenizer_rows) {
        if (row.name == name)
            return row;
        known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
    }
    throw usage_error("{}: tokenizer.ggml.pre is {}; supported are {}", file, quote(name), known);
}

void read_tokens(const Reader& in, TokenizerSpec& spec) {
    const auto& tokens = in.required_strings("tokenizer.ggml.tokens");
    spec.vocabulary = Vocabulary(tokens.size(), in.name());
    for (std::size_t id = 0; id < tokens.size(); ++id)
        spec.vocabulary.add(TokenId(id), tokens[id]);

    const auto* types = in.gguf.integers("tokenizer.ggml.token_type");
    if (!types)
        return;
    if (types->size() != tokens.size())
        throw usage_error("{}: {} tokens, but {} token types", in.name(), tokens.size(),
                          types->size());
    for (std::size_t id = 0; id < tokens.size(); ++id) {
        const std::int64_t type = (*types)[id];
        if (type != Unknown && type != Control && type != UserDefined)
            continue;
        AddedToken token;
        token.id = TokenId(id);
        token.text = tokens[id];
        token.special = type != UserDefined;
        spec.added.push_back(std::move(token));
    }
}

// Byte-level BPE. Returns whether BOS is added where the file does not say.
bool read_gpt2(const Reader& in, TokenizerSpec& spec) {
    const std::string pre = in.gguf.string("tokenizer.ggml.pre").value_or("");
    const PreTokenizerRow& row = pre_tokenizer_named(pre, in.name());
    if (row.nfc)
        spec.normalizer.emplace_back(NormalForm::Nfc);
    if (row.digits)
        spec.pre_tokenizer.emplace_back(digits_step(true));
    spec.pre_tokenizer.emplace_back(row.pattern ? SplitStep{Pattern(row.pattern)} : gpt2_step());
    spec.bpe.byte_level = spec.decoder.byte_level = true;
    spec.bpe.ignore_merges = row.llama3;
    for (const std::string& merge : in.required_strings("tokenizer.ggml.merges"))
        add_merge(spec, merge, in.name());
    spec.kind = fmt::format("byte-level BPE ({})", row.name);
    return row.llama3;
}

// SentencePiece has no list of merges: any two tokens merge whose union is a token, that of the highest score first.
void find_merges(const Reader& in, TokenizerSpec& spec) {
    const auto& tokens = in.required_strings("tokenizer.ggml.tokens");
    const auto* scores = in.gguf.numbers("tokenizer.ggml.scores");
    if (!scores || scores->size() != tokens.size())
        throw usage_error("{}: {} tokens, but {} scores (tokenizer.ggml.scores)", in.name(),
                          tokens.size(), scores ? scores->size() : 0);
    std::vector<bool> is_added(tokens.size(), false);
    for (const AddedToken& token : spec.added)
        is_added[std::size_t(token.id)] = true;

    std::vector<TokenId> by_score;
    for (TokenId id = 0; id < spec.vocabulary.size(); ++id) {
        const double score = (*scores)[std::size_t(id)];
        if (std::isnan(score))
            throw usage_error("{}: the score of token {} is not a number", in.name(), id);
        if (!is_added[std::size_t(id)])
            by_score.push_back(id);
    }
    const auto score_of = [&](TokenId id) { return (*scores)[std::size_t(id)]; };
    std::ranges::stable_sort(by_score, std::greater<>{}, score_of);

    std::uint32_t rank = 0;
    for (std::size_t i = 0; i < by_score.size(); ++i) {
        const TokenId id = by_score[i];
        if (i > 0 && score_of(id) < score_of(by_score[i - 1]))
            ++rank;
        const std::string_view text = spec.vocabulary.text(id);
        if (text.size() > longest_piece_bytes)
            throw usage_error("{}: token {} is {} bytes long, more than {}", in.name(), id,
                              text.size(), longest_piece_bytes);
        for (std::size_t at = 0; at < text.size();) {
            at += utf8_unit(text, at).bytes;
            if (at == text.size())
                break;
            const auto left = spec.vocabulary.id_of(text.substr(0, at));
            const auto right = left ? spec.vocabulary.id_of(text.substr(at)) : std::nullopt;
            if (right && !is_added[std::size_t(*left)] && !is_added[std::size_t(*right)])
                spec.merges.push_back({*left, *right, id, rank});
        }
    }
}

void read_llama(const Reader& in, TokenizerSpec& spec) {
    const bool prefix = in.gguf.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
    const std::string space(metaspace_mark);
    if (spec.vocabulary.id_of("[INST]") && prefix) {
        // Mistral's tokenizers with [INST] as a token put a space in front of a text only, others (Llama 2) also
        // behind every special token. The file does not tell them apart.
        spec.pre_tokenizer.emplace_back(MetaspaceStep{space, MetaspaceStep::Prepend::First, false});
    } else {
        if (prefix)
            spec.normalizer.emplace_back(PrependStep{space});
        spec.normalizer.emplace_back(ReplaceStep{" ", space});
    }
    spec.bpe.byte_fallback = spec.decoder.byte_fallback = true;
    spec.bpe.fuse_unknown = true;
    spec.bpe.unknown = in.id("tokenizer.ggml.unknown_token_id", spec.vocabulary);
    spec.decoder.replace = {{space, " "}};
    spec.decoder.strip_count = prefix ? 1 : 0;
    find_merges(in, spec);
    spec.kind = "SentencePiece BPE";
}

}  // namespace

TokenizerSpec tokenizer_from_gguf(const GgufFile& gguf) {
    const Reader in{gguf};
    TokenizerSpec spec;
    read_tokens(in, spec);

    const std::string model = gguf.string("tokenizer.ggml.model").value_or("");
    bool adds_bos = true;
    if (model == "gpt2")
        adds_bos = read_gpt2(in, spec);
    else if (model == "llama")
        read_llama(in, spec);
    else
        throw usage_error("{}: tokenizer.ggml.model is {}; supported are gpt2, llama", in.name(),
                          quote(model));

    spec.bos = in.id("tokenizer.ggml.bos_token_id", spec.vocabulary);
    const auto eos = in.id("tokenizer.ggml.eos_token_id", spec.vocabulary);
    if (spec.bos && gguf.boolean("tokenizer.ggml.add_bos_token").value_or(adds_bos))
        spec.in_front = {*spec.bos};
    if (eos && gguf.boolean("tokenizer.ggml.add_eos_token").value_or(false))
        spec.behind = {*eos};
    if (eos)
        add_end(spec, *eos);
    for (const std::string_view key :
         {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
        if (const auto id = in.id(key, spec.vocabulary))
            add_end(spec, *id);
    add_known_ends(spec);

    spec.chat_template = gguf.string("tokenizer.chat_template").value_or("");
    return spec;
}

}  // namespace cake
