# What every script here begins with: `. scripts/lib.sh` from any directory below the root. Not a program.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
# Where cargo puts what it builds; honoured if the caller has set it.
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
case $TARGET in /*) ;; *) TARGET=$ROOT/$TARGET ;; esac
export CARGO_TARGET_DIR=$TARGET
# What else the scripts make.
BUILD=$ROOT/build

# The same Python for every cargo call, or pyo3 would be configured, and all above it built, again and again.
export PYO3_PYTHON=$PYTHON
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
# JAX looks for accelerators otherwise, and warns about each that it does not find.
export JAX_PLATFORMS=cpu

# For builds with flags of their own, which share nothing with others: dependencies are built, not optimised.
quick_build=(--config 'profile.dev.package."*".opt-level=0')

# say LINE: a line of progress.
say() { printf '%s\n' "$*"; }

# die LINE…: what is missing and what to do about it, on standard error; ends with status 2.
die() {
    printf 'neuro-memory: %s\n' "$@" >&2
    exit 2
}

# need PATH WHAT: stops unless PATH is there.
need() { [ -e "$1" ] || die "$2 is missing: $1 is not there"; }

# lib_dir PROFILE: a directory with the C library of this profile under all its names: programs ask for the soname, which
# only an installed library would have.
lib_dir() {
    local dir=$BUILD/lib/$1
    mkdir -p "$dir"
    ln -sf "$TARGET/$1/libneuro_memory.so" "$dir/libneuro_memory.so"
    ln -sf libneuro_memory.so "$dir/libneuro_memory.so.0"
    ln -sf "$TARGET/$1/libneuro_memory.a" "$dir/libneuro_memory.a"
    printf '%s' "$dir"
}

# cuda_sim_dir [release]: builds the simulated CUDA driver, and names a directory with it as programs look for a driver, to stand in
# LD_LIBRARY_PATH. Only what has that there finds it.
cuda_sim_dir() {
    local profile=${1:-debug} dir
    dir=$BUILD/cuda-sim/$profile
    local -a build=(cargo build --quiet --locked -p cuda-sim)
    [ "$profile" = debug ] || build+=(--profile "$profile")
    "${build[@]}" >&2
    mkdir -p "$dir"
    ln -sf "$TARGET/$profile/libcuda_sim.so" "$dir/libcuda.so.1"
    printf '%s' "$dir"
}

# in_ci: whether this is continuous integration, where all is installed that a test needs.
in_ci() { case ${CI:-} in '' | 0 | false) return 1 ;; esac }

# vulkan_missing: Debian's names of what the tests of Vulkan devices need and do not find: loader, software device, layer that
# checks. The software device also where there is a graphics card: it is there on every machine.
vulkan_missing() {
    case $(PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null) in
    *libvulkan.so.1*) ;;
    *) echo libvulkan1 ;;
    esac
    local -a data=({/etc,/usr/share,/usr/local/share}/vulkan)
    [ -n "$(find "${data[@]}" -name 'lvp_icd*.json' 2>/dev/null)" ] || echo mesa-vulkan-drivers
    [ -n "$(find "${data[@]}" -name 'VkLayer_khronos_validation.json' 2>/dev/null)" ] || echo vulkan-validationlayers
}

# require_vulkan: from here on a test of Vulkan devices that cannot run fails instead of being SKIPPED, unless this is a machine that could
# not have what it needs: CI installs it, and so does setup.sh for root where there is apt-get. Whether drivers work is the tests'
# to say: one that is installed and shows no device is a failure, too.
require_vulkan() {
    local missing
    missing=$(vulkan_missing | tr '\n' ' ')
    if ! in_ci && [ -n "$missing" ] && ! { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }; then
        return 0
    fi
    export NEURO_REQUIRE_VULKAN=1
    [ -z "$missing" ] || die "the tests of Vulkan devices have to run here, and these are missing: $missing" "    apt-get install -y $missing"
}

# require_nvrtc: from here on tests find the compiler of CUDA C that is in .venv, and one that does not fails instead of being SKIPPED.
# It needs no device. Where the caller has named another, that one.
require_nvrtc() {
    local found
    export NEURO_REQUIRE_NVRTC=1
    [ -z "${NEURO_NVRTC:-}" ] || return 0
    # By what it holds: the folder's name has the version of CUDA in it.
    found=$(find "$VENV"/lib/python3*/site-packages/nvidia -name 'libnvrtc.so.*' 2>/dev/null | sort | tail -n 1) || true
    [ -n "$found" ] || die "the compiler of CUDA C is not in .venv" "    $PYTHON -m pip install -r requirements/test.txt"
    NEURO_NVRTC=$(dirname "$found")
    export NEURO_NVRTC
}

# skip WHAT WHY: a check that was not made. scripts/test.sh counts these lines.
skip() { printf 'SKIPPED: %s: %s\n' "$1" "$2"; }

# seconds_since START: whole seconds since START, itself a value of $SECONDS.
seconds_since() { printf '%d' $((SECONDS - $1)); }
