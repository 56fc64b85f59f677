#!/usr/bin/env bash
# No skip goes unseen: where the tests of Vulkan devices have to run, and that what any part skips is in the summary and counts.
. "$(dirname "$0")/../lib.sh"

work=$BUILD/skips
rm -rf "$work"
mkdir -p "$work/bin" "$work/scripts/test"
ln -s "$(command -v tr)" "$work/bin/tr"

# answer UID APT CI MISSING: what require_vulkan does there: "required", "may skip", or "refused" with its words.
answer() {
    (
        uid=$1 absent=$4
        id() { echo "$uid"; }
        vulkan_missing() { [ -z "$absent" ] || printf "%s\n" "$absent"; }
        # shellcheck disable=SC2329 # looked for by its name
        if [ "$2" = apt ]; then apt-get() { :; }; fi
        unset NEURO_REQUIRE_VULKAN
        export PATH=$work/bin CI=$3
        # In the shell's own process, so that what it exports is there to see.
        trap '[ $? = 0 ] || echo refused' EXIT
        require_vulkan 2>&1
        if [ -n "${NEURO_REQUIRE_VULKAN:-}" ]; then echo required; else echo "may skip"; fi
    ) || true
}

# expect WORDS UID APT CI MISSING
expect() {
    local words=$1 said
    shift
    said=$(answer "$@")
    case $said in
    *"$words") ;;
    *) die "uid $1, '$2', CI='$3', missing '$4': said '$said', and '$words' would be right" ;;
    esac
}

for ci in '' 0 false 1 true; do
    expect required 0 apt "$ci" ''
    expect required 1000 no "$ci" ''
    expect refused 0 apt "$ci" mesa-vulkan-drivers
done
for ci in 1 true; do
    expect refused 1000 apt "$ci" libvulkan1
    expect refused 0 no "$ci" vulkan-validationlayers
done
for ci in '' 0 false; do
    expect "may skip" 1000 apt "$ci" libvulkan1
    expect "may skip" 0 no "$ci" libvulkan1
done
case $(answer 0 apt '' mesa-vulkan-drivers) in
*"apt-get install -y mesa-vulkan-drivers"*) ;;
*) die "what is missing is not named" ;;
esac
say "require_vulkan: as it says"

# `make test` with parts of our own.
cp scripts/lib.sh scripts/test.sh "$work/scripts/"
echo : >"$work/scripts/setup.sh"
echo 'echo fine' >"$work/scripts/test/good.sh"
echo 'printf "SKIPPED: a check: no such thing here\n"' >"$work/scripts/test/skipping.sh"
echo 'printf "SKIPPED: a check: needs hardware that is not here\n"' >"$work/scripts/test/hardware.sh"
echo 'printf "SKIPPED: a check: needs 3 GB of packages: python -m pip install -r this.txt\n"' >"$work/scripts/test/large.sh"
echo 'printf "SKIPPED: a check: needs 3 GB of packages\n"' >"$work/scripts/test/silent.sh"
echo 'printf "\nSKIPPED: on standard error: no device\n" >&2' >"$work/scripts/test/aside.sh"
echo 'echo "SKIPPED [3] tests/python/test_x.py:9: SKIPPED: no device"' >"$work/scripts/test/pytest.sh"

# whole STATUS SUMMARY PART…: `make test` of these parts ends so, and its last line is that.
whole() {
    local wanted=$1 summary=$2 status=0 said
    shift 2
    said=$(bash "$work/scripts/test.sh" "$@" 2>&1) || status=$?
    [ "$status" = "$wanted" ] || die "$*: status $status instead of $wanted" "$said"
    [ "${said##*$'\n'}" = "$summary" ] || die "$*: '$summary' is not its last line" "$said"
    printf '%s\n' "$said" | sed -n '/^all /,$p' >"$work/summary"
}
unset NM_ALLOW_SKIPS CI
whole 0 "1 passed, 0 failed, 0 skipped" good
whole 0 "2 passed, 0 failed, 1 skipped" good hardware
whole 0 "2 passed, 0 failed, 1 skipped" good large
CI=false whole 0 "2 passed, 0 failed, 1 skipped" good large
CI=1 whole 1 "1 passed, 1 failed, 1 skipped" good large
CI=1 whole 0 "2 passed, 0 failed, 1 skipped" good hardware
for part in skipping silent aside pytest; do
    whole 1 "1 passed, 1 failed, 1 skipped" good "$part"
    grep -q '^SKIPPED' "$work/summary" || die "$part: its skip is not in the summary"
done
NM_ALLOW_SKIPS=1 whole 0 "1 passed, 0 failed, 1 skipped" skipping
say "test.sh: every skip is counted, and said at the end"
