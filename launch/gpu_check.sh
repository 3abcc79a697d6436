#!/usr/bin/env bash
# Everything that needs a GPU, in one call: tests of the kernels and the engine on the device, CPU against CUDA, two
# ranks on one GPU, ceilings, Llama-3.1-8B with random weights, compute-sanitizer. It runs from an unpacked bundle
# (launch/gpu_bundle.sh) and fetches nothing. A step that fails is reported, and the next goes on.
#
# usage: gpu_check.sh [--output DIR] [--seconds N] [--model FILE.gguf]
#        launch/gpu_check.sh --self-test     the same steps, small, on emulated GPUs of a build here (CAKE_BUILD)
#   --output    for gpu_check.json, gpu_check.log and rows of cake bench: bench.jsonl, own.jsonl (our own attention),
#               phases.jsonl (steps that are not captured), sampled.jsonl (sampled steps); default $OUT, else gpu-check
#   --seconds   when they have passed, what is left is not started and what runs is ended; default 460
#   --model     a real model to compare CPU and CUDA on; default: the bundle's, where it has one
# The last lines are a table. exit: 0 all that ran passed, 1 a step failed, 2 wrong usage
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=${OUT:-gpu-check} seconds=460 model='' self_test=0
while (( $# > 0 )); do
    case $1 in
        --output)    output=${2:?}; shift 2 ;;
        --seconds)   seconds=${2:?}; shift 2 ;;
        --model)     model=${2:?}; shift 2 ;;
        --self-test) self_test=1; shift ;;
        *)
            echo "usage: gpu_check.sh [--output DIR] [--seconds N] [--model FILE.gguf] [--self-test]" >&2
            exit 2
            ;;
    esac
done
deadline=$((SECONDS + seconds))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$output" || exit 2
report=$here/gpu_check_report.py

# ---- where things are ------------------------------------------------------------------------------------------------
# shellcheck source=launch/env.sh
source "$here/env.sh"
export OMPI_MCA_rmaps_base_oversubscribe=1

# Adds the folder of a CUDA library that the dynamic linker does not find by itself: Python packages have them too.
find_library() {
    python3 -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null && return
    local found
    found=$(compgen -G "/usr/local/cuda*/lib64/$1" || compgen -G "/usr/local/cuda*/lib/$1" ||
        compgen -G "/usr/local/nvidia/lib*/$1" || python3 - "$1" <<'PYTHON'
import pathlib, site, sys
for folder in site.getsitepackages() + sys.path:
    for path in sorted(pathlib.Path(folder or ".").glob("nvidia/*/lib/" + sys.argv[1])):
        print(path)
PYTHON
    )
    [[ -n $found ]] || found=$(timeout 20 find /opt /usr /root /home -name "$1" -not -path '*/stubs/*' 2>/dev/null)
    [[ -n $found ]] || return 1
    found=$(dirname "${found%%$'\n'*}")
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$found
}

if (( self_test )); then
    tests=${CAKE_BUILD:-$here/../build/release}/tests
    cake=$tests/cake_emulated kernels=$tests/test_kernels_emulated engine=$tests/test_engine_emulated
    golden=$here/../tests/golden prompt=$here/demo/prompt.txt
    # What a machine with a GPU has, and here has nothing to look at.
    mkdir "$work/bin"
    printf '#!/usr/bin/env bash\nshift 4\nexec "$@"\n' >"$work/bin/compute-sanitizer"
    printf '#!/usr/bin/env bash\necho 290\n[[ $* != *-lms* ]] || exec sleep 60\n' >"$work/bin/nvidia-smi"
    chmod +x "$work"/bin/*
    export PATH=$work/bin:$PATH
else
    cake=$here/cake kernels=$here/test_kernels engine=$here/test_engine_cuda
    golden=$here/tests/golden prompt=$here/prompt.txt
    export CAKE_SOURCE=$here CAKE_PROGRAM=$here/cake
    [[ -n $model || ! -f $here/model.gguf ]] || model=$here/model.gguf
    if [[ -d $here/openmpi ]]; then
        export OPAL_PREFIX=$here/openmpi PATH=$here/openmpi/bin:$PATH
        export LD_LIBRARY_PATH=$here/openmpi/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        export OMPI_MCA_plm=isolated  # there may be no ssh, and nobody to reach by it
    fi
    # Ranks of one machine, in a container that may forbid to read another process's memory.
    export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none
    # Programs do not start without NCCL; what stands in for it is for those who do not call it.
    [[ -f $here/lib/libnccl.so.2 ]] || find_library libnccl.so.2 ||
        export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$here/no_nccl
    # libcudart and libnvrtc are cuDNN's.
    for name in libcuda.so.1 libcublasLt.so.13 libcudart.so.13 libnvrtc.so.13 libcudnn.so.9; do
        find_library "$name"
    done
fi

# ---- steps -----------------------------------------------------------------------------------------------------------
note() {  # NAME STATUS SECONDS [WHY]
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}" >>"$work/steps.tsv"
    echo "gpu_check: $1: $2, $3 s ${4:-}" >&2
}

# Whatever ends this script later: what there is by now.
keep() {  # NAME
    local file
    { printf '==== %s\n' "$1"; tail -c 200000 "$work/$1.log"; } >>"$output/gpu_check.log"
    for file in "$work"/*/bench.jsonl; do
        [[ ! -f $file ]] || cp "$file" "$output/$(basename "$(dirname "$file")").jsonl"
    done
}

# NAME LIMIT COMMAND...: at most LIMIT seconds, and what is left of all. Functions must be exported.
step() {
    local name=$1 limit=$2 left=$((deadline - SECONDS)) status=0 begin=$SECONDS
    shift 2
    if (( left < 3 )); then
        note "$name" skipped 0 "no time left"
        return
    fi
    # bash waits for what it runs, or a program that finishes its work first would be left behind and never be killed.
    timeout -k 5 $((limit < left ? limit : left)) bash -c 'trap : TERM; "$@"' _ "$@" >"$work/$name.log" 2>&1 </dev/null ||
        status=$?
    case $status in
        0)  note "$name" passed $((SECONDS - begin)) ;;
        77) note "$name" skipped $((SECONDS - begin)) ;;
        124|137)
            if (( limit > left )); then
                note "$name" skipped $((SECONDS - begin)) "ended: no time left"
            elif [[ $name == sanitizer.* ]] && ! grep -v COMPUTE-SANITIZER "$work/$name.log" | grep -q '^========= '; then
                note "$name" skipped $((SECONDS - begin)) "ended after its time, and had found nothing"
            else
                note "$name" failed $((SECONDS - begin)) "ended after its time"
            fi
            ;;
        *)  note "$name" failed $((SECONDS - begin)) "exit code $status" ;;
    esac
    keep "$name"
}

machine() {
    nvidia-smi --query-gpu=name,memory.total,memory.used,driver_version,clocks.max.sm,power.limit --format=csv || true
    echo "$(nproc) processors, $(getconf GNU_LIBC_VERSION), LD_LIBRARY_PATH ${LD_LIBRARY_PATH:-}"
    ! ldd "$cake" | grep 'not found' || return
    "$cake" version
}

# A test program and its arguments. One that skips everything has shown nothing. mpirun gives its ranks a terminal, and
# googletest colours what a terminal gets.
tests_of() {
    GTEST_COLOR=no "$@" 2>&1 | tee "$work/tests"
    (( PIPESTATUS[0] == 0 )) && grep -q '\[  PASSED  \] [1-9]' "$work/tests"
}

# LIST EACH: kernel tests that match LIST, those of a suite that match EACH in a process of their own: an illegal address
# ends what its process may do with a GPU. An error names the kernel that made it.
kernel_suites() {
    local suite suites status=0
    suites=$("$kernels" --gtest_list_tests --gtest_filter="$1" | grep -oE '^[A-Za-z0-9_]+\.$')
    if [[ -z $suites ]]; then
        echo "no test is $1: the program sees no GPU"
        return 1
    fi
    for suite in $suites; do
        CAKE_SYNC=1 timeout -k 2 25 "$kernels" --gtest_filter="$suite$2" || status=1
    done
    return $status
}

# NAME BACKEND ARGUMENTS...: writes NAME.json and NAME.kept.json. $launcher: nothing, or mpirun.
generate() {
    local name=$1 backend=$2
    shift 2
    ${launcher:-} "$cake" generate --quiet --backend "$backend" --ignore-eos --max-new-tokens 4 --logprobs 5 \
        --report "$work/$name.json" --dump-kept "$work/$name.kept.json" "$@" >/dev/null
}

# A B LOGITS BUDGET KEPT: how far two runs may be apart: log-probabilities of the first token, tokens of a layer's budget,
# part of the kept entries.
agree() {
    local status=0
    "$cake" diff "$work/$1.json" "$work/$2.json" --any-tokens --budget-tolerance "$4" --kept-tolerance "$5" \
        --kept-a "$work/$1.kept.json" --kept-b "$work/$2.kept.json" || status=1
    python3 "$report" logits "$work/$1.json" "$work/$2.json" "$3" || status=1
    python3 "$report" kept "$work/$1.kept.json" "$work/$2.kept.json"
    return $status
}

# NAME LOGITS BUDGET KEPT ARGUMENTS...: the CPU, in F32, against CUDA, in BF16.
cpu_and_cuda() {
    local name=$1 logits=$2 budget=$3 kept=$4
    shift 4
    generate "$name.cpu" cpu "$@" && generate "$name.cuda" cuda "$@" &&
        agree "$name.cpu" "$name.cuda" "$logits" "$budget" "$kept"
}

# NAME ARGUMENTS...: two ranks against one, on one GPU unless $apart.
one_and_two_ranks() {
    local name=$1 share=--share-gpu
    [[ -z ${apart:-} ]] || share=
    shift
    generate "$name.one" cuda "$@" && launcher="mpirun -n 2" generate "$name.two" cuda $share --check "$@" &&
        agree "$name.one" "$name.two" 0.2 3 0.1
}

# NAME ARGUMENTS...: the device draws the same tokens in captured steps as by kernels that are launched one by one.
sampled_steps() {
    local name=$1 graphs
    shift
    for graphs in 0 1; do
        CAKE_GRAPHS=$graphs "$cake" generate --quiet --backend cuda --ignore-eos --max-new-tokens 24 --temperature 1 \
            --top-p 0.95 --seed 1 --report "$work/$name.graphs_$graphs.json" "$@" >/dev/null || return
    done
    "$cake" diff "$work/$name.graphs_0.json" "$work/$name.graphs_1.json"
}

# On two GPUs; or on one, where NCCL lets ranks share it, from 2.30 on. Older ones leave the data to the host.
with_nccl() {
    local apart=
    if (( $(nvidia-smi -L 2>/dev/null | wc -l) > 1 )); then
        apart=1
    else
        export NCCL_MULTI_RANK_GPU_ENABLE=1 NCCL_MAX_CTAS=8  # ranks that wait for each other have to fit in together
    fi
    if ! tests_of mpirun -n 2 "$here/test_comm_mpi" --gtest_filter='*Nccl*'; then
        ! grep -q 'no NCCL between GPUs here' "$work/tests" || return 77
        return 1
    fi
    one_and_two_ranks "$@"
}

ceilings() { "$cake" bench --ceilings --quiet --model "$config" --backend cuda; }

# NAME ARGUMENTS...: rows go to one file ($rows/bench.jsonl); a run that adds combinations makes only these.
bench() {
    local status=0 watcher=
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 200 >"$work/$1.memory" &
        watcher=$!
    fi
    shift
    "$cake" bench --quiet --model "$config" --backend cuda --random-weights 1 --repeat 1 \
        --output "$work/${rows:-bench}" "$@" || status=$?
    [[ -z $watcher ]] || kill "$watcher"
    return $status
}

own_attention() { CAKE_CUDNN=0 rows=own bench "$@"; }

# Each kernel by itself.
kernels_alone() {
    "$cake" bench --kernels --quiet --model "$config" --backend cuda --output "$work/kernels_alone" --batches 1 --policies cake "$@"
}

# Seconds of decoding by kind of kernel, which a captured step does not tell.
phases() { CAKE_GRAPHS=0 rows=phases bench "$@"; }

# NAME ARGUMENTS...: sampled steps; and one run's memory, beside what its plan says that CUDA's libraries take.
sampled_bench() {
    "$cake" plan --model "$config" --backend cuda --json >"$work/plan.json" && rows=sampled bench "$@" \
        --set generation.temperature=1 --set generation.top_p=0.95
}

# TOOL FILTER: kernel tests, with small shapes.
sanitized() {
    local tool status
    tool=$(command -v compute-sanitizer || compgen -G '/usr/local/cuda*/bin/compute-sanitizer' | head -1)
    if [[ -z $tool ]]; then
        echo "there is no compute-sanitizer here"
        return 77
    fi
    CAKE_TEST_SMALL=1 "$tool" --tool "$1" --error-exitcode 9 "$kernels" --gtest_brief=1 --gtest_filter="$2" 2>&1 |
        tee "$work/sanitized"
    status=${PIPESTATUS[0]}
    ! grep -q 'Device not supported' "$work/sanitized" || return 77  # by this kind of virtual machine
    return "$status"
}

export -f machine tests_of kernel_suites generate agree cpu_and_cuda one_and_two_ranks sampled_steps with_nccl ceilings bench \
    own_attention kernels_alone phases sampled_bench sanitized
export cake work report kernels here config=$work/config.json

# Arguments of generate for a model of tests/golden and one of its prompts.
tiny() {
    python3 "$report" prompt "$golden/$1/index.json" "$2" >"$work/$1.$2.json" &&
        tiny=(--model "$golden/$1/model" --prompt-tokens "$work/$1.$2.json" --cache-size "$3" --window 16)
}

# LAYERS HEADS KV_HEADS HEAD_DIM D_FF VOCABULARY CONTEXT: a config.json of Llama's architecture.
config_of() {
    cat <<JSON
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": $1, "num_attention_heads": $2,
 "num_key_value_heads": $3, "head_dim": $4, "hidden_size": $(($2 * $4)), "intermediate_size": $5, "vocab_size": $6,
 "max_position_embeddings": $7, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": false,
 "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 8192}, "torch_dtype": "bfloat16"}
JSON
}

# ---- the run ---------------------------------------------------------------------------------------------------------
rm -f "$output/gpu_check.log" "$output"/{bench,own,phases,sampled}.jsonl
step machine 30 machine
long=131072  # tokens of the prompts that targets are about
if (( self_test )); then
    long=128
    step kernels 60 tests_of kernel_suites 'Norm*:TopK*:Rope*' '*'
    tiny tiny-qwen2 p120 64
    step cpu_and_cuda.tiny-qwen2 60 cpu_and_cuda tiny-qwen2 0.2 3 0.1 "${tiny[@]}"
    config_of 1 1 1 16 32 64 256 >"$config"
    step ceilings 60 ceilings
    config_of 2 4 2 16 128 256 256 >"$config"
    small=(--cache-sizes 64 --new-tokens 4 --warmup 0)
    step bench.batch_1 60 bench batch_1 --policies full,cake --prompts 64,128 --batches 1 "${small[@]}"
    step bench.phases 60 phases phases --policies full,cake --prompts 128 --batches 1 "${small[@]}"
    step kernels_alone 60 kernels_alone --prompts 100 --cache-sizes 64
    step bench.sampled 60 sampled_bench sampled --policies cake --prompts 128 --batches 1 "${small[@]}"
    step engine 120 tests_of "$engine" --gtest_filter='*GivesTheLogits*tiny_qwen2_1_ranks_bf16'
    step two_ranks 60 one_and_two_ranks two "${tiny[@]}"
    step sampled_steps 60 sampled_steps sampled "${tiny[@]}"
    step bench.batch_4 60 bench batch_4 --policies full,cake --prompts 128 --batches 4 "${small[@]}"
    step bench.too_long 60 bench too_long --policies full --prompts 1000 --batches 2 "${small[@]}"
    step bench.own 60 own_attention own --policies cake --prompts 64 --batches 1 "${small[@]}"
    step sanitizer.memcheck 60 sanitized memcheck 'Norm*'
else
    # First what says most; what comes last may find no time.
    step kernels 90 tests_of kernel_suites '*cuda*' '*cuda*'
    for name in tiny-llama tiny-qwen2; do
        tiny "$name" p300 96
        step "cpu_and_cuda.$name" 20 cpu_and_cuda "$name" 0.2 3 0.1 "${tiny[@]}"
    done
    # Llama-3.1-8B, with room for the answer behind 131,072 tokens.
    config_of 32 32 8 128 14336 128256 132096 >"$config"
    step ceilings 40 ceilings
    # A prompt passes once for both policies. Full caches fit into 80 GB beside the weights, but those of full_128k.
    large=(--cache-sizes 1024)
    step bench.batch_1 120 bench batch_1 --policies full,cake --prompts 8192,32768,"$long" --batches 1 --warmup 1 \
        --new-tokens 64 "${large[@]}"
    step bench.sampled 60 sampled_bench sampled --policies cake --prompts "$long" --batches 1 --warmup 0 \
        --new-tokens 64 "${large[@]}"
    step bench.phases 60 phases phases --policies full,cake --prompts "$long" --batches 1 --warmup 0 --new-tokens 16 \
        "${large[@]}"
    step kernels_alone 45 kernels_alone --prompts "$long" --cache-sizes 1024
    step engine 90 tests_of "$engine"
    [[ -z $model ]] || step cpu_and_cuda.model 45 cpu_and_cuda model 0.3 20 0.1 --model "$model" \
        --prompt-file "$prompt" --cache-size 256
    tiny tiny-llama p300 96
    step two_ranks 30 one_and_two_ranks two "${tiny[@]}"
    step sampled_steps 20 sampled_steps sampled "${tiny[@]}"
    step two_ranks_nccl 40 with_nccl nccl "${tiny[@]}" --set engine.prefill_chunk=64  # with sums beside computing
    step bench.cake 60 bench cake --policies cake --prompts 8192,32768,"$long" --batches 4,8,16 --warmup 0 \
        --new-tokens 64 "${large[@]}"
    step bench.full_128k 60 bench full_128k --policies full --prompts "$long" --batches 4 --warmup 0 --new-tokens 64 \
        "${large[@]}"
    step bench.own 40 own_attention own --policies cake --prompts 8192,32768 --batches 1 --warmup 1 --new-tokens 16 \
        "${large[@]}"
    step sanitizer.memcheck 45 sanitized memcheck '*cuda*-Linear*:Memory*'
    step sanitizer.racecheck 45 sanitized racecheck \
        'Norm*cuda*:TopK*cuda*:DecodeAttention*cuda*:Window*cuda*:Sample*cuda*-*LargeVocabulary*'
    step bench.full_8k 30 bench full_8k --policies full --prompts 8192 --batches 4,8,16 --warmup 0 --new-tokens 64 \
        "${large[@]}"
    step bench.full_32k 30 bench full_32k --policies full --prompts 32768 --batches 4,8 --warmup 0 --new-tokens 64 \
        "${large[@]}"
    for name in tiny-mistral tiny-llama31 tiny-llama-linear; do
        tiny "$name" p300 96
        step "cpu_and_cuda.$name" 20 cpu_and_cuda "$name" 0.2 3 0.1 "${tiny[@]}"
    done
    step sanitizer.synccheck 20 sanitized synccheck 'Norm*cuda*:TopK*cuda*:DecodeAttention*cuda*:Attention*cuda*'
    step sanitizer.initcheck 30 sanitized initcheck 'Norm*cuda*:TopK*cuda*:Rope*cuda*:Window*cuda*:Decode*cuda*'
    step bench.own_128k 45 own_attention own_128k --policies cake --prompts "$long" --batches 1 --warmup 0 \
        --new-tokens 16 "${large[@]}"
fi

python3 "$report" table "$work" "$output/gpu_check.json" "$long"
