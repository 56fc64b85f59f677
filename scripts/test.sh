#!/usr/bin/env bash
# `make test`: every part in turn, all of them even if one fails; the time of each; ends with status 1 if any failed.
#
#     scripts/test.sh [PART…]        only these parts
#     NM_ALLOW_SKIPS=1               a check that could have been made here, but was not, does not fail the whole
#
# A part is scripts/test/PART.sh. What it skips it says in lines `SKIPPED: what: why`. Only a reason that begins with
# "needs hardware" is accepted: anything else a Linux machine can install. And, where CI is not set, one that begins with
# "needs 3 GB of packages", or so many, and says how to install them: nobody wants that done without having been asked.
. "$(dirname "$0")/lib.sh"

# In this order because each needs less, or takes less long, than the next; parts that share a build are neighbours.
parts=(style skips clippy rust cuda gpu spec loom tsan header c asan install module exports python torch stubs examples readme bench)
[ $# -eq 0 ] || parts=("$@")

bash scripts/setup.sh test
say "set-up: $(seconds_since 0) s"

honest=': needs hardware'
in_ci || honest+='|: needs [0-9]+ GB of packages: .*pip install'

logs=$BUILD/test
mkdir -p "$logs"
rm -f "$logs"/*.log
names=() results=() times=()
passed=0 failed=0 skipped=0

for part in "${parts[@]}"; do
    need "scripts/test/$part.sh" "the part '$part'"
    say "" "" && say "==== $part"
    start=$SECONDS
    result=ok
    # In the background would be faster, but two builds at a time take each other's memory and make the times worthless.
    bash "scripts/test/$part.sh" </dev/null 2>&1 | tee "$logs/$part.log" || result=FAILED
    took=$(seconds_since "$start")
    skips=$(grep -c '^SKIPPED' "$logs/$part.log" || true)
    refused=$(grep '^SKIPPED' "$logs/$part.log" | grep -vcE "$honest" || true)
    skipped=$((skipped + skips))
    if [ "$refused" -gt 0 ] && [ "${NM_ALLOW_SKIPS:-0}" != 1 ]; then
        say "$part: $refused skipped without need (NM_ALLOW_SKIPS=1 accepts that)"
        result=FAILED
    fi
    if [ "$result" = ok ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    say "==== $part: $result, $took s"
    names+=("$part") results+=("$result") times+=("$took")
done

say ""
for i in "${!names[@]}"; do
    printf '%-10s %-7s %5d s\n' "${names[$i]}" "${results[$i]}" "${times[$i]}"
done
printf '%-10s %-7s %5d s\n' "all" "" "$SECONDS"
grep -h '^specification: ' "$logs"/*.log || true
grep -h '^SKIPPED' "$logs"/*.log || true
# Parts, not single tests: those were counted above by the runners of each language.
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
