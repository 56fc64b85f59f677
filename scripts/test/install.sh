#!/usr/bin/env bash
# `make install` into an empty directory; then a program built as a user would, with nothing but pkg-config's answers.
. "$(dirname "$0")/../lib.sh"

prefix=$BUILD/install/prefix
rm -rf "$BUILD/install"
mkdir -p "$BUILD/install"
make --no-print-directory install PREFIX="$prefix" DESTDIR=
source=tests/install/user.c
need "$source" "the program that uses an installed library"
strict=(-std=c99 -Wall -Wextra -Werror -pedantic)
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig

# shellcheck disable=SC2046 # pkg-config answers with several words
gcc "${strict[@]}" $(pkg-config --cflags neuro_memory) "$source" -o "$BUILD/install/shared" $(pkg-config --libs neuro_memory)
LD_LIBRARY_PATH=$prefix/lib "$BUILD/install/shared"
say "installed: shared library found by its soname"

# Without the shared library the linker has only the archive to take.
rm "$prefix"/lib/*.so*
# shellcheck disable=SC2046
gcc "${strict[@]}" $(pkg-config --cflags neuro_memory) "$source" -o "$BUILD/install/static" $(pkg-config --static --libs neuro_memory)
"$BUILD/install/static"
say "installed: static library complete"

# DESTDIR moves the files, not what they say.
make --no-print-directory install PREFIX=/opt/nm DESTDIR="$BUILD/install/stage" >/dev/null
grep -qx 'prefix=/opt/nm' "$BUILD/install/stage/opt/nm/lib/pkgconfig/neuro_memory.pc"
say "installed: DESTDIR honoured"
