// For programs that are built without cuDNN.
#include "kernels/cuda/cudnn_attention.h"

namespace cake::gpu {

struct CudnnAttention::State {};

CudnnAttention::CudnnAttention() = default;
CudnnAttention::~CudnnAttention() = default;
std::optional<std::size_t> CudnnAttention::work_bytes(const AttentionTask&) { return {}; }
void CudnnAttention::do_without(std::string_view) {}
void CudnnAttention::run(Queue, const AttentionTask&, void*) {}

std::string attention_in_use() { return "own kernels (cuDNN is not part of this build)"; }

}  // namespace cake::gpu
