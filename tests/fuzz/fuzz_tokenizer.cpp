// Any bytes as tokenizer.json, or as GGUF where they begin so: refused with an Error, or a tokenizer that encodes and decodes any text.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "io/gguf.h"
#include "memory_file.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace {

cake::Tokenizer read(std::string_view input) {
    if (!input.starts_with("GGUF"))
        return cake::Tokenizer::from_json(input, "tokenizer.json");
    const MemoryFile file(input);
    return cake::Tokenizer::from_gguf(cake::GgufFile(file.path()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace cake;
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    try {
        const Tokenizer tokenizer = read(input);
        // The input itself as a text meets the tokens that it defines.
        for (const std::string_view text :
             {std::string_view("Hello  world, it's 12.5\n\n<s> é e\u0301 你好 😀\xF0\x9F\xFF"),
              input}) {
            const auto ids = tokenizer.encode(text, true);
            StreamDecoder stream(tokenizer);
            std::string joined;
            for (const TokenId id : ids)
                joined += stream.next(id);
            if (joined + stream.finish() != tokenizer.decode(ids))
                std::abort();
        }
        std::string all;
        for (TokenId id = -2; id < tokenizer.vocabulary_size() + 2; ++id)
            all += tokenizer.decode({&id, 1}, false);
        const ChatMessage message{"user", all};
        tokenizer.encode(apply_chat_template("mistral", {&message, 1}, true, tokenizer), false);
    } catch (const Error&) {
    }
    return 0;
}
