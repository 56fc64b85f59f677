#!/usr/bin/env bash
# Kernels in CUDA C, with NVRTC and without a device: what is compiled, each kernel of the repository among it, and launches on a
# device that plays one of CUDA's.
. "$(dirname "$0")/../lib.sh"

require_nvrtc
cargo test --locked -p neuro-core --lib kernel::cuda::

# The library as programs in C and Python have it, on the simulated driver: it checks every use, and a program in which it finds
# something wrong ends with a status of its own.
cargo build --quiet --locked -p neuro-capi -p cuda-sim
bash scripts/module.sh
driver=$BUILD/cuda-sim
mkdir -p "$driver"
ln -sf "$TARGET/debug/libcuda_sim.so" "$driver/libcuda.so.1"
for seed in 1 2 3; do
    say "" "simulated driver, seed $seed"
    on_it=(env LD_LIBRARY_PATH="$driver" NEURO_CUDA_SIM_SEED=$seed NEURO_REQUIRE_CUDA=1 NM_LIB_DIR="$TARGET/debug")
    "${on_it[@]}" sh tests/c/run.sh test_cuda test_cuda_kernels
    "${on_it[@]}" "$PYTHON" -m pytest -rs -p no:cacheprovider tests/python/test_cuda.py
done
