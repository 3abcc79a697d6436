#include "text/json_pipeline.h"

#include "base/error.h"
#include "io/file_error.h"
#include "text/utf8.h"

namespace cake {

namespace {

using nlohmann::json;

// Sequences in sequences; real files have one level.
constexpr int most_depth = 8;
// Steps in all; real files have four at most. The texts in them replace characters: long ones would let a small file
// make a text grow without bound.
constexpr int most_steps = 32;
constexpr std::size_t most_text_bytes = 16;

class PipelineReader {
public:
    PipelineReader(const std::string& name, TokenizerSpec& spec) : name_(name), spec_(spec) {}

    // Calls `read(step, type)` for each step under `key`, in order.
    template <typename Read>
    void for_each(const json& file, const char* key, const char* members, Read read) {
        steps_ = 0;
        if (const auto found = file.find(key); found != file.end())
            walk(*found, key, members, read, 0);
    }

    void normalizer(const json& step, const std::string& type) {
        auto& out = spec_.normalizer;
        if (type == "NFC")
            out.emplace_back(NormalForm::Nfc);
        else if (type == "NFD")
            out.emplace_back(NormalForm::Nfd);
        else if (type == "NFKC")
            out.emplace_back(NormalForm::Nfkc);
        else if (type == "NFKD")
            out.emplace_back(NormalForm::Nfkd);
        else if (type == "Prepend")
            out.emplace_back(PrependStep{short_text(step.at("prepend"))});
        else if (type == "Replace")
            out.emplace_back(
                ReplaceStep{literal(step.at("pattern")), short_text(step.at("content"))});
        else
            unsupported("normalizer", type, "Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace");
    }

    void pre_tokenizer(const json& step, const std::string& type) {
        if (spec_.bpe.byte_level)
            throw usage_error("{}: steps behind the pre-tokenizer ByteLevel are not supported",
                              name_);
        auto& out = spec_.pre_tokenizer;
        if (type == "Split") {
            out.emplace_back(split(step));
        } else if (type == "Digits") {
            out.emplace_back(digits_step(step.value("individual_digits", false)));
        } else if (type == "ByteLevel") {
            if (step.value("add_prefix_space", true))
                out.emplace_back(PrefixSpaceStep{});
            if (step.value("use_regex", true))
                out.emplace_back(gpt2_step());
            spec_.bpe.byte_level = true;
        } else if (type == "Metaspace") {
            out.emplace_back(metaspace(step));
        } else {
            unsupported("pre_tokenizer", type, "Sequence, Split, Digits, ByteLevel, Metaspace");
        }
    }

    void decoder(const json& step, const std::string& type) {
        DecoderOptions& out = spec_.decoder;
        if (type == "ByteLevel") {
            out.byte_level = true;
        } else if (type == "ByteFallback") {
            out.byte_fallback = true;
        } else if (type == "Replace") {
            if (!out.replace.empty())
                throw usage_error("{}: a second decoder Replace is not supported", name_);
            out.replace.emplace_back(literal(step.at("pattern")), short_text(step.at("content")));
        } else if (type == "Fuse") {
            fused_ = true;
        } else if (type == "Strip") {
            // Of the fused text; without Fuse, each token would be stripped.
            const auto start = step.at("start").get<std::int64_t>(),
                       stop = step.at("stop").get<std::int64_t>();
            if (!fused_ || stop != 0 || start < 0 || start > 1000)
                throw usage_error(
                    "{}: a decoder Strip is supported behind Fuse, at the start of the text",
                    name_);
            out.strip = character(step.at("content"));
            out.strip_count = int(start);
        } else if (type == "Metaspace") {
            out.replace.assign(1, {character(step.at("replacement")), " "});
            out.strip_count = metaspace_prepends(step) ? 1 : 0;
        } else {
            unsupported("decoder", type,
                        "Sequence, ByteLevel, ByteFallback, Replace, Fuse, Strip, Metaspace");
        }
    }

    void post_processor(const json& step, const std::string& type) {
        if (type == "ByteLevel")
            return;  // offsets only
        if (type != "TemplateProcessing")
            unsupported("post_processor", type, "Sequence, ByteLevel, TemplateProcessing");
        bool behind = false;
        for (const json& part : step.at("single")) {
            if (part.contains("Sequence")) {
                behind = true;
                continue;
            }
            const auto token = part.at("SpecialToken").at("id").get<std::string>();
            for (const json& id : step.at("special_tokens").at(token).at("ids")) {
                const auto value = id.is_number_integer() ? id.get<std::int64_t>() : -1;
                if (value < 0 || value >= spec_.vocabulary.size())
                    throw usage_error("{}: the post-processor's {} is no token", name_,
                                      quote(token));
                (behind ? spec_.behind : spec_.in_front).push_back(TokenId(value));
            }
        }
        if (!spec_.in_front.empty())
            spec_.bos = spec_.in_front.front();
    }

private:
    template <typename Read>
    void walk(const json& step, const char* key, const char* members, Read read, int depth) {
        if (step.is_null())
            return;
        const auto type = step.at("type").get<std::string>();
        if (type != "Sequence") {
            if (++steps_ > most_steps)
                throw usage_error("{}: more than {} steps in {}", name_, most_steps, key);
            return read(step, type);
        }
        if (depth == most_depth)
            throw usage_error("{}: {} is nested more than {} deep", name_, key, most_depth);
        for (const json& inner : step.at(members))
            walk(inner, key, members, read, depth + 1);
    }

    [[noreturn]] void unsupported(const char* what, const std::string& type,
                                  const char* known) const {
        throw usage_error("{}: the {} {} is not supported; supported are {}", name_, what,
                          quote(type), known);
    }

    std::string short_text(const json& value) const {
        auto text = value.get<std::string>();
        if (text.size() > most_text_bytes)
            throw usage_error("{}: {} is longer than {} bytes", name_, quote(text),
                              most_text_bytes);
        return text;
    }

    std::string literal(const json& pattern) const {
        if (!pattern.is_object() || !pattern.contains("String"))
            throw usage_error("{}: Replace is supported for strings, not for regular expressions",
                              name_);
        auto text = pattern["String"].get<std::string>();
        if (text.empty())
            throw usage_error("{}: Replace of nothing", name_);
        return text;
    }

    std::string character(const json& value) const {
        auto text = value.get<std::string>();
        if (text.empty() || utf8_unit(text, 0).bytes != text.size())
            throw usage_error("{}: {} is not one character", name_, quote(text));
        return text;
    }

    SplitStep split(const json& step) const {
        using enum SplitStep::Matches;
        const json& pattern = step.at("pattern");
        SplitStep out{pattern.contains("Regex") ? Pattern(pattern["Regex"].get<std::string>())
                                                : Pattern(pattern.at("String").get<std::string>(),
                                                          Pattern::Kind::Literal)};
        const auto behavior = step.value("behavior", "Isolated");
        if (behavior == "Isolated")
            out.matches = Isolated;
        else if (behavior == "Removed")
            out.matches = Removed;
        else if (behavior == "MergedWithPrevious")
            out.matches = MergedWithPrevious;
        else if (behavior == "MergedWithNext")
            out.matches = MergedWithNext;
        else if (behavior == "Contiguous")
            out.matches = Contiguous;
        else
            unsupported("behavior", behavior,
                        "Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
        out.invert = step.value("invert", false);
        return out;
    }

    // Old files say add_prefix_space instead of prepend_scheme.
    std::string prepend_scheme(const json& step) const {
        return step.value("prepend_scheme",
                          step.value("add_prefix_space", true) ? "always" : "never");
    }
    bool metaspace_prepends(const json& step) const { return prepend_scheme(step) != "never"; }

    MetaspaceStep metaspace(const json& step) const {
        using enum MetaspaceStep::Prepend;
        MetaspaceStep out;
        out.replacement = character(step.at("replacement"));
        const std::string scheme = prepend_scheme(step);
        if (scheme == "never")
            out.prepend = Never;
        else if (scheme == "first")
            out.prepend = First;
        else if (scheme == "always")
            out.prepend = Always;
        else
            unsupported("prepend_scheme", scheme, "never, first, always");
        out.split = step.value("split", true);
        return out;
    }

    const std::string& name_;
    TokenizerSpec& spec_;
    int steps_ = 0;
    bool fused_ = false;
};

}  // namespace

void read_pipeline(const json& file, const std::string& name, TokenizerSpec& spec) {
    PipelineReader reader(name, spec);
    reader.for_each(file, "normalizer", "normalizers",
                    [&](auto& step, auto& type) { reader.normalizer(step, type); });
    reader.for_each(file, "pre_tokenizer", "pretokenizers",
                    [&](auto& step, auto& type) { reader.pre_tokenizer(step, type); });
    reader.for_each(file, "post_processor", "processors",
                    [&](auto& step, auto& type) { reader.post_processor(step, type); });
    reader.for_each(file, "decoder", "decoders",
                    [&](auto& step, auto& type) { reader.decoder(step, type); });

    if (spec.bpe.byte_level != spec.decoder.byte_level)
        throw usage_error("{}: of pre_tokenizer and decoder, only one is ByteLevel", name);
}

}  // namespace cake
