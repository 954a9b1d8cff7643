"""Ctrl-C ends a verb, whatever the code that it meets makes of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest
import typer

from penchant.__main__ import main
from penchant.cli.context import clean
from penchant.cli.interrupts import check, interrupted, interruptible
from penchant.cli.progress import bars
from penchant.core.errors import PenchantError


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def swallowed() -> None:
    """As Numba's dispatchers do."""
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def ends_with(error: BaseException | None) -> int:
    @clean
    def verb() -> None:
        if error is None:
            signal.raise_signal(signal.SIGINT)
            return
        swallowed()
        raise error

    with pytest.raises(typer.Exit) as told:
        verb()
    return told.value.exit_code


def test_where_it_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends_with(None) == 130
    assert "stopped" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_is_not_lost_where_it_was_swallowed() -> None:
    done = []

    @clean
    def verb() -> None:
        with bars() as tell:
            tell("working", 1, 3)
            swallowed()
            done.append(1)
            tell("working", 2, 3)
            done.append(2)

    with pytest.raises(typer.Exit) as told:
        verb()
    assert told.value.exit_code == 130
    assert done == [1]


def test_whatever_came_of_it_is_a_stop() -> None:
    assert ends_with(SystemError("returned a result with an exception set")) == 130
    assert ends_with(PenchantError("broken off")) == 130
    assert ends_with(typer.Exit(1)) == 1


def test_errors_without_it_are_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    @clean
    def verb(error: Exception) -> None:
        raise error

    with pytest.raises(SystemError, match="of its own"):
        verb(SystemError("of its own"))
    with pytest.raises(typer.Exit) as told:
        verb(PenchantError("the fix"))
    assert told.value.exit_code == 1
    assert "the fix" in capsys.readouterr().err


def test_whoever_ignores_it_goes_on() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible():
        signal.raise_signal(signal.SIGINT)
        check()
        assert not interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_next_verb_knows_nothing_of_it() -> None:
    assert ends_with(None) == 130
    with interruptible():
        check()


def test_while_it_loads_nothing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.__import__", stopped)
    with pytest.raises(SystemExit) as told:
        main()
    monkeypatch.undo()
    assert told.value.code == 130
    assert capsys.readouterr() == ("", "")
