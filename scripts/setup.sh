#!/usr/bin/env bash
# setup.sh demo|test|bench: checks the tools, installs what it may, makes .venv. Quick when nothing has changed.
#
# Tools come first because each has its own remedy: a Rust toolchain is the user's to install, system packages are
# installed when that can be done without asking (as root, with apt-get), Python packages go into .venv only.
. "$(dirname "$0")/lib.sh"

set_of_packages=${1:-test}
requirements=requirements/$set_of_packages.txt
need "$requirements" "the list of Python packages"
lists=("$requirements")
# Too much for everybody's machine; the part `torch` of the tests says so where it is not there.
if [ "$set_of_packages" = test ] && in_ci; then lists+=(requirements/torch.txt); fi

# ---- Rust ---------------------------------------------------------------------------------------------------------

if ! command -v cargo >/dev/null; then
    die "no Rust toolchain: cargo is not on the PATH. This installs one:" \
        "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
fi

# ---- system packages ----------------------------------------------------------------------------------------------

# Debian's names of what is not there. Asked of the tools themselves, so that it holds on other systems too.
missing_packages() {
    command -v gcc >/dev/null || echo gcc
    command -v g++ >/dev/null || echo g++
    # gcc alone compiles but neither includes nor links.
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    command -v make >/dev/null || echo make
    command -v pkg-config >/dev/null || echo pkg-config
    command -v nm >/dev/null || echo binutils
    command -v python3 >/dev/null || echo python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    [ "$set_of_packages" = test ] || return 0
    # valgrind replaces functions of the dynamic loader, which it finds by its debug symbols.
    command -v valgrind >/dev/null || echo valgrind libc6-dbg
    vulkan_missing
    # For C programs that bring shaders and devices of their own.
    [ -e /usr/include/vulkan/vulkan_core.h ] || echo libvulkan-dev
}

missing=$(missing_packages | tr '\n' ' ')
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || die "these are missing; install what your system calls them, then come back: $missing"
    [ "$(id -u)" = 0 ] || die "these are missing: $missing" "    sudo apt-get update && sudo apt-get install -y $missing"
    say "installing Debian packages: $missing"
    mkdir -p "$BUILD"
    # shellcheck disable=SC2086 # a list of names
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
        >"$BUILD/apt.log" 2>&1 </dev/null; then
        tail -n 20 "$BUILD/apt.log" >&2
        die "apt-get could not install: $missing(all of its output: build/apt.log)"
    fi
fi

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python 3.11 or newer is needed; python3 is $(python3 -V)"

# ---- Python packages ----------------------------------------------------------------------------------------------

# Of the interpreter too: a .venv of a Python that has been replaced is made again.
interpreter=$(python3 -c 'import sys; print(sys.version, sys.base_prefix)')
if [ ! -x "$PYTHON" ] || [ "$(cat "$VENV/interpreter" 2>/dev/null)" != "$interpreter" ]; then
    say "making .venv"
    python3 -m venv --clear "$VENV"
    printf '%s\n' "$interpreter" >"$VENV/interpreter"
fi

stamp=$VENV/installed-$set_of_packages
sum=$(cat requirements/*.txt | sha256sum)${lists[*]}
if [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ]; then
    say "installing Python packages: ${lists[*]}"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${lists[@]/#/--requirement=}" ||
        die "pip could not install ${lists[*]} into .venv; its words are above"
    printf '%s\n' "$sum" >"$stamp"
fi
