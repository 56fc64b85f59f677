#!/usr/bin/env bash
# Kernels in CUDA C, with NVRTC and without a device: what is compiled, each kernel of the repository among it, and launches on a
# device that plays one of CUDA's.
. "$(dirname "$0")/../lib.sh"

require_nvrtc
cargo test --locked -p neuro-core --lib kernel::cuda::
