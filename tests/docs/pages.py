"""The pages of the documentation, and the blocks in them that are run.

A block is run when it is Python, or when a comment right above it says so:

* `<!-- setup: penchant init films -->` runs the command line first;
* `<!-- file: NAME -->` writes the block to a file;
* `<!-- test: NAME -->` does so too, and pytest runs the file when the page is through;
* `<!-- run -->` runs the lines of a block that begin with `penchant` or `cd` (`<!-- run: 1 -->`: they exit with 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(DOCS.rglob("*.md"))

_BLOCK = re.compile(r"(?P<comments>(?:^<!--[^\n]*-->\n+)*)^```(?P<language>\w*)\n(?P<text>.*?)^```", re.M | re.S)
_COMMENT = re.compile(r"<!--\s*(\w+)(?::\s*(.*?))?\s*-->")
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+\s+(.*)$", re.M)
_FENCED = re.compile(r"^```.*?^```", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `line` is that of its first line, `asked` what the comments above it say."""

    language: str
    text: str
    line: int
    asked: tuple[tuple[str, str], ...]


def title_of(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, from top to bottom."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        asked = tuple((word, told or "") for word, told in _COMMENT.findall(match["comments"]))
        yield Block(match["language"], match["text"], text.count("\n", 0, match.start("text")) + 1, asked)


def runs(page: Path) -> bool:
    """Whether anything on the page is run."""
    return any(block.language == "python" or block.asked for block in blocks(page))


def links(page: Path) -> list[str]:
    """Where the page's links point."""
    return _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The headings of a page as the anchors that GitHub makes of them."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in _HEADING.findall(text)}
