// Device memory of one backend: a slab, taken in one piece before a model is loaded, and what does not fit into it.
#pragma once

#include <cstddef>
#include <map>

namespace cake {

class CudaPool {
public:
    CudaPool() = default;
    ~CudaPool();
    CudaPool(const CudaPool&) = delete;
    CudaPool& operator=(const CudaPool&) = delete;

    // Takes the slab, in place of an earlier one; while something of that is in use, it stays. False where the device has not
    // enough: then there is no slab. Peaks are counted anew.
    bool reserve(std::size_t bytes);

    // Aligned to 256 bytes, from the slab, or else by itself; null where there is not enough. 0 bytes: null.
    void* take(std::size_t bytes);
    // `bytes`: as it was taken. The next one to take may get it at once, without waiting for the device.
    void give_back(void* data, std::size_t bytes) noexcept;

    std::size_t held_bytes() const { return held_; }
    std::size_t peak_bytes() const { return peak_; }        // most that was held at one time
    std::size_t outside_bytes() const { return outside_; }  // of what is held: not of the slab

private:
    bool in_slab(const std::byte* piece) const;

    std::byte* slab_ = nullptr;
    std::size_t slab_bytes_ = 0;
    std::map<std::size_t, std::size_t> gaps_;  // free bytes of the slab, by offset
    std::size_t held_ = 0, peak_ = 0, outside_ = 0;
};

}  // namespace cake
