"""Plots: whole files that say what they show, the same bytes each time, and nothing half-written."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from penchant.core.errors import PenchantError, SettingsError
from penchant.evaluation.datasets import Dataset
from penchant.evaluation.freshness import Curve, Engine, Plan, measure, parse
from penchant.evaluation.offline import Log
from penchant.evaluation.plot_page import page
from penchant.evaluation.plots import Plot, freshness_plot, ready, report_plot, write
from penchant.evaluation.protocols import RECIPES, Report, judge
from penchant.evaluation.protocols.published import Published
from penchant.evaluation.recommenders import ItemKnn, Popularity, RecentPopularity

pytest.importorskip("matplotlib", reason="plots need matplotlib, of the extra plots")


@pytest.fixture(scope="module")
def made() -> Dataset:
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 30, 600, np.int32), rng.integers(0, 40, 600, np.int32)
    return Dataset("made & <kept>", Log(users, items, 30, 40, np.sort(rng.integers(0, 10**7, 600))))


@pytest.fixture(scope="module")
def curve(made: Dataset) -> Curve:
    plan = Plan(parse("0s,1m,1h,never")[0], refit=parse("1m")[0][0], weights=(0.2, 0.4, 0.4))
    return measure(made, Engine(RecentPopularity, Popularity, ItemKnn), plan)


@pytest.fixture(scope="module")
def report(made: Dataset) -> Report:
    report = judge(RECIPES["loo-full"], made, [Popularity(), ItemKnn()])
    others = (
        Published("Theirs", {"HR@10": 0.3}, "their paper"),
        Published("Old", {"MRR": 0.1}, "somewhere", "recalled"),
    )
    return Report(**{name: getattr(report, name) for name in Report.__slots__} | {"published": others})


class Page(HTMLParser):
    """Tags that are still open, cells, and addresses that would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.fetched += [
            value or ""
            for name, value in attributes
            if name in ("src", "href", "xlink:href") and value and value[0] != "#"
        ]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_a_page_stands_by_itself(curve: Curve, report: Report, tmp_path: Path) -> None:
    for plot in (freshness_plot(curve), report_plot(report)):
        write(plot, tmp_path / "out.html")
        text = (tmp_path / "out.html").read_text()
        found = Page(text)
        assert found.open == []
        assert found.fetched == []
        assert [tuple(row) for row in found.rows] == [plot.header, *plot.rows]
        assert "made &amp; &lt;kept&gt;" in text
        assert "<kept>" not in text
        assert not re.search(r"url\((?!#)|@import|<script", text)
        assert set(re.findall(r"https?://[\w./-]+", text)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        # No colour of the figure stays as it was, or it could not be seen in the dark.
        drawing = text[text.index("<svg") : text.index("</svg>")]
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) <= set()
        assert set(re.findall(r"var\((--\w+)\)", drawing)) <= set(re.findall(r"(--\w+):", text))
    assert list(tmp_path.iterdir()) == [tmp_path / "out.html"]


def test_the_same_twice(curve: Curve, tmp_path: Path) -> None:
    for kind, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!doctype html>")):
        paths = [tmp_path / f"{name}.{kind}" for name in "ab"]
        for path in paths:
            write(freshness_plot(curve), path)
        first, second = (path.read_bytes() for path in paths)
        assert first == second
        assert first.startswith(magic)


def test_no_global_state(curve: Curve, tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write(freshness_plot(curve), tmp_path / "a.svg")
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_nothing_is_cut_and_no_labels_overlap(curve: Curve, report: Report) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for plot in (freshness_plot(curve), report_plot(report)):
        canvas = FigureCanvasAgg(plot.figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        width, height = plot.figure.bbox.size
        for axes in plot.figure.axes:
            for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
                boxes = [one.get_window_extent(renderer) for one in labels if one.get_visible() and one.get_text()]
                inside = [box for box in boxes if box.width > 0]
                for at, box in enumerate(inside):
                    assert not any(box.overlaps(other) for other in inside[at + 1 :])
            box = axes.get_tightbbox(renderer)
            assert box.x0 >= -1
            assert box.y0 >= -1
            assert box.x1 <= width + 1
            assert box.y1 <= height + 1


def test_what_others_published_stands_below(report: Report) -> None:
    plot = report_plot(report)
    assert [row[0] for row in plot.rows] == ["popularity", "itemknn", "Theirs (published)", "Old (published)"]
    assert plot.rows[2][1:] == ("0.3000", "", "", "their paper")
    assert "hollow" in plot.made


def test_what_cannot_be_written_is_said_beforehand(
    curve: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PenchantError, match=r"curve\.pdf ends in none of \.html"):
        ready(tmp_path / "curve.pdf")
    with pytest.raises(PenchantError, match="no folder"):
        ready(tmp_path / "none" / "curve.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SettingsError, match=r"penchant\[plots\]"):
        ready(tmp_path / "curve.png")


def test_a_write_that_is_stopped_leaves_what_was_there(
    curve: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "curve.svg"
    path.write_text("before")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("penchant.evaluation.plots.os.replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write(freshness_plot(curve), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_escaped() -> None:
    text = page('a "b" <c>', "<d>", ("<e>",), (("<f>",),), "<svg></svg>")
    assert not re.search(r"<[cdef]>", text)
    assert Plot.__slots__ == ("title", "made", "header", "rows", "figure")
