// The numbers of models that people have.
#pragma once

#include "config/model_config.h"

namespace cake::test {

inline ModelConfig llama_8b() {
    ModelConfig m;
    m.n_layers = 32;
    m.d_model = 4096;
    m.n_heads = 32;
    m.n_kv_heads = 8;
    m.d_head = 128;
    m.d_ff = 14336;
    m.vocab = 128256;
    m.max_positions = 131072;
    return m;
}

}  // namespace cake::test
