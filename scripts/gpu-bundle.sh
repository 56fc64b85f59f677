#!/usr/bin/env bash
# gpu-bundle.sh [quick] [FOLDER]: all that gpu-check needs on a machine with an NVIDIA device but neither Rust nor a network, in build/gpu-bundle
# or FOLDER: test programs, the library, the Python module, and gpu-check itself. `quick`: what the tests have built anyway, unoptimised.
. "$(dirname "$0")/lib.sh"

quick=
if [ "${1:-}" = quick ]; then
    quick=1
    shift
fi
bundle=${1:-$BUILD/gpu-bundle}
# What fits through narrow doors.
most=$((64 << 20))

[ -x "$PYTHON" ] || bash scripts/setup.sh test
[ "$(uname -m)" = x86_64 ] || die "a bundle is made on x86-64, for machines of that kind; this one is $(uname -m)"
rm -rf "$bundle"
mkdir -p "$bundle"/{bin/c,lib,wheels,frame,checks,python/tests,python/packages}

# ---- programs -----------------------------------------------------------------------------------------------------

# tests_of PROFILE…: builds the core's tests, and names the program.
tests_of() {
    cargo test --quiet --locked -p neuro-core --lib --no-run --message-format=json "$@" |
        "$PYTHON" -c 'import json, sys; print([e for e in (json.loads(l).get("executable") for l in sys.stdin) if e][-1])'
}

say "the core's tests, and the library"
if [ -n "$quick" ]; then
    tests=$(tests_of)
    cargo build --quiet --locked -p neuro-capi
    library=$TARGET/debug/libneuro_memory.so
else
    tests=$(tests_of --profile bundle)
    cargo build --quiet --locked --profile bundle -p neuro-capi
    library=$TARGET/bundle/libneuro_memory.so
fi
strip -o "$bundle/bin/core-tests" "$tests"
strip --strip-unneeded -o "$bundle/lib/libneuro_memory.so.0" "$library"

say "the tests in C"
for source in tests/c/test_cuda*.c tests/c/test_{devices,transfers,vulkan}.c; do
    need "$source" "a test in C"
    # shellcheck disable=SC2016 # for the loader
    "${CC:-cc}" -std=c99 -Wall -Wextra -Wpedantic -Werror -O1 -s -D_POSIX_C_SOURCE=200809L -Iinclude "$source" \
        -o "$bundle/bin/c/$(basename "$source" .c)" "$bundle/lib/libneuro_memory.so.0" -Wl,-rpath,'$ORIGIN/../../lib' -pthread
done

# ---- Python -------------------------------------------------------------------------------------------------------

say "the Python module"
# As scripts/module.sh does, so that nothing is built twice.
PATH=$VENV/bin:$PATH "$PYTHON" -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
    --wheel-dir "$bundle/wheels" . || die "pip could not build the module; its words are above"
# With what tests import beside themselves; without the test of the checks, which gpu-check runs itself.
find tests/python -maxdepth 1 -name '*.py' \( ! -name 'test_*' -o -name 'test_cuda*' \) ! -name test_cuda_checks.py \
    -exec cp {} "$bundle/python/tests/" \;
# pytest, which such a machine may lack. All of it is plain Python.
"$PYTHON" - "$bundle/python/packages" <<'END'
import importlib.util, pathlib, shutil, sys
for name in ["pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"]:
    folder = pathlib.Path(importlib.util.find_spec(name).origin).parent
    shutil.copytree(folder, pathlib.Path(sys.argv[1]) / name, ignore=shutil.ignore_patterns("__pycache__"))
END

# ---- gpu-check ----------------------------------------------------------------------------------------------------

cp tests/gpu/gpu_check.py "$bundle/gpu-check"
chmod +x "$bundle/gpu-check"
find tests/gpu/frame -name '*.py' ! -name 'test_*' -exec cp {} "$bundle/frame/" \;
find tests/gpu -maxdepth 1 -name '*.py' ! -name gpu_check.py -exec cp {} "$bundle/checks/" \;
# What checks call in C.
find tests/gpu -maxdepth 1 -name '*.c' -print0 | while IFS= read -r -d '' source; do
    "${CC:-cc}" -O2 -s -shared -fPIC "$source" -o "$bundle/checks/$(basename "$source" .c).so"
done

# ---- what it is ---------------------------------------------------------------------------------------------------

# The newest glibc that any of it asks for.
module=$(mktemp -d)
trap 'rm -rf "$module"' EXIT
"$PYTHON" -m zipfile -e "$bundle"/wheels/*.whl "$module"
glibc=$(find "$bundle/bin" "$bundle/lib" "$bundle/checks" "$module" -type f \( -perm -u+x -o -name '*.so*' \) -exec objdump -T {} + 2>/dev/null |
    grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || commit=$commit-changed
"$PYTHON" - "$bundle" "$commit" "${glibc#GLIBC_}" "${quick:+quick}" "$(rustc --version)" <<'END'
import json, pathlib, re, sys
bundle, commit, glibc, quick, rust = sys.argv[1:]
folder = pathlib.Path(bundle)
version = re.search(r'^version = "(.*)"', pathlib.Path("Cargo.toml").read_text(), re.MULTILINE)[1]
files = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
manifest = {"version": version, "commit": commit, "glibc": glibc, "rust": rust, "profile": quick or "bundle",
            "bytes": sum(files.values()), "files": {name: size for name, size in files.items() if not name.startswith("python/packages")}}
(folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
END

bytes=$(find "$bundle" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')
say "$bundle: $((bytes >> 20)) MiB, commit $commit, for glibc ${glibc#GLIBC_} and newer"
[ "$bytes" -le "$most" ] || die "the bundle has $bytes B, and may have $most: $(du -a "$bundle" | sort -n | tail -n 4 | tr '\n' ';')"
