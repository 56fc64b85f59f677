"""What came of a step."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Result:
    """`ok`, `FAILED` or `SKIPPED`, and why."""

    name: str
    result: str
    why: str = ""
    seconds: float = 0.0
    log: str = ""
    checks: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
