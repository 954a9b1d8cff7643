"""What a `[features.NAME]` table means: checked against the schema, or refused with the key and the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from penchant.core.clock import Millis
from penchant.core.errors import SettingsError
from penchant.core.schema import Action, Attribute, Schema
from penchant.core.values import hint
from penchant.features import tiles
from penchant.settings import Feature, InvalidSettings, duration

Side = Literal["user", "item"]
Measure = Literal["count", "value", "present"]
"""What a record adds: one, its fixed-point value, or one if it has a value."""

IMPRESSION = "impression"
MAX_WINDOW = 366 * tiles.DAY
_DECAYED_SUM = 10**9
"""Decayed sums must have room for this much in the action's own unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One checked feature. `key` is the attribute of the other side whose values split it; `hop` 0 means all time."""

    name: str
    side: Side
    agg: str
    actions: frozenset[int]
    per: frozenset[int] = frozenset()
    measure: Measure = "count"
    scale: int = 0
    key: str | None = None
    crossed: bool = False
    window: Millis = 0
    hop: Millis = 0
    half_life: Millis = 0
    prior: tuple[float, float] = (0.0, 0.0)
    n: int = 0
    k: int = 0


def impression_code(schema: Schema) -> int:
    """The action code that impressions go by: the one after the last declared action."""
    return len(schema.actions)


def check_feature(name: str, feature: Feature, schema: Schema) -> Spec:
    """The feature as the plan takes it; raises `SettingsError` that names `features.NAME.KEY` and the fix."""
    where = f"features.{name}"
    side, crossed = _entity(where, feature, schema)
    actions = _actions(f"{where}.of", feature.of, schema)
    agg = feature.agg
    _refuse_strays(where, feature)
    if crossed is not None and agg in ("last", "distinct", "top"):
        raise SettingsError(f'{where}.agg: "{agg}" cannot be crossed with an attribute; write entity = "{side}"')
    other = "item" if side == "user" else "user"
    if agg == "distinct" and feature.by not in (None, other):
        raise SettingsError(f'{where}.by: a {side} feature counts distinct {other}s; write by = "{other}"')
    measure, scale = _measure(where, feature, schema)
    window, hop, half_life = _time(where, feature)
    if agg == "decayed" and measure == "value" and (1 << 43) // 10**scale < _DECAYED_SUM:
        raise SettingsError(
            f"{where}.agg: decayed sums overflow at scale {scale}; give the action a scale of at most 3"
        )
    return Spec(
        name=name,
        side=side,
        agg=agg,
        actions=_codes(actions, schema),
        per=_per(where, feature, schema),
        measure=measure,
        scale=scale,
        key=_key(where, feature, schema, side) if agg == "top" else crossed,
        crossed=crossed is not None,
        window=window,
        hop=hop,
        half_life=half_life,
        prior=_prior(where, feature),
        n=feature.n if agg in ("last", "top") else 0,
        k=feature.k if agg == "distinct" else 0,
    )


def keyed_attribute(where: str, name: str, declared: Mapping[str, Attribute], side: str) -> str:
    """A declared attribute whose values form a bounded domain: a category or tags."""
    attribute = declared.get(name)
    if attribute is None:
        raise SettingsError(f"{where}: no attribute {name!r} in [attributes.{side}]; {hint(name, declared)}")
    if attribute.kind not in ("category", "tags"):
        raise SettingsError(
            f'{where}: {name!r} is a {attribute.kind}; features can be keyed by "category" and "tags" attributes'
        )
    return name


def _entity(where: str, feature: Feature, schema: Schema) -> tuple[Side, str | None]:
    forms = '"user", "item", ["user", ITEM_ATTRIBUTE] or ["item", USER_ATTRIBUTE]'
    entity = [feature.entity] if isinstance(feature.entity, str) else list(feature.entity)
    if not entity or entity[0] not in ("user", "item"):
        why = hint(entity[0], ("user", "item")) if entity else "it is empty"
        raise SettingsError(f"{where}.entity: write {forms}; {why}")
    side: Side = "user" if entity[0] == "user" else "item"
    if len(entity) == 1:
        if isinstance(feature.entity, list):
            raise SettingsError(f'{where}.entity: write {forms}; without an attribute it is "{side}"')
        return side, None
    if len(entity) > 2:
        raise SettingsError(f"{where}.entity: write {forms}; only one attribute can be crossed")
    if side == "user":
        return side, keyed_attribute(f"{where}.entity", entity[1], schema.item, "item")
    return side, keyed_attribute(f"{where}.entity", entity[1], schema.user, "user")


def _actions(where: str, of: str | list[str], schema: Schema) -> list[str]:
    names = [of] if isinstance(of, str) else list(of)
    if not names:
        raise SettingsError(f'{where}: name an action, several, or "{IMPRESSION}"')
    for name in names:
        if name not in schema.actions and name != IMPRESSION:
            known = [*schema.actions, IMPRESSION]
            raise SettingsError(f"{where}: no action {name!r} in [actions]; {hint(name, known)}")
    return names


def _codes(names: Iterable[str], schema: Schema) -> frozenset[int]:
    return frozenset(impression_code(schema) if name == IMPRESSION else schema.actions[name].code for name in names)


def _refuse_strays(where: str, feature: Feature) -> None:
    """Keys that the aggregate does not read are mistakes, not decoration."""
    agg = feature.agg
    if feature.per is not None and agg != "rate":
        raise SettingsError(f'{where}.per: only "rate" divides; drop it or write agg = "rate"')
    if feature.half_life is not None and agg != "decayed":
        raise SettingsError(f'{where}.half_life: only "decayed" decays; drop it or write agg = "decayed"')
    if feature.prior != (0.0, 0.0) and agg not in ("mean", "rate"):
        raise SettingsError(f'{where}.prior: only "mean" and "rate" are smoothed; drop it')
    if feature.by is not None and agg not in ("distinct", "top"):
        raise SettingsError(f'{where}.by: only "distinct" and "top" take it; to split by an attribute use entity')
    names = [feature.of] if isinstance(feature.of, str) else feature.of
    if agg == "last" and IMPRESSION in names:
        raise SettingsError(f'{where}.of: "last" lists interactions; name actions')


def _measure(where: str, feature: Feature, schema: Schema) -> tuple[Measure, int]:
    if feature.agg not in ("sum", "mean", "decayed"):
        return "count", 0
    names = [feature.of] if isinstance(feature.of, str) else feature.of
    declared: list[Action | None] = [schema.actions.get(name) for name in names]
    valued = [action for action in declared if action is not None and action.value is not None]
    if feature.agg == "decayed" and not valued:
        return "count", 0
    for name, action in zip(names, declared, strict=True):
        if action is None or action.value is None:
            raise SettingsError(
                f'{where}.of: {name!r} has no value to add up; give the action one ({name} = {{ value = "seconds" }}) '
                f'or write agg = "count"'
            )
    scales = {action.scale for action in valued}
    if len(scales) > 1:
        raise SettingsError(f"{where}.of: the actions have different scales ({sorted(scales)}); give them one scale")
    return "value", scales.pop()


def _time(where: str, feature: Feature) -> tuple[Millis, Millis, Millis]:
    """Window, hop and half-life in milliseconds."""
    try:
        if feature.agg == "decayed":
            if feature.window is not None:
                raise SettingsError(f"{where}.window: a decayed feature fades by half_life; drop the window")
            if feature.half_life is None:
                raise SettingsError(f'{where}.half_life: "decayed" needs one, as in half_life = "7d"')
            half_life = duration(feature.half_life, f"{where}.half_life")
            return 0, _hop(f"{where}.half_life", tiles.decay_hop, half_life), half_life
        if feature.window is None:
            return 0, 0, 0
        window = duration(feature.window, f"{where}.window")
        return window, _hop(f"{where}.window", tiles.window_hop, window), 0
    except InvalidSettings as error:
        raise SettingsError(str(error)) from None


def _hop(where: str, choose: Callable[[Millis], Millis], length: Millis) -> Millis:
    if length > MAX_WINDOW:
        raise SettingsError(f"{where}: at most 366d; without a window a feature covers all time")
    try:
        return choose(length)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None


def _per(where: str, feature: Feature, schema: Schema) -> frozenset[int]:
    if feature.agg != "rate":
        return frozenset()
    if feature.per is None:
        raise SettingsError(f'{where}.per: "rate" is `of` per what? Write per = "{IMPRESSION}" or an action')
    return _codes(_actions(f"{where}.per", feature.per, schema), schema)


def _prior(where: str, feature: Feature) -> tuple[float, float]:
    above, below = feature.prior
    if not (0.0 <= below < float("inf") and abs(above) < float("inf")):
        raise SettingsError(f"{where}.prior: two finite numbers, the second not negative")
    return above, below


def _key(where: str, feature: Feature, schema: Schema, side: Side) -> str:
    declared, other = (schema.item, "item") if side == "user" else (schema.user, "user")
    if feature.by is None:
        raise SettingsError(f'{where}.by: "top" needs the {other} attribute whose values are counted')
    return keyed_attribute(f"{where}.by", feature.by, declared, other)
