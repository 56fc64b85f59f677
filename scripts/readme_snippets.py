"""Every block of README.md is run, or checked as its language allows.

    readme_snippets.py README --lib-dir DIR --work DIR [--only LANGUAGE]

Python and C blocks are programs and run. Rust blocks are documentation tests of neuro-core, which must include the
README. Of shell blocks, each `make` line must name a target of the Makefile. A block in any other language is an error:
nobody would notice when it stopped being true. With --only, blocks in other languages are not looked at: those of a
document whose other blocks are parts of a program.

A program that begins with "no Vulkan device" has shown nothing: that is SKIPPED, and fails where NEURO_REQUIRE_VULKAN is set.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command: list, cwd: Path, **options) -> str:
    """What the command prints; its words and a failure if it ends with another status than 0."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command[0]} ended with status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check_python(text: str, work: Path, _) -> str:
    """Runs it, warnings being errors."""
    return run([sys.executable, "-W", "error", "-c", text], work)


def check_c(text: str, work: Path, lib_dir: Path) -> str:
    """Compiles it strictly and runs it."""
    (work / "snippet.c").write_text(text, encoding="utf-8")
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    places = [f"-I{ROOT}/include", f"-L{lib_dir}", f"-Wl,-rpath,{lib_dir}"]
    run(["gcc", *strict, "snippet.c", "-o", "snippet", *places, "-lneuro_memory", "-lm"], work)
    return run([work / "snippet"], work)


def check_rust(_text: str, _work: Path, _) -> str:
    """The part `rust` runs it, if the crate includes the README as documentation."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "neuro-core" / "src").rglob("*.rs"))
    if not any('include_str!("../../README.md")' in source for source in sources):
        raise AssertionError("neuro-core does not include README.md among its documentation tests")
    return ""


def check_sh(text: str, _work: Path, _) -> str:
    """Each `make TARGET` names a target."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in text.splitlines():
        named = re.match(r"\s*(?:sudo )?make +([^#]*)", line)
        for word in named[1].split() if named else ():
            if "=" not in word and word not in targets:
                raise AssertionError(f"'{line.strip()}': the Makefile has no target {word}")
    return ""


CHECKS = {"python": check_python, "c": check_c, "rust": check_rust, "sh": check_sh}


def main() -> int:
    """Checks all blocks; ends with status 1 if one is not true."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readme", type=Path)
    parser.add_argument("--lib-dir", type=Path, required=True, help="where libneuro_memory lies")
    parser.add_argument("--work", type=Path, required=True, help="a directory for what the blocks write")
    parser.add_argument("--only", choices=CHECKS, help="the one language whose blocks are checked")
    options = parser.parse_args()
    checks = {options.only: CHECKS[options.only]} if options.only else CHECKS
    options.work.mkdir(parents=True, exist_ok=True)
    text = options.readme.read_text(encoding="utf-8")
    failed, seen = 0, set()
    for match in FENCE.finditer(text):
        language, block = match[1].strip(), match[2]
        line = text.count("\n", 0, match.start()) + 1
        if options.only not in (None, language):
            continue
        seen.add(language)
        try:
            if language not in checks:
                raise AssertionError(f"no check for a block in '{language}'")
            said = checks[language](block, options.work.resolve(), options.lib_dir.resolve())
            if not said.startswith("no Vulkan device"):
                print(f"{options.readme}:{line}: {language}: ok")
            elif os.environ.get("NEURO_REQUIRE_VULKAN"):
                raise AssertionError(said.strip())
            else:
                print(f"SKIPPED: {options.readme}:{line}: {said.strip()}")
        except AssertionError as wrong:
            failed += 1
            print(f"{options.readme}:{line}: {language}: {wrong}")
    for language in checks.keys() - seen:
        failed += 1
        print(f"{options.readme} shows nothing in {language}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
