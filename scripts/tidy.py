"""The laws of the house that no compiler checks. Part of `make lint` and `make test`.

- Floors: a module of neuro-core names only modules of lower floors, or of its own folder (FLOORS, lowest first).
- `unsafe` stands only where UNSAFE allows it.
- A file has at most 400 lines, a test at most 500.
- No word that says "later" (FORBIDDEN), no test that is switched off.

Prints `file:line: what` for each breach and ends with status 1 if there was one.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = "neuro-core/src/"

# Lowest first; what stands in one line of it is one floor (an error names the device and the type it is about, and both
# report errors). A folder or file of neuro-core/src that is not here has no floor, which is a breach.
FLOORS = """
error device dtype
shape
sync
ledger
rc
backend
heap
pool
memory
transfer
tensor
io
dlpack
kernel
report
""".strip().splitlines()
RANK = {module: rank for rank, floor in enumerate(FLOORS) for module in floor.split()}

UNSAFE = (
    *(CORE + place for place in ("rc/", "ledger/site.rs", "backend/", "pool/", "memory.rs", "transfer/", "tensor/")),
    *(CORE + place for place in ("io/", "dlpack/", "kernel/")),
    "neuro-capi/",
    "neuro-py/src/buffer",
    "neuro-py/src/cuda",
    "neuro-py/src/dlpack",
    "neuro-py/src/numpy_hook",
    "neuro-py/src/capsule",
    "neuro-py/src/share",
    # Calls the unsafe half of the interface, as a user would, and reads the processor's clock.
    "bench/",
)
# Declaring and implementing the marker trait of element types is all the unsafe that dtype.rs has.
UNSAFE_LINES = {CORE + "dtype.rs": re.compile(r"\bunsafe (impl|trait)\b")}

FORBIDDEN = {
    "to" + "do!": re.compile(r"\bto" + r"do!"),
    "unimple" + "mented!": re.compile(r"\bunimple" + r"mented!"),
    "FIX" + "ME": re.compile(r"\bFIX" + r"ME\b"),
    "XX" + "X": re.compile(r"\bXX" + r"X\b"),
    "#[ig" + "nore": re.compile(r"#\[ig" + r"nore"),
    "pytest.mark.sk" + "ip": re.compile(r"pytest\.mark\.(sk" + r"ip\b|xfail)"),
}

MAX_LINES, MAX_TEST_LINES = 400, 500
# Written by a program.
GENERATED = {"include/neuro_memory.h", "neuro-py/python/neuro_memory/include/neuro_memory.h", "Cargo.lock", "bench/Cargo.lock"}
OUTPUTS = {".git", ".venv", ".hypothesis", ".mypy_cache", "build", "dist", "out", "target"}
SIZED = {".rs", ".py", ".pyi", ".c", ".h", ".hpp", ".cpp", ".sh"}

COMMENT_OR_STRING = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\\\'\n])\'', re.DOTALL
)


def code_of(text: str) -> str:
    """The Rust source with comments and literals blanked, line numbers kept."""
    return COMMENT_OR_STRING.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def is_test(path: str) -> bool:
    """Whether the file holds tests only."""
    return "tests" in Path(path).parts or Path(path).stem.endswith(("tests", "test"))


def test_free(code: str) -> str:
    """The code up to its inline test module: tests may reach up to show how a floor is used."""
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", code, maxsplit=1)[0]


def used_modules(code: str) -> Iterator[tuple[int, str]]:
    """Line and name of each top-level module that is named by `crate::…`, braces unfolded."""
    for match in re.finditer(r"\bcrate::(?:(\w+)|\{)", code):
        line = code.count("\n", 0, match.start()) + 1
        if match[1]:
            yield line, match[1]
            continue
        depth, start = 1, match.end()
        for end in range(start, len(code)):
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            if depth == 0:
                break
        inside = re.sub(r"\{[^{}]*\}", "", code[start:end])
        for name in re.findall(r"(?:^|,)\s*(\w+)", inside):
            yield line, name


def homes() -> dict[str, str]:
    """The floor of each name that lib.rs re-exports."""
    text = code_of((ROOT / CORE / "lib.rs").read_text(encoding="utf-8"))
    found = {}
    for module, names in re.findall(r"pub use (?:crate::|self::)?(\w+)::([^;]+);", text):
        for name in re.findall(r"\w+", names):
            found[name] = module
    return found


def floor_breaches(path: str, code: str, re_exports: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Names of higher floors."""
    inner = path.removeprefix(CORE)
    own = inner.split("/")[0].removesuffix(".rs")
    if own == "lib" or is_test(path):
        return
    if own not in RANK:
        yield 1, f"module {own} has no floor: give it one in scripts/tidy.py and ARCHITECTURE.md"
        return
    for line, name in used_modules(test_free(code)):
        module = re_exports.get(name, name)
        if RANK.get(module, -1) > RANK[own]:
            yield line, f"{own} names {module}, which is a higher floor"


def unsafe_breaches(path: str, code: str) -> Iterator[tuple[int, str]]:
    """`unsafe` outside its places."""
    if path.startswith(UNSAFE) or is_test(path) or path.startswith("examples/"):
        return
    allowed = UNSAFE_LINES.get(path)
    for number, line in enumerate(test_free(code).splitlines(), 1):
        if re.search(r"\bunsafe\b", line) and not (allowed and allowed.search(line)):
            yield number, "unsafe is not allowed here (CONTRIBUTING.md lists where it is)"


def breaches(path: str, re_exports: dict[str, str]) -> Iterator[tuple[int, str]]:
    """All breaches of one file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    lines = text.splitlines()
    limit = MAX_TEST_LINES if is_test(path) else MAX_LINES
    if Path(path).suffix in SIZED and len(lines) > limit:
        yield len(lines), f"{len(lines)} lines; at most {limit}: split it by subject"
    for number, line in enumerate(lines, 1):
        for word, pattern in FORBIDDEN.items():
            if pattern.search(line):
                yield number, f"{word} is not left in the repository"
    if not path.endswith(".rs"):
        return
    code = code_of(text)
    if path.startswith(CORE):
        yield from floor_breaches(path, code, re_exports)
    yield from unsafe_breaches(path, code)


def listed() -> list[str]:
    """What git would commit; without git, every file outside the folders of outputs."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") and (ROOT / ".git").exists():
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [str(file) for file in files if not OUTPUTS & set(file.parts)]


def main() -> int:
    """Checks all sources."""
    paths = listed()
    sources = [path for path in paths if Path(path).suffix in SIZED and path not in GENERATED]
    sources = [path for path in sources if (ROOT / path).is_file()]
    if len(sources) < 10:
        print(f"tidy: only {len(sources)} files found: is this the repository?")
        return 1
    re_exports = homes()
    wrong = 0
    for path in sorted(sources):
        for line, what in breaches(path, re_exports):
            print(f"{path}:{line}: {what}")
            wrong += 1
    print(f"tidy: {len(sources)} files, {wrong} breaches")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
