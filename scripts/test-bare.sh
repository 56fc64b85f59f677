#!/usr/bin/env bash
# `make test-bare`: a clone of HEAD, `make demo` and `make test` in a Debian 12 that has nothing but its base system, make,
# and this machine's Rust toolchain. Finds what a developer's machine hides: a package, a header, a variable that was just there.
#
#     BARE_DIR      where the system is laid (build/bare); removed first, left afterwards for a look
#     BARE_MIRROR   Debian mirror (the one that this machine's apt uses)
#     BARE_COMMANDS what is run, lines of shell (make demo, make test)
#
# Needs root: debootstrap and chroot do. All mounts are made in a mount namespace of their own, so they are gone with the
# last process however it ends.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || die "make test-bare needs root: it lays a Debian system and enters it with chroot"
[ "$(uname -s)" = Linux ] || die "make test-bare needs Linux"

BARE_DIR=${BARE_DIR:-$BUILD/bare}
suite=bookworm
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$BARE_DIR" "$BUILD"

# ---- the base system, kept as an archive ----------------------------------------------------------------------------

# The first Debian archive that apt reads here, in either of its two formats.
mirror_of_apt() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -oE '^(URIs:|deb( \[[^]]*\])?) +[^ ]+/debian/?( |$)' | grep -oE '[a-z+]+://[^ ]+' | head -n 1 || true
}

base=$BUILD/$suite-$(dpkg --print-architecture 2>/dev/null || uname -m).tar
if [ ! -e "$base" ]; then
    mirror=${BARE_MIRROR:-$(mirror_of_apt)}
    [ -n "$mirror" ] || die "no Debian mirror found in /etc/apt: name one in BARE_MIRROR"
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || die "debootstrap is missing"
        apt-get update >"$BUILD/apt.log" 2>&1
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap >>"$BUILD/apt.log" 2>&1
    fi
    say "debootstrap: $suite"
    rm -rf "$BARE_DIR/base"
    verify=()
    [ ! -e "$keyring" ] || verify=(--keyring="$keyring")
    debootstrap --variant=minbase "${verify[@]}" "$suite" "$BARE_DIR/base" "$mirror" >"$BUILD/debootstrap.log" 2>&1 || {
        tail -n 20 "$BUILD/debootstrap.log" >&2
        die "debootstrap failed (all of its output: build/debootstrap.log)"
    }
    tar -C "$BARE_DIR/base" --one-file-system -cf "$base.part" .
    mv "$base.part" "$base"
    rm -rf "$BARE_DIR/base"
fi
say "base system ready: $SECONDS s"

# ---- this run's system ----------------------------------------------------------------------------------------------

root=$BARE_DIR/root
rm -rf --one-file-system "$root"
mkdir -p "$root"
tar -C "$root" -xf "$base"

# How this machine reaches its registries: names, certificates, settings of the three package tools. The bare system must
# not differ in that, only in what is installed.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf "$HOME/.pip/pip.conf" "$HOME/.config/pip/pip.conf" \
    "${CARGO_HOME:-$HOME/.cargo}/config.toml" "${CARGO_HOME:-$HOME/.cargo}/credentials.toml"; do
    [ -e "$file" ] || continue
    inside=$file
    case $file in "${CARGO_HOME:-$HOME/.cargo}"/*) inside=/root/.cargo/${file##*/} ;; "$HOME"/*) inside=/root/${file#"$HOME"/} ;; esac
    install -D -m 644 "$(readlink -f "$file")" "$root$inside"
done
# The bundle for now, and the certificates that were added to it here: the package ca-certificates, which others bring
# along, writes the bundle anew from its own and from those.
for dir in /etc/ssl/certs /usr/local/share/ca-certificates; do
    [ -d "$dir" ] || continue
    mkdir -p "$root$dir"
    cp -rL "$dir/." "$root$dir/" 2>/dev/null || true
done
for file in /etc/apt/apt.conf.d/*; do
    # Only how to reach and trust the mirror: hooks of this machine's other packages would not work there.
    if grep -q '^ *Acquire::' "$file" && ! grep -qi 'DPkg::\|Post-Invoke' "$file"; then cp "$file" "$root/etc/apt/apt.conf.d/"; fi
done

git -c safe.directory="$ROOT" clone --quiet --no-local "$ROOT" "$root/root/neuro-memory"
git -C "$root/root/neuro-memory" checkout --quiet --detach "$(git -c safe.directory="$ROOT" -C "$ROOT" rev-parse HEAD)"
git -c safe.directory="$ROOT" -C "$ROOT" diff --quiet HEAD || say "note: uncommitted changes are not in the clone"

# Settings of the package tools and of proxies; nothing else of this shell's environment.
environment=(PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb CI=true)
while IFS='=' read -r name value; do
    case $name in
    CARGO_HOME | CARGO_TARGET_DIR) ;;
    # A folder of this machine is not in there.
    PIP_FIND_LINKS) case $value in *://*) environment+=("$name=$value") ;; esac ;;
    PIP_* | CARGO_* | SSL_CERT_* | RUSTUP_* | *_proxy | *_PROXY | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE) environment+=("$name=$value") ;;
    esac
done < <(env)

printf '%s\n' "${BARE_COMMANDS:-make demo
make test}" >"$root/root/commands"

export BARE_ROOT=$root
export BARE_TOOLCHAIN
BARE_TOOLCHAIN=$(rustc --print sysroot)

status=0
unshare --mount --propagation private --pid --fork --kill-child \
    bash scripts/bare-inside.sh env -i "${environment[@]}" chroot "$root" bash -c '
        set -e
        cd /root/neuro-memory
        failed=0
        while IFS= read -r command; do
            SECONDS=0
            echo "bare# $command"
            # A broken command must not keep the next from being tried.
            if bash -c "$command" </dev/null; then result=ok; else result="FAILED, status $?"; failed=1; fi
            times="$times$command: $result, $SECONDS s
"
            echo "bare: $command: $result, $SECONDS s"
        done </root/commands
        printf "\n%s" "$times"
        exit $failed' </dev/null || status=$?

[ "$status" = 0 ] || say "left for a look: $root"
exit "$status"
