#!/usr/bin/env bash
# Builds the Python module (release) and installs it into .venv, the way `pip install .` does for a user, but with the
# maturin of .venv instead of one downloaded for the occasion. Does nothing where no source has changed.
. "$(dirname "$0")/lib.sh"

need pyproject.toml "the description of the Python module"
stamp=$VENV/installed-module
# Everything that ends up in a wheel. Build outputs of other commands do not.
sum=$({
    find neuro-core neuro-capi neuro-py -type f ! -name '*.pyc' ! -name '*.so' -print0 | sort -z | xargs -0 sha256sum
    sha256sum Cargo.toml Cargo.lock pyproject.toml README.md
    cargo --version
} | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ]; then
    say "building the Python module"
    rm -f "$stamp"
    PATH=$VENV/bin:$PATH "$PYTHON" -m pip install --quiet --disable-pip-version-check \
        --no-build-isolation --no-deps --force-reinstall . || die "pip could not build the module; its words are above"
    printf '%s\n' "$sum" >"$stamp"
fi
