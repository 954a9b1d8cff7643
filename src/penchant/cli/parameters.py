"""`--set MODEL.NAME=VALUE`: parameters of models from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from penchant.cli.context import hint
from penchant.core.errors import PenchantError

EXAMPLE = "as in --set ials.dim=256"


def with_parameters(model: Any, given: Iterable[str]) -> Any:
    """The model with the parameters that are for it; raises `PenchantError` naming what is wrong.

    A parameter of a part stands after its name: `session-knn.model.recent=300`. A value has the type of the default.
    """
    for one in given:
        path, equals, text = one.partition("=")
        name, *parts = path.split(".")
        if not equals or not parts:
            raise PenchantError(f"--set: {one!r} is not MODEL.NAME=VALUE, {EXAMPLE}")
        if name == model.name:
            model = _with(model, parts, text, one)
    return model


def named_in(given: Iterable[str]) -> list[str]:
    """The models that parameters are given for."""
    return [one.partition(".")[0] for one in given]


def _with(part: Any, path: list[str], text: str, one: str) -> Any:
    known = {field.name for field in fields(part) if field.init and field.name != "name" and field.name[0] != "_"}
    if path[0] not in known:
        raise PenchantError(f"--set: {one!r}: there is no {path[0]!r}; {hint(path[0], sorted(known))}")
    present = getattr(part, path[0])
    if len(path) > 1:
        if not is_dataclass(present):
            raise PenchantError(f"--set: {one!r}: {path[0]} has no parts")
        return replace(part, **{path[0]: _with(present, path[1:], text, one)})
    try:
        return replace(part, **{path[0]: _value(present, text)})
    except ValueError as error:
        raise PenchantError(f"--set: {one!r}: {error}") from None


def _value(present: Any, text: str) -> Any:
    if isinstance(present, bool):
        if text not in ("true", "false"):
            raise ValueError("write true or false")
        return text == "true"
    if isinstance(present, int) or present is None:
        return int(text)
    if isinstance(present, float):
        return float(text)
    if isinstance(present, str):
        return text
    raise ValueError("this cannot be set from the command line")
