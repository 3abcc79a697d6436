#include "text/tokenizer_spec.h"

#include <algorithm>

#include "base/error.h"
#include "io/file_error.h"

namespace cake {

void add_end(TokenizerSpec& spec, TokenId id) {
    auto& ends = spec.end_of_sequence;
    if (spec.vocabulary.contains(id) && std::ranges::find(ends, id) == ends.end())
        ends.push_back(id);
}

void add_known_ends(TokenizerSpec& spec) {
    for (const std::string_view name :
         {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>"}) {
        const auto id = spec.vocabulary.id_of(name);
        if (id && std::ranges::any_of(
                      spec.added, [&](const AddedToken& t) { return t.id == *id && t.special; }))
            add_end(spec, *id);
    }
}

void add_merge(TokenizerSpec& spec, const std::string& left, const std::string& right,
               const std::string& name) {
    const auto id_of = [&](const std::string& text) {
        const auto id = spec.vocabulary.id_of(text);
        if (!id)
            throw usage_error(
                "{}: the merge of {} and {} needs the token {}, which the vocabulary lacks", name,
                quote(left), quote(right), quote(text));
        return *id;
    };
    const auto rank = std::uint32_t(spec.merges.size());
    spec.merges.push_back({id_of(left), id_of(right), id_of(left + right), rank});
}

void add_merge(TokenizerSpec& spec, const std::string& merge, const std::string& name) {
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string::npos || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string::npos)
        throw usage_error("{}: the merge {} is not two tokens", name, quote(merge));
    add_merge(spec, merge.substr(0, space), merge.substr(space + 1), name);
}

}  // namespace cake
