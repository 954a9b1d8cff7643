"""Progress bars on standard error, for steps that report how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from penchant.cli.context import err
from penchant.cli.interrupts import check

Tell = Callable[[str, int, int], None]


@contextmanager
def bars() -> Iterator[Tell]:
    """One bar a step; `tell(step, done, total)` moves it, and obeys a Ctrl-C that was lost."""
    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=False) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(step: str, done: int, total: int) -> None:
            check()
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        yield tell
