// Kernels that are not written yet.
#include "kernels/cuda/cuda_backend.h"

namespace cake {
namespace {

[[noreturn]] void not_written(const char* kernel) {
    throw Error(fmt::format("{} on a GPU is not written yet", kernel));
}

}  // namespace

void CudaBackend::window_moments(Stream, View, View, std::int64_t, DType, View, View, View) {
    not_written("window_moments");
}
void CudaBackend::column_scores(Stream, View, View, ColumnScore, float, int, View) {
    not_written("column_scores");
}
void CudaBackend::group_mean(Stream, View, float, View) { not_written("group_mean"); }
void CudaBackend::top_k(Stream, View, View) { not_written("top_k"); }
void CudaBackend::store_tokens(Stream, View, View, std::int64_t, std::int64_t, View, View,
                               const PageList&) {
    not_written("store_tokens");
}
void CudaBackend::order_slots(Stream, const PageList&, int, int, DecodeOrder) {
    not_written("order_slots");
}
void CudaBackend::list_positions(Stream, const PageList&, int, View) {
    not_written("list_positions");
}
void CudaBackend::init_page(Stream, const PageList&, int) { not_written("init_page"); }
void CudaBackend::begin_step(Stream, const PagedBatch&) { not_written("begin_step"); }
void CudaBackend::decode_attention(Stream, View, int, const PagedBatch&, const RaggedRows&, View) {
    not_written("decode_attention");
}
void CudaBackend::decode_scores(Stream, const PagedBatch&, const RaggedRows&, int, int, float,
                                const RaggedRows&) {
    not_written("decode_scores");
}
void CudaBackend::decode_means(Stream, const PagedBatch&, const RaggedRows&, float,
                               const RaggedRows&) {
    not_written("decode_means");
}
void CudaBackend::add_running(Stream, const PagedBatch&, const RaggedRows&) {
    not_written("add_running");
}
void CudaBackend::decode_evict(Stream, const PagedBatch&, const RaggedRows&, int, DecodeOrder) {
    not_written("decode_evict");
}

}  // namespace cake
