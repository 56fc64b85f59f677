#!/usr/bin/env bash
# The C tests once more with library and program instrumented by AddressSanitizer (and its leak check), and tests/c/asan, which
# shows that it sees inside pools.
. "$(dirname "$0")/../lib.sh"

need tests/c "the C tests"
host=$(rustc -vV | sed -n 's/^host: //p')
# The program brings the sanitizer's run-time library (gcc's); the Rust library must not bring another.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Zexternal-clangrt -Cunsafe-allow-abi-mismatch=sanitizer" \
    CARGO_TARGET_DIR=$TARGET/asan cargo rustc --quiet --locked -p neuro-capi "${quick_build[@]}" --lib --crate-type staticlib --target "$host"
lib=$TARGET/asan/$host/debug
work=$BUILD/asan
mkdir -p "$work"
# An impossible request must come back as NULL, as it does without the sanitizer.
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1

require_vulkan
# Those of CUDA run on the simulated driver.
require_nvrtc
driver=$(cuda_sim_dir)

for source in tests/c/*.c tests/c/asan/*.c; do
    need "$source" "a C test"
    program=$work/$(basename "$source" .c)
    gcc -std=c99 -g -O1 -fsanitize=address -Wall -Wextra -Werror -pedantic -D_POSIX_C_SOURCE=200809L -Iinclude -Itests/c "$source" -o "$program" \
        "$lib/libneuro_memory.a" -lpthread -lm -ldl
    say "$source under AddressSanitizer"
    on=()
    # Without protection of pages, whose signals the sanitizer wants for itself.
    case $source in *test_cuda*) on=(LD_LIBRARY_PATH="$driver" NEURO_REQUIRE_CUDA=1 NEURO_CUDA_SIM_PROTECT=0) ;; esac
    (cd "$work" && env "${on[@]}" NM_UNDER_ASAN=1 "$program") # some write files
done
