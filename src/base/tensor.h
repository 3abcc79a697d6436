// Buffer owns bytes, Tensor owns a shaped buffer, View borrows one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>

#include "base/dtype.h"
#include "base/error.h"

namespace cake {

// Where bytes live. On the CPU backend Device is host memory.
enum class Place : std::uint8_t { Host, Pinned, Device };

// Owning bytes. Whoever allocates says how they are freed.
class Buffer {
public:
    // Does not throw.
    using Free = std::function<void(void* data, std::size_t bytes, Place place)>;

    Buffer() = default;
    Buffer(void* data, std::size_t bytes, Place place, Free free)
        : data_(data), bytes_(bytes), place_(place), free_(std::move(free)) {}
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer() { release(); }

    void* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }
    Place place() const { return place_; }

    // Host memory, 64-byte aligned, not initialised. Throws Error that names the size.
    static Buffer host(std::size_t bytes);

private:
    void release() noexcept;
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
    Place place_ = Place::Host;
    Free free_;
};

// At most four dimensions, row-major.
class Shape {
public:
    Shape() = default;
    Shape(std::initializer_list<std::int64_t> dims);
    int rank() const { return rank_; }
    std::int64_t operator[](int i) const { return dims_[std::size_t(i)]; }
    std::int64_t elements() const;
    // Elements of one step along the first dimension.
    std::int64_t row_elements() const;
    Shape with_rows(std::int64_t rows) const;
    bool operator==(const Shape&) const = default;
    std::string str() const;  // "[2048, 576]"

private:
    std::array<std::int64_t, 4> dims_{};
    int rank_ = 0;
};

// Borrowed, contiguous, row-major; of quantised types the last dimension is whole blocks. Valid while its owner lives.
class View {
public:
    View() = default;
    View(void* data, DType dtype, Shape shape) : data_(data), dtype_(dtype), shape_(shape) {}

    void* data() const { return data_; }
    DType dtype() const { return dtype_; }
    const Shape& shape() const { return shape_; }
    std::int64_t dim(int i) const { return shape_[i]; }
    std::int64_t elements() const { return shape_.elements(); }
    std::size_t bytes() const { return data_ ? bytes_of(dtype_, elements()) : 0; }
    explicit operator bool() const { return data_ != nullptr; }

    // n rows from `first`, along the first dimension.
    View rows(std::int64_t first, std::int64_t n) const;
    View row(std::int64_t i) const { return rows(i, 1); }
    // The same elements in another shape, or the first of them.
    View reshaped(Shape shape) const;

    // The elements, after a check of the type.
    template <typename T>
    T* as() const {
        CAKE_CHECK(dtype_ == dtype_of<T>, "tensor {} holds {}, not {}", shape_.str(), name(dtype_),
                   name(dtype_of<T>));
        return static_cast<T*>(data_);
    }
    template <typename T>
    std::span<T> span() const {
        return {as<T>(), std::size_t(elements())};
    }

private:
    void* data_ = nullptr;
    DType dtype_ = DType::F32;
    Shape shape_;
};

class Tensor {
public:
    Tensor() = default;
    Tensor(Buffer buffer, DType dtype, Shape shape);
    // The same memory in another shape.
    Tensor(Tensor&& other, Shape shape)
        : buffer_(std::move(other.buffer_)), view_(other.view_.reshaped(shape)) {}
    static Tensor host(DType dtype, Shape shape) {
        return Tensor(Buffer::host(bytes_of(dtype, shape.elements())), dtype, shape);
    }
    View view() const { return view_; }
    operator View() const { return view_; }
    const Shape& shape() const { return view_.shape(); }
    DType dtype() const { return view_.dtype(); }
    std::size_t bytes() const { return view_.bytes(); }
    template <typename T>
    std::span<T> span() const {
        return view_.span<T>();
    }
    explicit operator bool() const { return bool(view_); }

private:
    Buffer buffer_;
    View view_;
};

}  // namespace cake
