"""The last page of the demo: a table of what was measured, and the promises, kept or broken."""

LABEL, COLUMN = 46, 20


class Report:
    """Collects promises while the table is printed."""

    def __init__(self):
        self.broken = 0
        self._promises = []

    def heading(self, title: str, left: str = "", right: str = "") -> None:
        """Begins a part of the table."""
        print(f"\n{title:<{LABEL}}{left:>{COLUMN}}{right:>{COLUMN}}".rstrip())

    def row(self, label: str, left: str, right: str = "") -> None:
        """One line: without the pool, with it; or one value alone."""
        print(f"  {label:<{LABEL - 2}}{left:>{COLUMN}}{right:>{COLUMN}}".rstrip())

    def promise(self, text: str, kept: bool) -> None:
        """Something the library promises, and whether this run saw it."""
        self.broken += not kept
        self._promises.append(f"  {'yes' if kept else 'NO ':<5}{text}")

    def end(self) -> int:
        """Prints the promises; the exit status of the program: 0 if all were kept."""
        self.heading("Promises")
        print("\n".join(self._promises))
        return 1 if self.broken else 0


def mb(count: int) -> str:
    """Bytes, as millions of them."""
    return f"{count / 1e6:,.1f} MB"


def ms(seconds: float) -> str:
    """Milliseconds."""
    return f"{seconds * 1e3:,.2f} ms"
