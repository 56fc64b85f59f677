#!/usr/bin/env bash
# bench.sh SUBJECT [OPTION…]: runs bench/SUBJECT.py on a release build; --help lists the options. Figures only mean something
# on a machine that does nothing else.
. "$(dirname "$0")/lib.sh"

subject=${1:?which benchmark?}
shift
need "bench/$subject.py" "the benchmark"
case $subject in
pool)
    bash scripts/setup.sh bench
    say "building the measured process and its peers"
    # Outside the target directory of the product: another workspace, other dependencies. cmake is that of .venv.
    CARGO_TARGET_DIR=$ROOT/bench/target PATH=$VENV/bin:$PATH \
        cargo build --quiet --release --locked --manifest-path bench/Cargo.toml --package pool-worker ||
        die "the peers could not be built; the compiler's words are above" \
            "(they are C and C++ too: gcc, g++ with C++20, make and cmake are needed)"
    ;;
device)
    # The loader, a software device and the layer that checks come with what the tests need.
    bash scripts/setup.sh test
    say "building the measured process and the layer that counts"
    CARGO_TARGET_DIR=$ROOT/bench/target \
        cargo build --quiet --release --locked --manifest-path bench/Cargo.toml --package device-worker --package bench-layer
    ;;
cuda)
    bash scripts/setup.sh demo
    say "building the measured process and the simulated driver"
    CARGO_TARGET_DIR=$ROOT/bench/target \
        cargo build --quiet --release --locked --manifest-path bench/Cargo.toml --package cuda-worker
    driver=$(cuda_sim_dir release)
    set -- --driver "$driver" "$@"
    ;;
*)
    bash scripts/setup.sh demo
    bash scripts/module.sh
    ;;
esac
exec "$PYTHON" "bench/$subject.py" "$@"
