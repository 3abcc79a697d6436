#include "kernels/cuda/cuda_pool.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include <spdlog/spdlog.h>

#include "kernels/cuda/device.h"

namespace cake {
namespace {

std::size_t rounded(std::size_t bytes) {
    constexpr std::size_t alignment = 256;
    return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace

CudaPool::~CudaPool() { gpu::free(slab_); }

bool CudaPool::reserve(std::size_t bytes) {
    peak_ = held_;
    if (held_ > outside_)
        return true;
    gpu::free(std::exchange(slab_, nullptr));  // not both at once
    gaps_.clear();
    slab_bytes_ = rounded(bytes);
    slab_ = static_cast<std::byte*>(gpu::allocate(slab_bytes_));
    if (slab_)
        gaps_[0] = slab_bytes_;
    return slab_ || bytes == 0;
}

bool CudaPool::in_slab(const std::byte* piece) const {
    return slab_ && !std::less<>()(piece, slab_) && std::less<>()(piece, slab_ + slab_bytes_);
}

void* CudaPool::take(std::size_t bytes) {
    if (bytes == 0)
        return nullptr;
    bytes = rounded(bytes);
    void* data = nullptr;
    const auto gap = std::find_if(gaps_.begin(), gaps_.end(),
                                  [&](const auto& piece) { return piece.second >= bytes; });
    if (gap != gaps_.end()) {
        const auto [offset, room] = *gap;
        gaps_.erase(gap);
        if (room > bytes)
            gaps_[offset + bytes] = room - bytes;
        data = slab_ + offset;
    } else {
        data = gpu::allocate(bytes);
        if (!data)
            return nullptr;
        outside_ += bytes;
        if (slab_)
            spdlog::debug("{} bytes of device memory are taken beyond the plan", bytes);
    }
    held_ += bytes;
    peak_ = std::max(peak_, held_);
    return data;
}

void CudaPool::give_back(void* data, std::size_t bytes) noexcept {
    bytes = rounded(bytes);
    held_ -= bytes;
    auto* const piece = static_cast<std::byte*>(data);
    if (!in_slab(piece)) {
        outside_ -= bytes;
        gpu::free(data);
        return;
    }
    auto here = gaps_.emplace(std::size_t(piece - slab_), bytes).first;
    const auto next = std::next(here);
    if (next != gaps_.end() && here->first + here->second == next->first) {
        here->second += next->second;
        gaps_.erase(next);
    }
    if (here == gaps_.begin())
        return;
    const auto before = std::prev(here);
    if (before->first + before->second == here->first) {
        before->second += here->second;
        gaps_.erase(here);
    }
}

}  // namespace cake
