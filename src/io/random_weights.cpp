#include "io/random_weights.h"

#include <cmath>
#include <vector>

#include "base/hash.h"
#include "io/dequant.h"

namespace cake {
namespace {

bool is_named(const TensorInfo& tensor, std::string_view part) {
    return tensor.name.find(part) != std::string::npos;
}

}  // namespace

RandomMatrix random_matrix(const TensorInfo& matrix, std::uint64_t seed) {
    const std::int64_t columns = matrix.shape.row_elements();
    const double deviation = (is_named(matrix, "q_proj") || is_named(matrix, "k_proj") ? 3 : 1) /
                             std::sqrt(double(columns));
    return {.key = mixed(seed + fnv1a(matrix.name)),
            .columns = columns,
            .range = float(2 * std::sqrt(3.0) * deviation)};
}

void fill_vector(const TensorInfo& vector, View out) {
    const std::vector<float> values(std::size_t(out.elements()),
                                    vector.name.ends_with(".bias") ? 0.0f : 1.0f);
    convert_row(DType::F32, reinterpret_cast<const std::byte*>(values.data()), 0, out.elements(),
                out.dtype(), out.data());
}

}  // namespace cake
