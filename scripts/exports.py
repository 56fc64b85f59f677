"""Every function that the header declares is exported by each library named.

    exports.py HEADER LIBRARY...

Prints what is missing and ends with status 1, or says how many functions are there. What a library exports besides, under
the prefix of this project, is an error too: it would be an interface that no header describes.
"""

import re
import subprocess
import sys

PREFIX = "neuro_"


def declared(header: str) -> set[str]:
    """The functions of the header: a name before a parenthesis, comments aside, and not the name of a function type."""
    with open(header, encoding="utf-8") as file:
        text = file.read()
    text = re.sub(r"/\*.*?\*/|//[^\n]*|^\s*#(?:[^\n]*\\\n)*[^\n]*", "", text, flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(rf"\b({PREFIX}\w+)\s*\((?!\s*\*)", text))


def exported(library: str) -> set[str]:
    """The functions in the dynamic symbol table."""
    table = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    names = (line.split() for line in table.splitlines())
    return {name for *_, kind, name in names if kind == "T" and name.startswith(PREFIX)}


def main() -> int:
    """Compares; the answer is the status."""
    header, *libraries = sys.argv[1:]
    functions = declared(header)
    if not functions or not libraries:
        print(f"exports: {header} declares no function, or no library was named")
        return 1
    wrong = 0
    for library in libraries:
        there = exported(library)
        missing, extra = sorted(functions - there), sorted(there - functions)
        for name in missing:
            print(f"exports: {library} lacks {name}, which {header} declares")
        for name in extra:
            print(f"exports: {library} exports {name}, which {header} does not declare")
        wrong += len(missing) + len(extra)
        print(f"exports: {len(functions & there)} of {len(functions)} functions in {library}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
