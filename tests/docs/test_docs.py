"""Every block of the documentation runs, every link leads somewhere."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from docs.pages import PAGES, ROOT, Block, anchors, blocks, links, runs, title_of
from penchant.cli import app


class Page:
    """A page being run: one namespace and one folder, from top to bottom."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page = page
        self.top = folder
        self.namespace: dict[str, object] = {"__name__": f"docs.{page.stem}"}
        self.tests: list[str] = []

    def run(self, block: Block) -> None:
        for word, told in block.asked:
            match word:
                case "setup":
                    self.command(told, 0, block)
                case "file" | "test":
                    (self.top / told).parent.mkdir(parents=True, exist_ok=True)
                    (self.top / told).write_text(block.text, encoding="utf-8")
                    if word == "test":
                        self.tests.append(told)
                    return
                case "run":
                    for line in block.text.splitlines():
                        self.command(line.removeprefix("$ "), int(told or 0), block)
                    return
                case _:
                    pytest.fail(f"{self.where(block)}: nobody knows the comment {word!r}")
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
            exec(code, self.namespace)

    def command(self, line: str, code: int, block: Block) -> None:
        words = shlex.split(line, comments=True)
        if words[:1] == ["cd"]:
            os.chdir(words[1])
        elif words[:1] == ["penchant"]:
            told = CliRunner().invoke(app, words[1:])
            assert told.exit_code == code, f"{self.where(block)}: {line}\n{told.output}\n{told.exception!r}"

    def where(self, block: Block) -> str:
        return f"{title_of(self.page)}:{block.line}"

    def finish(self) -> None:
        if self.tests:
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-c",
                str(ROOT / "pyproject.toml"),
            ]
            paths = os.pathsep.join([str(ROOT / "src"), str(self.top)])
            told = subprocess.run(
                [*command, f"--rootdir={self.top}", *self.tests],
                cwd=self.top,
                env={**os.environ, "PYTHONPATH": paths},
                capture_output=True,
                text=True,
            )
            assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=title_of)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "nice", lambda by: by)  # training steps back for a server; tests need not
    for name in [name for name in os.environ if name.startswith("PENCHANT_")]:
        monkeypatch.delenv(name)
    running = Page(page, tmp_path)
    for block in blocks(page):
        running.run(block)
    running.finish()


@pytest.mark.parametrize("page", PAGES, ids=title_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


def test_pages_can_be_found() -> None:
    """From the README every page is a few links away."""
    reached, frontier = set(), [ROOT / "README.md"]
    while frontier:
        page = frontier.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        frontier += [
            (page.parent / link.partition("#")[0]).resolve() for link in links(page) if not link.startswith("http")
        ]
    assert [title_of(page) for page in PAGES if page not in reached] == []


def test_lines_are_not_too_long() -> None:
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
            assert len(line) <= 160 or line.startswith("|"), f"{title_of(page)}:{number}"
