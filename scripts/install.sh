#!/usr/bin/env bash
# `make install PREFIX=… DESTDIR=…`: library, header and pkg-config file.
#
# `make build && sudo make install` leaves no file of root in target/: without cargo on the PATH, as under sudo, it
# installs what is built.
. "$(dirname "$0")/lib.sh"

: "${PREFIX:=/usr/local}" "${DESTDIR:=}"
need include/neuro_memory.h "the header"
if command -v cargo >/dev/null; then
    cargo build --quiet --locked --release -p neuro-capi
fi
need neuro-capi/neuro_memory.pc.in "the template of the pkg-config file"
need "$TARGET/release/libneuro_memory.so" "the library (\`make build\` makes it)"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
soname=$(readelf -d "$TARGET/release/libneuro_memory.so" | sed -n 's/.*SONAME.*\[\(.*\)\].*/\1/p')
[ -n "$soname" ] || die "libneuro_memory.so has no soname: neuro-capi/build.rs should have given it one"
to=$DESTDIR$PREFIX
install -d "$to/lib/pkgconfig" "$to/include"
install -m 755 "$TARGET/release/libneuro_memory.so" "$to/lib/libneuro_memory.so.$version"
ln -sf "libneuro_memory.so.$version" "$to/lib/$soname"
ln -sf "$soname" "$to/lib/libneuro_memory.so"
install -m 644 "$TARGET/release/libneuro_memory.a" "$to/lib/libneuro_memory.a"
install -m 644 include/*.h "$to/include/"
for header in include/*.hpp; do
    if [ -e "$header" ]; then install -m 644 "$header" "$to/include/"; fi
done
sed -e "s|@PREFIX@|$PREFIX|g" -e "s|@VERSION@|$version|g" neuro-capi/neuro_memory.pc.in >"$to/lib/pkgconfig/neuro_memory.pc"
say "installed libneuro_memory $version into $to"
