"""A page around a figure: one file, no addresses, a table for who cannot see it, light or dark as the reader has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

INK = "#1b1e23"
"""The colour of text and axes in a figure; on a page that of the page's own text."""
RULE = "#d5d8dd"
"""That of lines behind the data."""

_SHADES = {
    INK: ("--ink", "#e6e8eb"),
    RULE: ("--rule", "#3a3f46"),
    "#0072b2": ("--blue", "#5cb3ea"),
    "#d55e00": ("--orange", "#f2904a"),
    "#009e73": ("--green", "#3fc79d"),
    "#aa4499": ("--purple", "#d98bcb"),
}
"""A colour of figures, its name on a page, and what it is in the dark."""

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; LIGHT }
@media (prefers-color-scheme: dark) { :root { --paper: #16181c; DARK } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, sans-serif !important; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .5rem 0; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; }
"""


def page(title: str, made: str, header: Sequence[str], rows: Sequence[Sequence[str]], svg: str) -> str:
    """The page; `svg` is a whole document, with or without its XML prologue."""
    drawing = svg[svg.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    for colour, (name, _) in _SHADES.items():
        drawing = drawing.replace(colour, f"var({name})")
    drawing = drawing.replace("<svg", f'<svg role="img" aria-label="{escape(title)}: the table below has the same"', 1)
    light = " ".join(f"{name}: {colour};" for colour, (name, _) in _SHADES.items())
    dark = " ".join(f"{name}: {shade};" for name, shade in _SHADES.values())
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in header)
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(one)}</td>" for one in row[1:]) + "</tr>"
        for row in rows
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE.replace("LIGHT", light).replace("DARK", dark)}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<figure>
{drawing}
<figcaption>{escape(made)}</figcaption>
</figure>
<div class="wide">
<table>
<caption>The same in figures</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
</body>
</html>
"""
