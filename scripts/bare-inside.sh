#!/usr/bin/env bash
# The half of test-bare.sh that runs in a mount namespace of its own: mounts what a chroot needs, prepares make, then runs
# its arguments. Not to be called by hand.
set -euo pipefail

root=${BARE_ROOT:?} toolchain=${BARE_TOOLCHAIN:?}
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"

# The toolchain as it is, read-only, under the one directory that a user's PATH would name; no rustup, no other toolchain.
mkdir -p "$root/opt/rust" "$root/root/.cargo/bin"
mount --bind "$toolchain" "$root/opt/rust"
mount -o remount,bind,ro "$root/opt/rust"
for tool in "$toolchain"/bin/*; do
    ln -sf "/opt/rust/bin/${tool##*/}" "$root/root/.cargo/bin/${tool##*/}"
done

# Whoever types `make demo` has make; the rest is for the commands to find missing.
chroot "$root" /bin/bash -c 'export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install -y --no-install-recommends make; } >/root/make.log 2>&1 </dev/null ||
    { tail -n 20 /root/make.log >&2; exit 2; }'
exec "$@"
