// The steps of eviction that prefill and decoding are written in.
#pragma once

#include <span>

#include "cache/sequence_cache.h"
#include "model/layer.h"
#include "policy/policy.h"

namespace cake {

// The `count` best of each row, best first: I32 [n_kv, count].  score: F32 [n_kv, n].
View top_k(const Rank& rank, View score, int count, Workspace& ws);

// The cache keeps of layer l the last `window` tokens and `keep`, with their `running` sums where there are some.
void keep_tokens(const Rank& rank, SequenceCache& cache, int l, const LayerKv& kv, int window,
                 View keep, View running);

// After the last layer: the order lists by which decoding finds a slot for each token.
void prepare_decoding(const Rank& rank, const Policy& policy, SequenceCache& cache);

// Throws Error on every rank of `comm` where `values` are not the same on all.
void check_equal_on_all_ranks(Communicator& comm, std::span<const int> values, const char* what);
// The same for what ranks with copies of a KV head hold of it, in all layers; where all heads are scored alike, for what
// all ranks hold.
void check_equal_copies(const Rank& rank, const Policy& policy, const SequenceCache& cache);

inline DecodeOrder decode_order(const Policy& policy) {
    return policy.decode == DecodeEvict::Official ? DecodeOrder::Official : DecodeOrder::Position;
}

}  // namespace cake
