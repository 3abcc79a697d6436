// Reads the header of a GGUF file, versions 2 and 3, little-endian.
// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
//   "GGUF"  u32 version  u64 n_tensors  u64 n_metadata
//   n_metadata times:  string key, u32 type, value
//   n_tensors times:   string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset
//   zeros up to a multiple of `general.alignment` (metadata, 32 if absent)
//   data: a tensor begins at `offset` from here, a multiple of the alignment
//
//   string: u64 length, bytes (UTF-8, no terminator)
//   array:  u32 type, u64 length, values
//   dims:   the innermost (contiguous) dimension first, the reverse of Shape
//
// Version 1 had 32-bit lengths. A big-endian file has its version's bytes the other way round.
#include "io/gguf.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_set>

#include "io/byte_reader.h"
#include "io/file_error.h"

namespace cake {
namespace {

// Lists grow when they become 64-bit integers or std::strings, up to eightfold: bounded over the
// whole file. The largest vocabularies have 256 Ki tokens and 512 Ki merges.
constexpr std::uint64_t most_list_elements = 16u << 20;
// Metadata and tensor table, in bytes; real ones have less than 32 MiB.
constexpr std::size_t most_header_bytes = std::size_t(512) << 20;

enum class ValueType : std::uint32_t {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64
};

// ggml's numbers of the types that this program knows (ggml.h, enum ggml_type).
std::optional<DType> dtype_of_ggml(std::uint32_t type) {
    switch (type) {
        case 0: return DType::F32;
        case 1: return DType::F16;
        case 2: return DType::Q4_0;
        case 3: return DType::Q4_1;
        case 6: return DType::Q5_0;
        case 7: return DType::Q5_1;
        case 8: return DType::Q8_0;
        case 12: return DType::Q4_K;
        case 13: return DType::Q5_K;
        case 14: return DType::Q6_K;
        case 24: return DType::U8;  // I8: listed, never read as a weight
        case 26: return DType::I32;
        case 27: return DType::I64;
        case 28: return DType::F64;
        case 30: return DType::BF16;
        default: return {};
    }
}

std::string ggml_type_name(std::uint32_t type) {
    static constexpr std::array<std::string_view, 40> names = {
        "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
        "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
        "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
        "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
        "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
        "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4"};
    return type < names.size() ? std::string(names[type]) : fmt::format("number {}", type);
}

class Parser {
public:
    Parser(std::span<const std::byte> bytes, const std::string& file)
        : bytes_(bytes), in_(bytes.first(std::min(bytes.size(), most_header_bytes)), file) {}

    GgufContents parse() {
        read_start();
        // The counts are not believed: each entry must be there in bytes before it takes memory.
        for (std::uint64_t i = 0; i < n_metadata_; ++i)
            read_metadata();
        sort_metadata();
        for (std::uint64_t i = 0; i < n_tensors_; ++i)
            read_tensor();
        place_tensors();
        return std::move(out_);
    }

private:
    const std::string& file() const { return in_.file(); }

    void read_start() {
        const std::string_view magic = in_.text(4, "the magic number");
        if (magic != "GGUF") {
            if (magic == "vers")  // "version https://git-lfs.github.com/spec/v1"
                throw usage_error("{} is a Git LFS pointer, not the model; run `git lfs pull`",
                                  file());
            if (magic == "lmgg" || magic == "tjgg" || magic == "fmgg" || magic == "algg")
                throw usage_error("{} is a GGML file of before 2023-08; convert the model to GGUF",
                                  file());
            throw usage_error("{} is not a GGUF file (it begins with {})", file(), quote(magic));
        }
        const auto version = in_.value<std::uint32_t>("the version");
        if ((version & 0xffffu) == 0 && version != 0)
            throw usage_error("{} is a big-endian GGUF file; convert the model for this machine",
                              file());
        if (version != 2 && version != 3)
            throw usage_error(
                "{} is GGUF version {}; versions 2 and 3 are read, convert the model "
                "again with a current llama.cpp",
                file(), version);
        n_tensors_ = in_.value<std::uint64_t>("the number of tensors");
        n_metadata_ = in_.value<std::uint64_t>("the number of metadata values");
    }

    std::string_view read_string(std::string_view what) {
        return in_.text(in_.value<std::uint64_t>(what), what);
    }

    bool read_bool() {
        const auto byte = in_.value<std::uint8_t>("a boolean");
        if (byte > 1)
            throw damaged(file(), "a boolean before byte {} is {}", in_.offset(), byte);
        return byte == 1;
    }

    void read_metadata() {
        std::string key(read_string("a metadata key"));
        const auto type = ValueType(in_.value<std::uint32_t>("a metadata type"));
        GgufValue value;
        if (type == ValueType::Array)
            value = read_list(key);
        else
            value = read_scalar(type, key);
        out_.metadata.emplace_back(std::move(key), std::move(value));
    }

    GgufValue read_scalar(ValueType type, const std::string& key) {
        constexpr std::string_view what = "a metadata value";
        switch (type) {
            case ValueType::U8: return std::uint64_t(in_.value<std::uint8_t>(what));
            case ValueType::U16: return std::uint64_t(in_.value<std::uint16_t>(what));
            case ValueType::U32: return std::uint64_t(in_.value<std::uint32_t>(what));
            case ValueType::U64: return in_.value<std::uint64_t>(what);
            case ValueType::I8: return std::int64_t(in_.value<std::int8_t>(what));
            case ValueType::I16: return std::int64_t(in_.value<std::int16_t>(what));
            case ValueType::I32: return std::int64_t(in_.value<std::int32_t>(what));
            case ValueType::I64: return in_.value<std::int64_t>(what);
            case ValueType::F32: return double(in_.value<float>(what));
            case ValueType::F64: return in_.value<double>(what);
            case ValueType::Bool: return read_bool();
            case ValueType::String: return std::string(read_string(what));
            case ValueType::Array: break;
        }
        throw damaged(file(), "metadata {} has the unknown type {}", quote(key),
                      std::uint32_t(type));
    }

    GgufValue read_list(const std::string& key) {
        const auto type = ValueType(in_.value<std::uint32_t>("a list's type"));
        const auto length = in_.value<std::uint64_t>("a list's length");
        if (type == ValueType::Array)
            throw usage_error("{}: metadata {} is a list of lists, which cake does not read",
                              file(), quote(key));
        if (length > in_.remaining())  // an element has at least a byte
            throw damaged(file(), "metadata {} claims {} elements, only {} bytes follow",
                          quote(key), length, in_.remaining());
        if (length > most_list_elements - list_elements_)
            throw usage_error("{}: metadata {} brings the lists to {} elements; {} are allowed",
                              file(), quote(key), list_elements_ + length, most_list_elements);
        list_elements_ += length;

        if (type == ValueType::String)
            return gather<std::string>(type, key, length);
        if (type == ValueType::F32 || type == ValueType::F64)
            return gather<double>(type, key, length);
        return gather<std::int64_t>(type, key, length);
    }

    template <typename T>
    std::vector<T> gather(ValueType type, const std::string& key, std::uint64_t length) {
        std::vector<T> out;
        for (std::uint64_t i = 0; i < length; ++i) {
            GgufValue element = read_scalar(type, key);
            if constexpr (std::is_same_v<T, std::int64_t>) {
                if (const auto* u = std::get_if<std::uint64_t>(&element)) {
                    if (*u > std::uint64_t(std::numeric_limits<std::int64_t>::max()))
                        throw usage_error("{}: an element of {} is {}, beyond 63 bits", file(),
                                          quote(key), *u);
                    element = std::int64_t(*u);
                } else if (const auto* b = std::get_if<bool>(&element)) {
                    element = std::int64_t(*b);
                }
            }
            out.push_back(std::move(std::get<T>(element)));
        }
        return out;
    }

    void sort_metadata() {
        auto& all = out_.metadata;
        std::sort(all.begin(), all.end(),
                  [](const auto& a, const auto& b) { return a.first < b.first; });
        const auto twice =
            std::adjacent_find(all.begin(), all.end(),
                               [](const auto& a, const auto& b) { return a.first == b.first; });
        if (twice != all.end())
            throw damaged(file(), "metadata {} occurs twice", quote(twice->first));

        for (const auto& [key, value] : all) {
            if (key != "general.alignment")
                continue;
            const auto* held = std::get_if<std::uint64_t>(&value);
            if (!held || !std::has_single_bit(*held) || *held < 8 || *held > (1u << 20))
                throw damaged(file(), "general.alignment is not a power of two from 8 to 1048576");
            alignment_ = *held;
        }
    }

    void read_tensor() {
        const std::string_view name = read_string("a tensor's name");
        const auto n_dims = in_.value<std::uint32_t>("a tensor's dimensions");
        if (n_dims < 1 || n_dims > 4)
            throw damaged(file(), "tensor {} has {} dimensions, 1 to 4 are possible", quote(name),
                          n_dims);
        std::array<std::int64_t, 4> dims = {1, 1, 1, 1};  // outermost first once reversed
        std::uint64_t elements = 1;
        for (std::uint32_t i = 0; i < n_dims; ++i) {
            const auto dim = in_.value<std::uint64_t>("a tensor's dimensions");
            // No element takes less than half a byte, so this bounds the product as well.
            if (dim == 0 || __builtin_mul_overflow(elements, dim, &elements) ||
                elements / 2 > bytes_.size())
                throw damaged(file(), "dimension {} of tensor {} is {}, impossible in {} bytes", i,
                              quote(name), dim, bytes_.size());
            dims[n_dims - 1 - i] = std::int64_t(dim);
        }

        const auto type = in_.value<std::uint32_t>("a tensor's type");
        const std::optional<DType> dtype = dtype_of_ggml(type);
        if (!dtype)
            throw usage_error(
                "{}: tensor {} is stored as {}; cake reads F32, F16, BF16, Q4_0, "
                "Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K, take a file in one of "
                "these",
                file(), quote(name), ggml_type_name(type));
        const std::int64_t row = dims[n_dims - 1];
        if (row % traits(*dtype).block_elements != 0)
            throw damaged(file(), "tensor {} has rows of {}, not whole blocks of {} ({})",
                          quote(name), row, traits(*dtype).block_elements, cake::name(*dtype));

        Shape shape;
        switch (n_dims) {
            case 1: shape = {dims[0]}; break;
            case 2: shape = {dims[0], dims[1]}; break;
            case 3: shape = {dims[0], dims[1], dims[2]}; break;
            default: shape = {dims[0], dims[1], dims[2], dims[3]};
        }
        offsets_.push_back(in_.value<std::uint64_t>("a tensor's offset"));
        out_.tensors.push_back({std::string(name), *dtype, shape, nullptr});
    }

    // Offsets are relative to the end of the header, known only now.
    void place_tensors() {
        const std::uint64_t start = (in_.offset() + alignment_ - 1) / alignment_ * alignment_;
        struct Part {
            std::uint64_t begin, end;
            const GgufTensor* tensor;
        };
        std::vector<Part> parts;
        std::unordered_set<std::string_view> names;
        for (std::size_t i = 0; i < out_.tensors.size(); ++i) {
            GgufTensor& tensor = out_.tensors[i];
            if (!names.insert(tensor.name).second)
                throw damaged(file(), "tensor {} occurs twice", quote(tensor.name));
            const std::uint64_t offset = offsets_[i];
            const std::uint64_t size = bytes_of(tensor.dtype, tensor.shape.elements());
            if (offset % alignment_ != 0)
                throw damaged(file(), "tensor {} begins at {}, not a multiple of {}",
                              quote(tensor.name), offset, alignment_);
            if (start > bytes_.size() || offset > bytes_.size() - start ||
                size > bytes_.size() - start - offset)
                throw damaged(file(),
                              "tensor {} takes {} bytes at {} after byte {}, past the end "
                              "at {}",
                              quote(tensor.name), size, offset, start, bytes_.size());
            tensor.data = bytes_.data() + start + offset;
            parts.push_back({offset, offset + size, &tensor});
        }
        std::sort(parts.begin(), parts.end(),
                  [](const Part& a, const Part& b) { return a.begin < b.begin; });
        for (std::size_t i = 1; i < parts.size(); ++i)
            if (parts[i].begin < parts[i - 1].end)
                throw damaged(file(), "tensors {} and {} overlap", quote(parts[i - 1].tensor->name),
                              quote(parts[i].tensor->name));
    }

    std::span<const std::byte> bytes_;
    ByteReader in_;
    std::uint64_t n_tensors_ = 0;
    std::uint64_t n_metadata_ = 0;
    std::uint64_t list_elements_ = 0;     // so far, over all lists
    std::uint64_t alignment_ = 32;        // bytes
    std::vector<std::uint64_t> offsets_;  // of the tensors, from the start of the data
    GgufContents out_;
};

}  // namespace

GgufContents parse_gguf(std::span<const std::byte> bytes, const std::string& file) {
    return Parser(bytes, file).parse();
}

}  // namespace cake
