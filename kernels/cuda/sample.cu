// One search answers all that is asked of a row: at which token, best first, does what lies before it add up to a target?
// Counted, that is top-k; weighed, it is top-p, and the token that a random number falls on. The search is select.cu's, digit
// by digit of the keys from the top, within one block.
//
// Weights are integers, 2^44 for the likeliest token: sums have one value in any order, so atomics change nothing, and the
// same logits give the same token wherever they are.
#include "kernels/cuda/sample.h"

#include <algorithm>
#include <bit>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/rank_key.cuh"
#include "kernels/cuda/reduce.cuh"

namespace cake::gpu {
namespace {

using Key = std::uint64_t;   // short_key
using Mass = std::uint64_t;  // of tokens: how many, or the sum of their weights

constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;
constexpr double kWeightOfBest = 0x1p44;
static_assert(most_sampled_from <= std::int64_t(1) << (63 - 44));

// A row's logits, in runs of columns.
struct Logits {
    const float* x;
    std::int64_t rows, row;
    int n, parts, index_bits;
};

// Calls f(logit, key) for each, spread over the block's threads.
template <typename F>
__device__ __forceinline__ void for_each_token(const Logits& logits, F f) {
    const int each = logits.n / logits.parts, more = logits.n % logits.parts;
    for (int p = 0, begin = 0; p < logits.parts; ++p) {
        const int size = each + (p < more ? 1 : 0);
        const float* const run = logits.x + logits.rows * begin + logits.row * size;
        for (int i = int(threadIdx.x); i < size; i += int(blockDim.x)) {
            const float x = run[i] == run[i] ? run[i] : __uint_as_float(0xff800000u);  // -infinity
            f(x, short_key(x, std::uint32_t(begin + i), logits.index_bits));
        }
        begin += size;
    }
}

// What filters have left.
struct Candidates {
    Key last;  // keys up to this one
    bool counted;
    double best, temperature;  // of weights, where these are not counted
    double min_p;              // those of lower weight are out

    __device__ Mass mass(float x, Key key) const {
        if (key > last)
            return 0;
        if (counted)
            return 1;
        const double weight = double(x) == best ? 1.0 : exp((double(x) - best) / temperature);
        return weight < min_p ? 0 : Mass(weight * kWeightOfBest + 0.5);
    }
};

__device__ Mass mass_of_all(const Logits& logits, const Candidates& candidates) {
    Mass sum = 0;
    for_each_token(logits, [&](float x, Key key) { sum += candidates.mass(x, key); });
    return block_sum(sum);
}

struct Reached {
    Key key;
    Mass mass;  // up to the key, its own included
};

// The first token, best first, with which the masses add up to `target`, at least 1 and at most all of them.
__device__ Reached reach(const Logits& logits, const Candidates& candidates, Mass target) {
    struct Step {
        Key prefix;  // the key's digits found so far
        Mass before;
        std::uint32_t tokens;  // whose keys begin with them
    };
    CAKE_SHARED(std::uint32_t, tokens, [kBins]);  // by digit; masses in two halves
    CAKE_SHARED(std::uint32_t, low, [kBins]);
    CAKE_SHARED(std::uint32_t, high, [kBins]);
    CAKE_SHARED(Step, found, [1]);
    CAKE_SHARED(Reached, reached, [1]);
    const auto mass_in = [&](int bin) { return Mass(high[bin]) << 32 | low[bin]; };

    Step step{0, 0, 0};
    int left = 32 + logits.index_bits;  // bits
    while (left > 0 && step.tokens != 1) {
        const int bits = min(kDigitBits, left);
        left -= bits;
        for (int bin = int(threadIdx.x); bin < kBins; bin += int(blockDim.x))
            tokens[bin] = low[bin] = high[bin] = 0;
        __syncthreads();
        for_each_token(logits, [&](float x, Key key) {
            if (key >> left >> bits != step.prefix)
                return;
            const Mass mass = candidates.mass(x, key);
            if (mass == 0)
                return;
            const auto bin = unsigned(key >> left) & ((1u << bits) - 1);
            const auto half = std::uint32_t(mass);
            const std::uint32_t before = atomicAdd(&low[bin], half);
            const std::uint32_t more =
                std::uint32_t(mass >> 32) + (before + half < before ? 1u : 0u);
            if (more > 0)
                atomicAdd(&high[bin], more);
            atomicAdd(&tokens[bin], 1u);
        });
        __syncthreads();

        const int bins_of_thread = (kBins + int(blockDim.x) - 1) / int(blockDim.x);
        const int first = min(int(threadIdx.x) * bins_of_thread, kBins),
                  end = min(first + bins_of_thread, kBins);
        Mass sum = 0;
        for (int bin = first; bin < end; ++bin)
            sum += mass_in(bin);
        Mass before = step.before + block_prefix_sum(sum).before;
        if (before < target && target <= before + sum) {  // one thread's
            int bin = first;
            for (; before + mass_in(bin) < target; ++bin)
                before += mass_in(bin);
            found[0] = {step.prefix << bits | Key(bin), before, tokens[bin]};
        }
        __syncthreads();
        step = found[0];
    }
    for_each_token(logits, [&](float x, Key key) {
        if (key >> left != step.prefix)
            return;
        const Mass mass = candidates.mass(x, key);
        if (mass > 0)  // one token's
            reached[0] = {key, step.before + mass};
    });
    __syncthreads();
    const Reached out = reached[0];
    __syncthreads();  // before it is written again
    return out;
}

// Grid: rows. Block: whole warps. Shared: 24 KB. Reads a row once for the best, once or twice for sums, and for each filter and
// the draw itself once for each digit until a token is alone (two or three as a rule, five at most) and once more.
__global__ void __launch_bounds__(kLargestBlock)
    sample_kernel(const float* __restrict__ x, int n, int parts, int index_bits,
                  const Draw* __restrict__ draws, std::int32_t* __restrict__ tokens) {
    const Draw draw = draws[blockIdx.x];
    const Logits logits{x, gridDim.x, blockIdx.x, n, parts, index_bits};
    float best = __uint_as_float(0xff800000u);  // -infinity
    for_each_token(logits, [&](float value, Key) { best = value > best ? value : best; });
    best = block_max(best);

    Candidates left{~Key(0), true, double(best), draw.temperature, 0};
    const bool greedy = draw.temperature <= 0;
    if (greedy || (draw.top_k > 0 && draw.top_k < n))
        left.last = reach(logits, left, greedy ? 1 : Mass(draw.top_k)).key;
    Key chosen = left.last;
    if (!greedy) {
        left.counted = false;
        Mass sum = mass_of_all(logits, left);
        if (draw.top_p < 1) {
            const auto enough = Mass(ceil(draw.top_p * double(sum)));
            const Reached to = reach(logits, left, min(max(enough, Mass(1)), sum));
            left.last = to.key;
            sum = to.mass;
        }
        if (draw.min_p > 0) {
            left.min_p = draw.min_p;
            sum = mass_of_all(logits, left);
        }
        chosen = reach(logits, left, min(Mass(draw.random * double(sum)), sum - 1) + 1).key;
    }
    if (threadIdx.x == 0)
        tokens[blockIdx.x] = std::int32_t(chosen & ((Key(1) << index_bits) - 1));
}

}  // namespace

void sample(Queue queue, const float* x, int rows, int n, int parts, const Draw* draws,
            std::int32_t* tokens) {
    const int threads = std::clamp((n + kWarp - 1) / kWarp * kWarp, kWarp, kLargestBlock);
    launch(queue, sample_kernel, dim3(unsigned(rows)), dim3(unsigned(threads)), 0, x, n, parts,
           int(std::bit_width(unsigned(n - 1))), draws, tokens);
}

}  // namespace cake::gpu
