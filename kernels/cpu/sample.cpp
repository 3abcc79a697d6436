// Tokens drawn from logits.
#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/draw_token.h"
#include "kernels/cpu/parallel.h"

namespace cake {

void CpuBackend::sample(Stream, View x, int parts, View draws, View tokens) {
    const std::int64_t rows = tokens.elements();
    CAKE_CHECK(rows > 0 && parts > 0 && x.elements() / rows >= parts && x.elements() % rows == 0 &&
                   draws.shape() == Shape({rows, 5}),
               "{} tokens of {} in {} parts by {}", rows, x.shape().str(), parts,
               draws.shape().str());
    const std::int64_t n = x.elements() / rows, each = n / parts, more = n % parts;
    const float* const logits = x.as<float>();
    const auto* const of_row = reinterpret_cast<const Draw*>(draws.as<double>());
    TokenId* const drawn = tokens.as<TokenId>();
    parallel_for(threads_, rows, [&](std::int64_t r) {
        std::vector<Candidate> candidates;
        candidates.reserve(std::size_t(n));
        for (std::int64_t p = 0, begin = 0; p < parts; ++p) {
            const std::int64_t size = each + (p < more ? 1 : 0);
            const float* const run = logits + rows * begin + r * size;
            for (std::int64_t i = 0; i < size; ++i)
                candidates.push_back({score_of(run[i]), TokenId(begin + i)});
            begin += size;
        }
        drawn[r] = draw_token(candidates, of_row[r]);
    });
}

}  // namespace cake
