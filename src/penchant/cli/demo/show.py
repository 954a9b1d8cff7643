"""The demo's figures for people: one table, renewed while it runs."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def table(figures: dict[str, Any], title: str) -> Table:
    """The figures as a table."""
    shown = Table(title=title, title_justify="left", show_header=False, min_width=72)
    shown.add_column(style="bold")
    shown.add_column()
    events, requests, fresh = figures["events"], figures["requests"], figures["freshness"]
    shown.add_row("events accepted", f"{events['accepted']:,} of {events['sent']:,} sent")
    shown.add_row("sent twice", f"{events['repeated']:,}, of which {events['duplicates']:,} known as duplicates")
    if "audit" in figures:
        audit = figures["audit"]
        shown.add_row(
            "lost / doubled",
            f"{audit['lost']} / {audit['doubled']}  (the engine's counters of {audit['films']:,} films)",
        )
    else:
        shown.add_row("lost / doubled so far", f"{events['lost']} / {events['doubled']}  (by its answers)")
    shown.add_row("slates", f"{requests['answered']:,} answered, {requests['failed']} failed")
    shown.add_row("request p50 / p99", _ms(requests))
    shown.add_row("click shows in slates p50 / p99", f"{_ms(fresh)}  (of {fresh['clicks']} clicks)")
    for arm, rate in figures["click_rate"].items():
        if rate["slates"]:
            shown.add_row(
                f"clicked slates, {arm}",
                f"{rate['rate']:.1%}  [{rate['low']:.1%}, {rate['high']:.1%}] of {rate['slates']:,}",
            )
    lift = figures["lift"]
    if lift["difference"] == lift["difference"]:
        verdict = "sure" if lift["low"] > 0 or lift["high"] < 0 else "not sure yet"
        told = f"{lift['difference']:+.1%}  [{lift['low']:+.1%}, {lift['high']:+.1%}]  (95 %: {verdict})"
        shown.add_row("personalised is better by", told)
    shown.add_row("share of films shown", ", ".join(f"{arm} {share:.0%}" for arm, share in figures["coverage"].items()))
    return shown


def _ms(times: dict[str, Any]) -> str:
    return "-" if times["p50_ms"] is None else f"{times['p50_ms']:.1f} / {times['p99_ms']:.1f} ms"
