#!/usr/bin/env bash
# Every example is built and run. One that needs arguments has its own part of the demo.
. "$(dirname "$0")/../lib.sh"

# Where the examples of devices can run, they must.
require_vulkan
# Those of CUDA run on the simulated driver.
require_nvrtc
driver=$(cuda_sim_dir)

# run_it SOURCE LIBRARIES COMMAND…
run_it() {
    local source=$1 libraries=$2
    shift 2
    say "$source"
    case $source in
    */cuda.*) LD_LIBRARY_PATH=$driver:$libraries NEURO_REQUIRE_CUDA=1 "$@" ;;
    *) LD_LIBRARY_PATH=$libraries "$@" ;;
    esac
}

count=0
for source in examples/python/*.py; do
    need "$source" "a Python example"
    run_it "$source" "${LD_LIBRARY_PATH:-}" "$PYTHON" "$source"
    count=$((count + 1))
done

for source in examples/rust/*.rs; do
    need "$source" "a Rust example"
    run_it "$source" "${LD_LIBRARY_PATH:-}" cargo run --quiet --locked -p neuro-core --example "$(basename "$source" .rs)"
    count=$((count + 1))
done

cargo build --quiet --locked -p neuro-capi
lib=$(lib_dir debug)
mkdir -p "$BUILD/examples"
for source in examples/c/*.c; do
    need "$source" "a C example"
    if [ "$(basename "$source")" = vulkan.c ] && [ ! -e /usr/include/vulkan/vulkan_core.h ]; then
        [ -z "${NEURO_REQUIRE_VULKAN:-}" ] || die "$source needs Vulkan's headers" "    apt-get install -y libvulkan-dev"
        skip "$source" "no Vulkan headers (Debian, Ubuntu: apt install libvulkan-dev)"
        continue
    fi
    program=$BUILD/examples/$(basename "$source" .c)
    gcc -std=c99 -g -Wall -Wextra -Werror -pedantic -Iinclude "$source" -o "$program" -L"$lib" -lneuro_memory -lm
    # It classifies what the demo has trained: a short demo, with its promises kept, runs it.
    [ "$(basename "$source")" != classify.c ] || continue
    run_it "$source" "$lib" "$program"
    count=$((count + 1))
done

say "examples/demo, shortened"
"$PYTHON" examples/demo/run.py --lib-dir "$lib" --out "$BUILD/examples/demo" --trainings 1 --rounds 2
say "examples: $count programs and the demo"
