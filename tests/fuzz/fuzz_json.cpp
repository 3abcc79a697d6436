// Any bytes as JSON; objects also as the index of a folder with one shard.
#include <cstdint>
#include <string_view>

#include "expect_usage_error.h"
#include "io/checkpoint.h"
#include "io/json_file.h"
#include "support/temp_folder.h"

using namespace cake;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const TempFolder folder;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    expect_success_or_usage_error([&] {
        if (!parse_json(text, "fuzz").is_object())
            return;
        folder.write("a", std::string_view("\x02\0\0\0\0\0\0\0{}", 10));
        folder.write("model.safetensors.index.json", text);
        Checkpoint::open(folder.path());
    });
    return 0;
}
