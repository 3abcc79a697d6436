// Reads the header of a safetensors file.
// Source: https://github.com/huggingface/safetensors, README.md and safetensors/src/tensor.rs
//
//   u64 n (little-endian), at most 100 000 000
//   n bytes of JSON, padded with blanks: {"__metadata__": {string: string, ...},
//       name: {"dtype": "BF16", "shape": [576, 192], "data_offsets": [begin, end]}, ...}
//   data: a tensor is bytes [begin, end) of it, row-major, little-endian
//
// The tensors cover the data without holes, overlaps or a rest.
#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_set>

#include <nlohmann/json.hpp>

#include "io/byte_reader.h"
#include "io/file_error.h"

namespace cake {
namespace {

constexpr std::uint64_t most_header_bytes = 100'000'000;

struct StoredType {
    std::string_view name;
    unsigned bits;
    std::optional<DType> dtype;
};

constexpr StoredType stored_types[] = {
    {"F32", 32, DType::F32}, {"F16", 16, DType::F16}, {"BF16", 16, DType::BF16},
    {"F64", 64, DType::F64}, {"I32", 32, DType::I32}, {"I64", 64, DType::I64},
    {"U8", 8, DType::U8},    {"BOOL", 8, {}},         {"I8", 8, {}},
    {"I16", 16, {}},         {"U16", 16, {}},         {"U32", 32, {}},
    {"U64", 64, {}},         {"F8_E4M3", 8, {}},      {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},      {"F6_E2M3", 6, {}},      {"F6_E3M2", 6, {}},
    {"F4", 4, {}},           {"C64", 64, {}},
};

// A tensor as the header tells it.
struct Entry {
    std::string name, stored;
    std::vector<std::uint64_t> shape, offsets;
    bool has_dtype = false, has_shape = false, has_offsets = false;
};

// Takes the events of nlohmann's parser and keeps entries only, never a tree of the JSON: memory
// stays in proportion to the header, and what is not of the expected form stops the parse there.
class HeaderEvents : public nlohmann::json_sax<nlohmann::json> {
public:
    std::vector<Entry> entries;
    std::string problem;

    bool start_object(std::size_t) override {
        if (depth_ > 1 || list_)
            return fail("nested objects");
        if (depth_ == 1 && !in_metadata_)
            entries.emplace_back().name = key_;
        ++depth_;
        return true;
    }
    bool end_object() override {
        if (--depth_ == 1) {
            if (!in_metadata_ && !complete(entries.back()))
                return fail("no dtype, shape or data_offsets");
            in_metadata_ = false;
        }
        return true;
    }
    bool key(string_t& name) override {
        key_ = std::move(name);
        if (depth_ == 1) {
            if (!names_.insert(key_).second)
                return fail("the name occurs twice");
            in_metadata_ = key_ == "__metadata__";
            return true;
        }
        if (in_metadata_)
            return true;
        Entry& entry = entries.back();
        bool* has = key_ == "dtype"          ? &entry.has_dtype
                    : key_ == "shape"        ? &entry.has_shape
                    : key_ == "data_offsets" ? &entry.has_offsets
                                             : nullptr;
        if (!has)
            return fail("an unknown key");
        if (*has)
            return fail("a key twice");
        *has = true;
        return true;
    }
    bool start_array(std::size_t) override {
        if (depth_ != 2 || in_metadata_ || list_ || key_ == "dtype")
            return fail("a list where none belongs");
        list_ = key_ == "shape" ? &entries.back().shape : &entries.back().offsets;
        return true;
    }
    bool end_array() override {
        list_ = nullptr;
        return true;
    }
    bool string(string_t& text) override {
        if (depth_ == 2 && in_metadata_)
            return true;
        if (depth_ != 2 || list_ || key_ != "dtype")
            return fail("a string where none belongs");
        entries.back().stored = std::move(text);
        return true;
    }
    bool number_unsigned(number_unsigned_t value) override {
        constexpr std::size_t most = 8;  // dimensions; two offsets
        if (!list_)
            return fail("a number where none belongs");
        if (list_->size() == most)
            return fail("too many dimensions");
        list_->push_back(value);
        return true;
    }
    bool number_integer(number_integer_t) override { return fail("a negative number"); }
    bool number_float(number_float_t, const string_t&) override { return fail("a fraction"); }
    bool null() override { return fail("null"); }
    bool boolean(bool) override { return fail("a boolean"); }
    bool binary(binary_t&) override { return fail("binary data"); }
    bool parse_error(std::size_t byte, const std::string&,
                     const nlohmann::detail::exception&) override {
        problem = fmt::format("the header is not JSON at its byte {}", byte);
        return false;
    }

private:
    static bool complete(const Entry& entry) {
        return entry.has_dtype && entry.has_shape && entry.has_offsets && !entry.stored.empty() &&
               entry.offsets.size() == 2;
    }
    bool fail(std::string_view what) {
        const std::string where = entries.empty() || depth_ < 2 || in_metadata_
                                      ? quote(key_)
                                      : quote(entries.back().name);
        problem = fmt::format("the header's entry {} has {}", where, what);
        return false;
    }

    int depth_ = 0;
    bool in_metadata_ = false;
    std::string key_;
    std::vector<std::uint64_t>* list_ = nullptr;  // being filled
    std::unordered_set<std::string> names_;
};

Shape shape_of(const Entry& entry, const std::string& file) {
    const auto& d = entry.shape;
    for (std::uint64_t dim : d)
        if (dim > std::uint64_t(std::numeric_limits<std::int64_t>::max()))
            throw damaged(file, "a dimension of tensor {} is {}", quote(entry.name), dim);
    const auto at = [&](std::size_t i) { return std::int64_t(d[i]); };
    switch (d.size()) {
        case 0: return {};
        case 1: return {at(0)};
        case 2: return {at(0), at(1)};
        case 3: return {at(0), at(1), at(2)};
        case 4: return {at(0), at(1), at(2), at(3)};
        default:
            throw usage_error("{}: tensor {} has {} dimensions, cake reads up to 4", file,
                              quote(entry.name), d.size());
    }
}

const StoredType& type_of(const Entry& entry, const std::string& file) {
    const auto* type = std::find_if(std::begin(stored_types), std::end(stored_types),
                                    [&](const StoredType& t) { return t.name == entry.stored; });
    if (type == std::end(stored_types))
        throw usage_error(
            "{}: tensor {} has the unknown type {}; save the model as BF16, F16 or "
            "F32",
            file, quote(entry.name), quote(entry.stored));
    return *type;
}

// Bytes that a shape takes, or nothing where that passes 64 bits or is not whole bytes.
std::optional<std::uint64_t> bytes_of_shape(const Entry& entry, unsigned bits) {
    // A zero would hide that [2^40, 2^40, 0] overflows where Shape multiplies from the left.
    std::uint64_t total = bits;
    bool none = false;
    for (std::uint64_t dim : entry.shape) {
        none = none || dim == 0;
        if (dim != 0 && __builtin_mul_overflow(total, dim, &total))
            return {};
    }
    if (none)
        return 0;
    return total % 8 == 0 ? std::optional(total / 8) : std::nullopt;
}

SafetensorsTensor place(Entry&& entry, std::span<const std::byte> data, const std::string& file) {
    const StoredType& type = type_of(entry, file);
    const std::uint64_t begin = entry.offsets[0], end = entry.offsets[1];
    if (begin > end || end > data.size())
        throw damaged(file, "tensor {} claims bytes {} to {} of {}", quote(entry.name), begin, end,
                      data.size());
    const Shape shape = shape_of(entry, file);
    if (bytes_of_shape(entry, type.bits) != end - begin)
        throw damaged(file, "tensor {} ({} {}) does not take the {} bytes it claims",
                      quote(entry.name), entry.stored, shape.str(), end - begin);
    return {std::move(entry.name), std::move(entry.stored), type.dtype, shape,
            data.subspan(std::size_t(begin), std::size_t(end - begin))};
}

std::vector<Entry> parse_header(std::string_view header, const std::string& file) {
    HeaderEvents events;
    if (!header.starts_with('{') || !nlohmann::json::sax_parse(header, &events))
        throw damaged(file, "{}",
                      events.problem.empty() ? "the header is not JSON" : events.problem);
    return std::move(events.entries);
}

}  // namespace

std::vector<SafetensorsTensor> parse_safetensors(std::span<const std::byte> bytes,
                                                 const std::string& file) {
    ByteReader in(bytes, file);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (text.starts_with("version https://git-lfs"))
        throw usage_error("{} is a Git LFS pointer, not the weights; run `git lfs pull`", file);
    const auto header_bytes = in.value<std::uint64_t>("the header's length");
    if (header_bytes > most_header_bytes)
        throw damaged(file, "claims a header of {} bytes, more than the {} of the format",
                      header_bytes, most_header_bytes);
    std::vector<Entry> entries = parse_header(in.text(header_bytes, "the header"), file);
    const std::span<const std::byte> data = bytes.subspan(in.offset());

    std::vector<SafetensorsTensor> tensors;
    tensors.reserve(entries.size());
    for (Entry& entry : entries)
        tensors.push_back(place(std::move(entry), data, file));
    std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
        return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
    });

    std::uint64_t covered = 0;  // bytes of `data`
    for (const SafetensorsTensor& tensor : tensors) {
        const auto begin = std::uint64_t(tensor.data.data() - data.data());
        if (begin != covered)
            throw damaged(file,
                          "tensor {} begins at byte {} of the data, the one before ends at {}",
                          quote(tensor.name), begin, covered);
        covered += tensor.data.size();
    }
    if (covered != data.size())
        throw damaged(file, "the tensors take {} bytes, {} are there", covered, data.size());
    return tensors;
}

}  // namespace cake
