#include "io/model_files.h"

#include <algorithm>
#include <filesystem>

#include "base/hash.h"
#include "io/checkpoint.h"
#include "io/checkpoint_files.h"

namespace cake {
namespace {

namespace fs = std::filesystem;

constexpr const char* small_files[] = {"config.json", "generation_config.json", "tokenizer.json",
                                       "tokenizer_config.json", "chat_template.jinja"};

std::string describe(std::span<const std::byte> file, std::size_t decisive) {
    return fmt::format("{} bytes, digest {}", file.size(), hex64(fnv1a(file.first(decisive))));
}

}  // namespace

std::map<std::string, std::string> describe_model_files(const std::string& path) {
    std::map<std::string, std::string> files;
    const auto add_whole = [&](const fs::path& file) {
        const MappedFile mapped(file.string());
        files[file.filename().string()] = describe(mapped.bytes(), mapped.bytes().size());
    };
    if (fs::is_directory(path))
        for (const char* name : small_files)
            if (fs::exists(fs::path(path) / name))
                add_whole(fs::path(path) / name);
    if (!has_weights(path)) {
        if (!fs::is_directory(path))
            add_whole(path);
        return files;
    }

    const CheckpointFiles weights = open_checkpoint_files(path);
    std::map<const MappedFile*, std::size_t> headers;  // what comes before the first tensor
    for (const GgufFile& part : weights.gguf)          // one may have no tensors
        headers[&part.file()] = part.file().bytes().size();
    for (const StoredTensor& tensor : weights.tensors) {
        const std::span<const std::byte> all = tensor.file->bytes();
        const auto [header, is_new] = headers.try_emplace(tensor.file, all.size());
        header->second = std::min(header->second, std::size_t(tensor.data.data() - all.data()));
    }
    for (const auto& [file, header] : headers)
        files[fs::path(file->path()).filename().string()] = describe(file->bytes(), header);
    return files;
}

}  // namespace cake
