#!/usr/bin/env bash
# gpu-check as on a machine with an NVIDIA device, as far as the simulated driver goes: a bundle of what the other parts have built, in a bare
# folder, with nothing in the environment but the driver. What is wrong has to end it with a status other than 0.
. "$(dirname "$0")/../lib.sh"

"$PYTHON" -m pytest -rs -p no:cacheprovider tests/gpu/frame

driver=$(cuda_sim_dir)
bash scripts/module.sh
bash scripts/gpu-bundle.sh quick "$BUILD/gpu-bundle-quick"
bare=$(mktemp -d)
trap 'rm -rf "$bare"' EXIT
mkdir "$bare/tools"
cp -r "$BUILD/gpu-bundle-quick" "$bare/bundle"

# In the place of compute-sanitizer: runs the program, and says that it has found so many errors.
cat >"$bare/tools/compute-sanitizer" <<'END'
#!/bin/sh
[ "$1" != --version ] || exit 0
while case $1 in --*) true ;; *) false ;; esac do shift 2; done
"$@" || exit
echo "========= ERROR SUMMARY: ${FOUND:-0} errors"
[ "${FOUND:-0}" = 0 ] || exit 113
END
chmod +x "$bare/tools/compute-sanitizer"
cat >"$bare/bundle/checks/check_lines.py" <<'END'
import json, os, neuro_memory as nm
t = nm.asarray([1, 2, 3]).to("cuda:0")
print("words that are for nobody")
print(json.dumps({"check": "a figure", "ok": t.to("cpu").tolist() == [1, 2, 3], "figure": 2.5, "unit": "GB/s", "goal": "≥ 2"}))
print(json.dumps({"check": "not here", "skipped": "no such framework"}))
print(json.dumps({"versions": {"lines": "1.0"}}))
bad = os.environ.get("PLANTED") == "check"
print(json.dumps({"check": "planted", "ok": not bad}))
raise SystemExit(bad)
END

# Which Vulkan drivers, where they have to be here.
require_vulkan
steps=(--only contract --only ordering --only "c test" --only python --only "check lines")
[ -z "${NEURO_REQUIRE_VULKAN:-}" ] || steps+=(--only vulkan --vulkan '*lvp*')

# check WORDS STATUS [NAME=VALUE…] [-- ARGUMENT…]: gpu-check there, which ends so, and has said so. Its words are moved to the right: what is
# skipped there is not what is skipped here.
check() {
    local words=$1 wanted=$2 status=0
    local -a setting=()
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        setting+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    (
        cd "$bare"
        env -i PATH="$bare/tools:/usr/bin:/bin" HOME="$bare" LD_LIBRARY_PATH="$driver" "${setting[@]}" \
            "$PYTHON" bundle/gpu-check --quick --json result.json "$@"
    ) >"$bare/said" 2>&1 || status=$?
    sed 's/^/  /' "$bare/said"
    [ "$status" = "$wanted" ] || die "gpu-check ended with status $status, and $wanted would be right" "$(cat "$bare"/gpu-check-logs/*.log | tail -n 60)"
    grep -q -- "$words" "$bare/said" || die "gpu-check did not say: $words"
}

say "" "what can run here"
check ' 0 failed, ' 0 -- "${steps[@]}"
"$PYTHON" - "$bare/result.json" <<'END'
import json, sys
said = json.load(open(sys.argv[1]))
steps = {step["name"]: step for step in said["steps"]}
assert said["device"].startswith("Simulated") and said["result"] == "ok" and said["versions"]["lines"] == "1.0", said
for name in ["contract", "contract memcheck", "contract initcheck", "ordering", "ordering memcheck", "c test_cuda", "python test_cuda", "check lines"]:
    assert steps[name]["result"] == "ok", steps[name]
assert steps["check lines"]["checks"][0]["figure"] == 2.5, steps["check lines"]
assert said["bundle"]["bytes"] <= 64 << 20 and said["seconds"] < 240, said["seconds"]
END

say "" "what is wrong is said"
check 'FAILED  check lines: planted' 1 PLANTED=check -- --only 'check lines'
check 'contract memcheck: 1 errors' 1 FOUND=1 -- --only 'contract memcheck'
check 'FAILED  contract: backend::cuda' 1 NEURO_CUDA_SIM_FAIL_NTH=100 -- --only contract
check 'no CUDA device: looked for the CUDA driver' 1 LD_LIBRARY_PATH=
check 'no step is called' 2 -- --only nothing
