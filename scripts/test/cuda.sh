#!/usr/bin/env bash
# CUDA without a device: kernels in CUDA C with NVRTC; the simulated driver itself; and the library in C and Python on that driver, which
# checks every use. A program in which it finds something wrong ends with status 86, whatever the program itself thinks.
. "$(dirname "$0")/../lib.sh"

require_nvrtc
# What is compiled, each kernel of the repository among it, and launches on a device that plays one of CUDA's.
cargo test --locked -p neuro-core --lib kernel::cuda::
cargo test --locked -p cuda-sim -p races

cargo build --quiet --locked -p neuro-capi
driver=$(cuda_sim_dir)
bash scripts/module.sh
export NM_LIB_DIR=$TARGET/debug

# on_it COMMAND…: on the simulated driver, where a test that finds no device fails.
on_it() { env LD_LIBRARY_PATH="$driver" NEURO_REQUIRE_CUDA=1 "$@"; }

# By name, so that a test in a new file runs here, too.
c_tests=() python_tests=(tests/python/test_cuda*.py)
for source in tests/c/test_cuda*.c; do
    need "$source" "the tests of CUDA in C"
    c_tests+=("$(basename "$source" .c)")
done
need "${python_tests[0]}" "the tests of CUDA in Python"

for seed in 1 2 3; do
    say "" "simulated driver, seed $seed"
    on_it NEURO_CUDA_SIM_SEED=$seed sh tests/c/run.sh "${c_tests[@]}"
    on_it NEURO_CUDA_SIM_SEED=$seed "$PYTHON" -m pytest -rs -p no:cacheprovider "${python_tests[@]}"
done

# Without protection of pages: valgrind keeps its own account of what may be read and written.
say "" "under valgrind"
on_it NEURO_CUDA_SIM_PROTECT=0 sh tests/c/run.sh --valgrind "${c_tests[@]}"

# That a finding fails a test: programs that are wrong, and the same with what they lack.
say "" "programs that are wrong"
for wrong in unordered:UNORDERED_WAITS unrecorded:RECORDED; do
    program=cuda/${wrong%:*}
    if said=$(on_it sh tests/c/run.sh "$program"); then
        die "$program: two streams use the same memory without order, and that was not found" "$said"
    fi
    grep -q 'ended with status 86$' <<<"$said" || die "$program is wrong, and should end with status 86" "$said"
    on_it "${wrong#*:}=1" sh tests/c/run.sh "$program"
done

say "" "exceptions of C++"
libraries=$(lib_dir debug)
mkdir -p "$BUILD/cpp"
g++ -std=c++17 -Wall -Wextra -Werror -g -Iinclude tests/cpp/torch_throws.cpp -o "$BUILD/cpp/torch_throws" -L"$libraries" \
    -lneuro_memory -Wl,-rpath,"$libraries"
on_it "$BUILD/cpp/torch_throws"
