#include "base/tensor.h"

#include <cstdlib>
#include <utility>

namespace cake {

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    if (this != &other) {
        release();
        data_ = std::exchange(other.data_, nullptr);
        bytes_ = std::exchange(other.bytes_, 0);
        place_ = other.place_;
        free_ = std::exchange(other.free_, nullptr);
    }
    return *this;
}

void Buffer::release() noexcept {
    if (data_ && free_)
        free_(data_, bytes_, place_);
    data_ = nullptr;
}

Buffer Buffer::host(std::size_t bytes) {
    constexpr std::size_t alignment = 64;
    const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void* data = std::aligned_alloc(alignment, rounded ? rounded : alignment);
    if (!data)
        throw Error(fmt::format("no memory for {} bytes", bytes));
    return Buffer(data, bytes, Place::Host, [](void* p, std::size_t, Place) { std::free(p); });
}

Shape::Shape(std::initializer_list<std::int64_t> dims) : rank_(int(dims.size())) {
    CAKE_CHECK(dims.size() <= dims_.size(), "a shape has at most 4 dimensions, not {}",
               dims.size());
    std::size_t i = 0;
    for (std::int64_t d : dims) {
        CAKE_CHECK(d >= 0, "dimension {} of a shape is {}", i, d);
        dims_[i++] = d;
    }
}

std::int64_t Shape::elements() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i)
        n *= dims_[std::size_t(i)];
    return n;
}

std::int64_t Shape::row_elements() const {
    std::int64_t n = 1;
    for (int i = 1; i < rank_; ++i)
        n *= dims_[std::size_t(i)];
    return n;
}

Shape Shape::with_rows(std::int64_t rows) const {
    Shape out = *this;
    CAKE_CHECK(rank_ > 0, "a scalar has no rows");
    out.dims_[0] = rows;
    return out;
}

std::string Shape::str() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i)
        out += fmt::format("{}{}", i ? ", " : "", dims_[std::size_t(i)]);
    return out + "]";
}

namespace {

// Blocks lie along the last dimension.
bool holds_whole_blocks(DType dtype, const Shape& shape) {
    const int block = traits(dtype).block_elements;
    return block == 1 || (shape.rank() > 0 && shape[shape.rank() - 1] % block == 0);
}

}  // namespace

View View::rows(std::int64_t first, std::int64_t n) const {
    CAKE_CHECK(first >= 0 && n >= 0 && first + n <= shape_[0], "rows {}..{} of {}", first,
               first + n, shape_.str());
    CAKE_CHECK(shape_.row_elements() % traits(dtype_).block_elements == 0,
               "rows of {} {} are not whole blocks", shape_.str(), name(dtype_));
    auto* start = static_cast<std::byte*>(data_) + bytes_of(dtype_, first * shape_.row_elements());
    return View(start, dtype_, shape_.with_rows(n));
}

View View::reshaped(Shape shape) const {
    CAKE_CHECK(shape.elements() <= elements(), "{} does not fit into {}", shape.str(),
               shape_.str());
    CAKE_CHECK(holds_whole_blocks(dtype_, shape), "{} {} does not hold whole blocks", shape.str(),
               name(dtype_));
    return View(data_, dtype_, shape);
}

Tensor::Tensor(Buffer buffer, DType dtype, Shape shape)
    : buffer_(std::move(buffer)), view_(buffer_.data(), dtype, shape) {
    CAKE_CHECK(holds_whole_blocks(dtype, shape), "{} {} does not hold whole blocks", shape.str(),
               name(dtype));
    CAKE_CHECK(buffer_.bytes() >= view_.bytes(), "{} bytes cannot hold {} {}", buffer_.bytes(),
               shape.str(), name(dtype));
}

}  // namespace cake
