// A folder:  model.safetensors, else the shards that model.safetensors.index.json names:
//              {"metadata": {...}, "weight_map": {tensor: "model-00002-of-00003.safetensors", ...}}
// A file:    GGUF. Of name-00001-of-00003.gguf, whose metadata has split.count = 3 and
//            split.no = 0, the other parts follow; they hold tensors and no metadata of the model.
#include "io/checkpoint_files.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <unordered_set>

#include "io/file_error.h"
#include "io/gguf_names.h"
#include "io/json_file.h"

namespace cake {
namespace {

namespace fs = std::filesystem;

void add_tensors(CheckpointFiles& files, const GgufFile& part) {
    const GgufFile& metadata = files.gguf.front();
    for (const GgufTensor& tensor : part.tensors()) {
        const std::size_t bytes = bytes_of(tensor.dtype, tensor.shape.elements());
        files.tensors.push_back({hugging_face_name(tensor.name),
                                 std::string(name(tensor.dtype)),
                                 tensor.dtype,
                                 tensor.shape,
                                 {tensor.data, bytes},
                                 &part.file(),
                                 interleaved_head(metadata, tensor.name, tensor.shape)});
    }
}

std::string part_suffix(std::int64_t part, std::int64_t parts) {  // parts count from 1
    return fmt::format("-{:05}-of-{:05}.gguf", part, parts);
}

void open_gguf(CheckpointFiles& files, const std::string& path) {
    GgufFile first(path);
    const std::int64_t parts = first.integer("split.count").value_or(1);
    const std::int64_t part = first.integer("split.no").value_or(0);
    if (parts < 0 || parts > 65535 || part < 0 || part >= std::max<std::int64_t>(parts, 1))
        throw damaged(path, "is part {} of {}", part + 1, parts);
    if (part != 0)
        throw usage_error("{} is part {} of {} of a model; give the first part, ...{}", path,
                          part + 1, parts, part_suffix(1, parts));
    std::string stem = path;
    if (parts > 1) {
        const std::string suffix = part_suffix(1, parts);
        if (!path.ends_with(suffix))
            throw usage_error("{} is part 1 of {}; its name must end in {}, as it was made", path,
                              parts, suffix);
        stem.resize(path.size() - suffix.size());
    }
    // Addresses of files are kept in tensors: no growth after this.
    std::vector<std::string> paths = {path};
    for (std::int64_t i = 2; i <= parts; ++i) {
        paths.push_back(stem + part_suffix(i, parts));
        if (!fs::exists(paths.back()))
            throw usage_error("{} is missing: part {} of {} of {}", paths.back(), i, parts, path);
    }
    files.gguf.reserve(paths.size());
    files.gguf.push_back(std::move(first));
    for (std::size_t i = 1; i < paths.size(); ++i) {
        const GgufFile& next = files.gguf.emplace_back(paths[i]);
        if (next.integer("split.no") != std::int64_t(i) || next.integer("split.count") != parts)
            throw usage_error("{} is not part {} of {} of {}; fetch all parts again", paths[i],
                              i + 1, parts, path);
    }
    for (const GgufFile& file : files.gguf)
        add_tensors(files, file);

    const auto promised = files.gguf.front().integer("split.tensors.count");
    if (promised && parts > 1 && *promised != std::int64_t(files.tensors.size()))
        throw damaged(path, "promises {} tensors in {} parts, {} are there", *promised, parts,
                      files.tensors.size());
}

StoredTensor stored_tensor(const SafetensorsTensor& tensor, const MappedFile& file) {
    return {tensor.name, tensor.stored, tensor.dtype, tensor.shape, tensor.data, &file, 0};
}

void open_single(CheckpointFiles& files, const std::string& path) {
    const SafetensorsFile& file = files.safetensors.emplace_back(path);
    for (const SafetensorsTensor& tensor : file.tensors())
        files.tensors.push_back(stored_tensor(tensor, file.file()));
}

void open_shards(CheckpointFiles& files, const fs::path& folder, const std::string& index_path) {
    const nlohmann::json index = read_json_file(index_path);
    const auto map = index.is_object() ? index.find("weight_map") : index.end();
    if (!index.is_object() || map == index.end() || !map->is_object() || map->empty())
        throw damaged(index_path, "has no weight_map");

    std::set<std::string> shards;
    for (const auto& [tensor, shard] : map->items()) {
        if (!shard.is_string())
            throw damaged(index_path, "names no file for tensor {}", quote(tensor));
        const auto& file = shard.get_ref<const std::string&>();
        // A plain name: an index must not lead out of its folder.
        if (file.empty() || file.find('/') != std::string::npos ||
            file.find('\0') != std::string::npos)
            throw damaged(index_path, "names {}, not a file of this folder", quote(file));
        shards.insert(file);
    }
    for (const std::string& shard : shards)
        if (!fs::exists(folder / shard))
            throw usage_error("{} is missing, but {} names it; fetch it", (folder / shard).string(),
                              index_path);

    files.safetensors.reserve(shards.size());  // addresses of files are kept in tensors
    std::unordered_set<std::string_view> found;
    for (const std::string& shard : shards) {
        const SafetensorsFile& file = files.safetensors.emplace_back((folder / shard).string());
        for (const SafetensorsTensor& tensor : file.tensors()) {
            const auto at = map->find(tensor.name);
            if (at == map->end() || at->get_ref<const std::string&>() != shard)
                continue;  // the index is the authority: another shard may hold this name
            files.tensors.push_back(stored_tensor(tensor, file.file()));
            found.insert(tensor.name);
        }
    }
    for (const auto& [tensor, shard] : map->items())
        if (!found.contains(tensor))
            throw damaged(index_path, "says that {} holds tensor {}, which it does not",
                          quote(shard.get_ref<const std::string&>()), quote(tensor));
}

void open_folder(CheckpointFiles& files, const fs::path& folder) {
    const fs::path single = folder / "model.safetensors";
    const fs::path index = folder / "model.safetensors.index.json";
    if (fs::exists(single))
        return open_single(files, single.string());
    if (fs::exists(index))
        return open_shards(files, folder, index.string());

    std::string others;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if (name.ends_with(".gguf"))
            throw usage_error("{} has no model.safetensors; give the file itself: {}",
                              folder.string(), entry.path().string());
        if (name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".safetensors"))
            others = name;
    }
    throw usage_error(
        "{} has neither model.safetensors nor model.safetensors.index.json{}; save "
        "the model with save_pretrained(..., safe_serialization=True)",
        folder.string(), others.empty() ? "" : ", only " + others);
}

}  // namespace

CheckpointFiles open_checkpoint_files(const std::string& path) {
    CheckpointFiles files;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status))
        throw usage_error("no model at {}: {}", path,
                          error ? error.message() : "it does not exist");
    if (fs::is_directory(status))
        open_folder(files, path);
    else if (path.ends_with(".safetensors"))
        throw usage_error("{} is one file of a model; give its folder, {}", path,
                          fs::absolute(path).parent_path().string());
    else
        open_gguf(files, path);
    return files;
}

}  // namespace cake
