#include "io/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <unordered_map>

#include "io/checkpoint_files.h"
#include "io/dequant.h"
#include "io/file_error.h"
#include "io/gguf_names.h"
#include "io/random_weights.h"

namespace cake {

struct Checkpoint::Impl {
    std::string path;
    CheckpointFiles files;
    std::vector<TensorInfo> infos;                       // of files.tensors, index by index
    std::unordered_map<std::string, std::size_t> index;  // by name
    std::optional<std::uint64_t> seed;                   // of random weights
};

Checkpoint::Checkpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const std::string& path) {
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    impl->files = open_checkpoint_files(path);
    for (const StoredTensor& tensor : impl->files.tensors) {
        if (!impl->index.emplace(tensor.name, impl->infos.size()).second)
            throw damaged(tensor.file->path(), "tensor {} occurs twice", quote(tensor.name));
        impl->infos.push_back({tensor.name, tensor.dtype.value_or(DType::U8), tensor.shape,
                               tensor.data.size(), tensor.file->path(), tensor.stored});
    }
    return Checkpoint(std::move(impl));
}

Checkpoint Checkpoint::random(std::vector<TensorInfo> tensors, std::uint64_t seed) {
    auto impl = std::make_unique<Impl>();
    impl->path = "random weights";
    impl->seed = seed;
    for (TensorInfo& tensor : tensors) {
        impl->index.emplace(tensor.name, impl->infos.size());
        impl->infos.push_back(std::move(tensor));
    }
    return Checkpoint(std::move(impl));
}

bool has_weights(const std::string& path) {
    namespace fs = std::filesystem;
    if (!fs::is_directory(path))
        return fs::exists(path) && fs::path(path).extension() != ".json";
    const fs::directory_iterator files(path);
    return std::any_of(begin(files), end(files),
                       [](const auto& file) { return file.path().extension() == ".safetensors"; });
}

const std::string& Checkpoint::path() const { return impl_->path; }
const GgufFile* Checkpoint::gguf() const {
    return impl_->files.gguf.empty() ? nullptr : &impl_->files.gguf.front();
}
const std::vector<TensorInfo>& Checkpoint::tensors() const { return impl_->infos; }

const TensorInfo* Checkpoint::find(const std::string& name) const {
    const auto at = impl_->index.find(name);
    return at == impl_->index.end() ? nullptr : &impl_->infos[at->second];
}

std::optional<RandomMatrix> Checkpoint::random_matrix(const std::string& name) const {
    const TensorInfo* tensor = find(name);
    if (!impl_->seed || !tensor || tensor->shape.rank() < 2)
        return {};
    return cake::random_matrix(*tensor, *impl_->seed);
}

namespace {

// Bytes of a file that may lie in memory at a time while a slice is copied.
constexpr std::size_t resident_bytes = std::size_t(4) << 20;

// A slice as rows of a matrix; a vector is a matrix of one column if its elements move one by one,
// else of one row.
struct Slice {
    Range rows, columns;
    std::int64_t row_elements;  // of the whole tensor
};

Slice slice_of(const StoredTensor& tensor, Range rows, Range columns) {
    const Shape& shape = tensor.shape;
    const std::int64_t n_rows = shape.rank() == 0 ? 1 : shape[0];
    CAKE_CHECK(0 <= rows.begin && rows.begin <= rows.end && rows.end <= n_rows,
               "rows {}..{} of {} {}", rows.begin, rows.end, tensor.name, shape.str());
    if (shape.rank() < 2 && tensor.head == 0)
        return {{0, 1}, rows, n_rows};
    if (shape.rank() < 2)
        return {rows, {0, 1}, 1};
    const std::int64_t n_columns = shape.row_elements();
    CAKE_CHECK(0 <= columns.begin && columns.begin <= columns.end && columns.end <= n_columns,
               "columns {}..{} of {} {}", columns.begin, columns.end, tensor.name, shape.str());
    return {rows, columns, n_columns};
}

// The first of n elements that is infinite or not a number, or n. All bits of the exponent say so; one pass without
// branches looks for them, since nearly every row has none.
template <typename Bits>
std::int64_t first_not_finite(const std::byte* data, std::int64_t n, Bits magnitude,
                              Bits infinity) {
    const auto at = [&](std::int64_t i) {
        Bits bits;
        std::memcpy(&bits, data + std::size_t(i) * sizeof(bits), sizeof(bits));
        return Bits(bits & magnitude);
    };
    Bits largest = 0;
    for (std::int64_t i = 0; i < n; ++i)
        largest = std::max(largest, at(i));
    if (largest < infinity)
        return n;
    std::int64_t i = 0;
    while (at(i) < infinity)
        ++i;
    return i;
}

std::int64_t first_not_finite(DType dtype, const std::byte* data, std::int64_t n) {
    switch (dtype) {
        case DType::F32: return first_not_finite<std::uint32_t>(data, n, 0x7fffffff, 0x7f800000);
        case DType::BF16: return first_not_finite<std::uint16_t>(data, n, 0x7fff, 0x7f80);
        case DType::F16: return first_not_finite<std::uint16_t>(data, n, 0x7fff, 0x7c00);
        default: return first_block_not_finite(dtype, data, n);
    }
}

// One such weight makes every logit a NaN, many layers later and without a hint where from.
[[noreturn]] void refuse_not_finite(const StoredTensor& tensor, std::int64_t row,
                                    std::int64_t column) {
    const std::string where = tensor.shape.rank() < 2
                                  ? fmt::format("element {}", tensor.head ? row : column)
                                  : fmt::format("row {}, column {}", row, column);
    throw usage_error(
        "{}: weight {} is infinite or not a number at {}; the file is damaged or the model was "
        "saved broken: fetch it again, or take another copy",
        tensor.file->path(), quote(tensor.name), where);
}

}  // namespace

void Checkpoint::read(const std::string& name, Range rows, Range columns, View out) const {
    const auto at = impl_->index.find(name);
    if (at == impl_->index.end())
        throw usage_error("{} has no tensor {} (it has {}); is it a model of another architecture?",
                          impl_->path, quote(name), impl_->infos.size());
    if (impl_->seed) {
        CAKE_CHECK(!random_matrix(name), "{} is made, not read: random_matrix() says of what",
                   name);
        return fill_vector(impl_->infos[at->second], out);
    }
    const StoredTensor& tensor = impl_->files.tensors[at->second];
    if (!tensor.dtype || !is_weight_type(*tensor.dtype))
        throw usage_error(
            "{}: weight {} is stored as {}, which cake does not compute with; save "
            "the model as BF16, F16 or F32",
            tensor.file->path(), quote(name), tensor.stored);
    const Slice slice = slice_of(tensor, rows, columns);
    CAKE_CHECK(out.elements() == slice.rows.size() * slice.columns.size(),
               "rows {}..{}, columns {}..{} of {} do not fill {}", rows.begin, rows.end,
               columns.begin, columns.end, name, out.shape().str());
    if (out.elements() == 0)
        return;

    const std::size_t row_bytes = bytes_of(*tensor.dtype, slice.row_elements);
    const std::size_t out_row_bytes = bytes_of(out.dtype(), slice.columns.size());
    auto* to = static_cast<std::byte*>(out.data());
    const auto group = std::max<std::int64_t>(
        1, std::int64_t(resident_bytes / std::max<std::size_t>(row_bytes, 1)));
    for (std::int64_t first = slice.rows.begin; first < slice.rows.end; first += group) {
        const std::int64_t last = std::min(first + group, slice.rows.end);
        std::int64_t lowest = tensor.shape.rank() == 0 ? 0 : tensor.shape[0], highest = -1;
        for (std::int64_t row = first; row < last; ++row, to += out_row_bytes) {
            const std::int64_t source = tensor.head ? interleaved_row(row, tensor.head) : row;
            lowest = std::min(lowest, source);
            highest = std::max(highest, source);
            convert_row(*tensor.dtype, tensor.data.data() + std::size_t(source) * row_bytes,
                        slice.columns.begin, slice.columns.size(), out.dtype(), to);
            const std::int64_t bad = first_not_finite(out.dtype(), to, slice.columns.size());
            if (bad < slice.columns.size())
                refuse_not_finite(tensor, source, slice.columns.begin + bad);
        }
        // What was copied is not read again: a rank's memory holds its share, not the file.
        tensor.file->release(tensor.data.subspan(std::size_t(lowest) * row_bytes,
                                                 std::size_t(highest - lowest + 1) * row_bytes));
    }
}

}  // namespace cake
