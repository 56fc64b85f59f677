#!/usr/bin/env bash
# soak.sh: random programs on the simulated CUDA driver, as many as fit into SOAK_SECONDS (default: 600), from SOAK_SEED on (default: any).
# A program in which something is found to be wrong ends it, and its seed is said: SOAK_SEED=… begins with that program again.
. "$(dirname "$0")/lib.sh"

test=kernel::cuda::tests::soak::soak
seconds=${SOAK_SECONDS:-600}
# Far from one another, so that two soaks seldom try the same programs.
seed=${SOAK_SEED:-$((RANDOM * 32768 + RANDOM))000000}

say "building the test"
cargo test --quiet --locked --profile soak -p neuro-core --lib --no-run
say "programs from seed $seed on, for $seconds s"
log=$BUILD/soak.log
mkdir -p "$BUILD"
NEURO_SOAK_SECONDS=$seconds NEURO_SOAK_SEED=$seed \
    cargo test --quiet --locked --profile soak -p neuro-core --lib -- --exact "$test" --nocapture 2>&1 | tee "$log" ||
    die "something was found: the seed stands above, as NEURO_SOAK_SEED; SOAK_SEED of that value begins with it"
# Had it been renamed, no test would run, and that would look like success.
grep -q '^soak: [1-9][0-9]* programs' "$log" || die "no program was run: is there no test $test?"
