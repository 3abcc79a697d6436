// Attention of a prompt's long chunks by cuDNN. A program is linked with one of
//   cudnn_attention.cpp  through cudnn-frontend's headers; the library itself is loaded when first needed
//   no_cudnn.cpp         where it was built without these headers: all is left to attention.h
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/cuda/attention.h"

namespace cake::gpu {

// For one GPU and one thread.
class CudnnAttention {
public:
    CudnnAttention();
    ~CudnnAttention();
    CudnnAttention(const CudnnAttention&) = delete;
    CudnnAttention& operator=(const CudnnAttention&) = delete;

    // Bytes of work space that run() needs, or nothing where the task is attention.h's: not BF16 all over, heads of neither
    // 64 nor 128 elements, too little work to build a graph for, or no cuDNN that takes it. The last is logged once; so no
    // error of cuDNN ends a prompt before its attention is in the queue.
    std::optional<std::size_t> work_bytes(const AttentionTask& task);

    // From now on all tasks are attention.h's; `reason` is logged once.
    void do_without(std::string_view reason);

    // The task that work_bytes was asked about last. Throws Error where cuDNN fails.
    void run(Queue queue, const AttentionTask& task, void* work);

private:
    struct State;
    std::unique_ptr<State> state_;
};

// For people: "cuDNN 9.19.0", or "own kernels" and why. Loads the library.
std::string attention_in_use();

}  // namespace cake::gpu
