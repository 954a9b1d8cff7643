"""No module of `src` above 400 lines; run as a script it names those that are and exits 1."""

from __future__ import annotations

import sys
from pathlib import Path

MOST = 400
SOURCE = Path(__file__).resolve().parents[2] / "src"


def over_budget(source: Path = SOURCE, most: int = MOST) -> list[tuple[Path, int]]:
    """Modules of more than `most` lines, with how many they have, longest first."""
    lengths = [(path, len(path.read_text(encoding="utf-8").splitlines())) for path in sorted(source.rglob("*.py"))]
    return sorted(((path, lines) for path, lines in lengths if lines > most), key=lambda entry: -entry[1])


def main() -> int:
    """The script."""
    offenders = over_budget()
    for path, lines in offenders:
        sys.stdout.write(f"{path.relative_to(SOURCE.parent)}: {lines} lines, at most {MOST}; split it by idea\n")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())
