"""Plots of what was measured: freshness curves, and the report of a protocol; as PNG, as SVG or as a page."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penchant.core.errors import PenchantError
from penchant.core.extras import library
from penchant.evaluation.plot_page import INK, RULE, page

if TYPE_CHECKING:
    from penchant.evaluation.freshness import Curve, Interval, Point
    from penchant.evaluation.protocols import Report

_KINDS = (".html", ".png", ".svg")
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", INK)
_MARKS = ("o", "s", "^", "D", "v")
_WIDTHS = (4.5, 3.6, 2.7, 1.9, 1.1)
"""Lines that lie upon each other grow thinner towards the last, so that all are seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """A figure with the same as a table, and how it was made."""

    title: str
    made: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figure: Any
    """A matplotlib `Figure`, of no canvas and no global state."""


def ready(path: Path) -> Path:
    """The path, if a plot can be written there; raises `PenchantError` saying why not, before anything is measured."""
    if path.suffix.lower() not in _KINDS:
        raise PenchantError(f"--plot: {path.name} ends in none of {', '.join(_KINDS)}")
    if not path.parent.is_dir():
        raise PenchantError(f"--plot: there is no folder {path.parent}")
    library("matplotlib", extra="plots", of="--plot")
    return path


def write(plot: Plot, path: Path) -> None:
    """The plot in the form that the name ends in, whole or not at all. Equal plots give equal bytes.

    A page is one file that needs no other: the figure as SVG, the table, how it was made; light or dark as the reader
    has it.
    """
    kind = ready(path).suffix.lower()
    content = _png(plot) if kind == ".png" else _svg(plot)
    if kind == ".html":
        content = page(plot.title, plot.made, plot.header, plot.rows, content.decode()).encode()
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise PenchantError(f"--plot: {path} cannot be written: {error}") from None
    finally:
        part.unlink(missing_ok=True)


def freshness_plot(curve: Curve) -> Plot:
    """NDCG against staleness: a line for each component, on a log scale on which 0 and never stand apart."""
    measure = f"NDCG@{curve.k}"
    figure = _figure(9.0, 5.6)
    axes = figure.subplots()
    places = _places({point.interval for point in curve.points})
    for number, name in enumerate(dict.fromkeys(point.component for point in curve.points)):
        points = [point for point in curve.points if point.component == name]
        _line(axes, points, measure, places, number % 5)
    axes.set_xticks(list(places.values()), [one.name for one in places])
    axes.minorticks_off()
    unit = "" if curve.unit == "time" else " so many events"
    axes.set_xlabel(f"renewed every{unit} (log scale; dashed: 0 and never are not on it)")
    axes.set_ylabel(measure)
    axes.set_ylim(bottom=0)
    axes.set_title(f"Quality against staleness: {curve.data}", loc="left")
    _dress(axes)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, labelcolor=INK)
    names = list(curve.points[0].figures)
    header = ("component", "renewed every", *names, f"{measure} minus fresh, 95 %", f"{measure} alone")
    rows = tuple(
        (
            one.component,
            one.interval.name,
            *(f"{one.figures[name]:.4f}" for name in names),
            f"{one.behind[measure].low:+.4f} to {one.behind[measure].high:+.4f}",
            f"{one.alone[measure]:.4f}" if one.alone else "",
        )
        for one in curve.points
    )
    return Plot(f"Quality against staleness: {curve.data}", curve.made(), header, rows, figure)


def report_plot(report: Report) -> Plot:
    """A panel for each measure, a line for each model, what others published below."""
    names = list(report.rows[0].figures)
    first = report.rows[0]
    models = [f"{row.name} (live)" if row.live else row.name for row in report.rows]
    others = [f"{one.model} (published)" for one in report.published]
    labels = [*models, *others]
    figure = _figure(3.2 + 2.6 * len(names), 1.7 + 0.3 * len(labels))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for at, row in enumerate(report.rows):
            value, behind = row.figures[name], row.behind.get(name)
            if behind is not None:
                ends = (first.figures[name] + behind.low, first.figures[name] + behind.high)
                axes.plot(ends, (at, at), color=_COLOURS[0], linewidth=2, alpha=0.6, solid_capstyle="butt")
            axes.plot((value,), (at,), _MARKS[0], color=_COLOURS[0], markersize=6)
        for at, one in enumerate(report.published):
            if name in one.figures:
                mark = dict(color=_COLOURS[1], markersize=6, fillstyle="full" if one.mark == "read" else "none")
                axes.plot((one.figures[name],), (len(models) + at,), "D", **mark)
        axes.axvline(first.figures[name], color=_COLOURS[0], linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        axes.set_title(name, loc="left", fontsize=11)
        axes.set_xlim(left=0)
        axes.margins(x=0.08)
        axes.locator_params(axis="x", nbins=5)
        _dress(axes)
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    title = f"{report.recipe.name} v{report.recipe.version}: {report.data}"
    figure.suptitle(title, x=0.01, ha="left", color=INK)
    judged = names[1] if len(names) > 1 else names[0]
    rows = [
        (
            label,
            *(f"{row.figures[name]:.4f}" for name in names),
            f"{row.behind[judged].low:+.4f} to {row.behind[judged].high:+.4f}" if judged in row.behind else "",
        )
        for label, row in zip(models, report.rows, strict=True)
    ]
    rows += [
        (label, *(f"{one.figures[name]:.4f}" if name in one.figures else "" for name in names), one.source)
        for label, one in zip(others, report.published, strict=True)
    ]
    made = (
        f"{report.data}, {report.options.part}: {report.cases:,} cases, seed {report.options.seed}. "
        f"{report.recipe.told} Bars: 95 % paired bootstrap of the difference to {first.name}, the upright line."
    )
    if report.published:
        made += " Diamonds were published by others; hollow: from memory, not verified."
    header = ("model", *names, f"{judged} minus {first.name}, 95 %; or the source")
    return Plot(title, made, header, tuple(rows), figure)


def _places(intervals: set[Interval]) -> dict[Interval, float]:
    """Where each interval stands: at the logarithm; 0 and never a decade before and after."""
    ordered = sorted(intervals)
    logs = [math.log10(one.step) for one in ordered if one.finite and one.step > 0] or [0.0]
    return {
        one: logs[-1] + 1 if not one.finite else math.log10(one.step) if one.step > 0 else logs[0] - 1
        for one in ordered
    }


def _line(axes: Any, points: Sequence[Point], measure: str, places: dict[Interval, float], style: int) -> None:
    colour, mark, width = _COLOURS[style], _MARKS[style], _WIDTHS[style]
    x = [places[one.interval] for one in points]
    y = [one.figures[measure] for one in points]
    fresh = points[0].figures[measure] - points[0].behind[measure].mean
    low = [fresh + one.behind[measure].low for one in points]
    high = [fresh + one.behind[measure].high for one in points]
    axes.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0)
    on_scale = [one.interval.finite and one.interval.step > 0 for one in points]
    for at in range(len(points) - 1):
        dashes = "-" if on_scale[at] and on_scale[at + 1] else (0, (8 / width, 5 / width))
        axes.plot(x[at : at + 2], y[at : at + 2], color=colour, linewidth=width, linestyle=dashes)
    axes.plot(x, y, mark, color=colour, markersize=4.5 + 1.4 * width, label=points[0].component)


def _figure(width: float, height: float) -> Any:
    figure = library("matplotlib.figure", extra="plots", of="a plot")
    return figure.Figure(figsize=(width, height), layout="constrained")


def _dress(axes: Any) -> None:
    axes.grid(True, color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
    axes.tick_params(colors=INK)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title):
        text.set_color(INK)


@contextmanager
def _same() -> Iterator[None]:
    """Settings under which equal figures are equal bytes, whatever the user's own are."""
    matplotlib = library("matplotlib", extra="plots", of="a plot")
    with matplotlib.rc_context({"svg.hashsalt": "penchant", "svg.fonttype": "none", "font.family": "sans-serif"}):
        yield


def _png(plot: Plot) -> bytes:
    canvas = library("matplotlib.backends.backend_agg", extra="plots", of="a plot").FigureCanvasAgg(plot.figure)
    out = io.BytesIO()
    with _same():
        canvas.print_figure(out, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def _svg(plot: Plot) -> bytes:
    canvas = library("matplotlib.backends.backend_svg", extra="plots", of="a plot").FigureCanvasSVG(plot.figure)
    out = io.BytesIO()
    with _same():
        canvas.print_figure(out, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    return out.getvalue()
