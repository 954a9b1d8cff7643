"""Writes deploy/requirements.lock: what of the house's requirements.lock the image needs, with its hashes."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import distribution
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("kafka", "redis", "postgres", "archive")
ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "deploy" / "requirements.lock"
_PACKAGE = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==.*?(?=^\S|\Z)", re.M | re.S)
_VIA = re.compile(r"^    #.*\n", re.M)


def needed() -> set[str]:
    """What pyproject.toml asks for, and what that asks for, by what is installed beside this Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    left = [Requirement(text) for text in chain(project["dependencies"], *(optional[extra] for extra in EXTRAS))]
    found: dict[str, set[str]] = {}
    while left:
        one = left.pop()
        name = canonicalize_name(one.name)
        if name in found and one.extras <= found[name]:
            continue
        extras = found[name] = found.get(name, set()) | one.extras
        left += [
            inner
            for inner in map(Requirement, distribution(name).requires or ())
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        ]
    return set(found)


def lock() -> str:
    """The text of the lock; raises `LookupError` when the house's does not have something."""
    house = {
        canonicalize_name(match[1]): match[0] for match in _PACKAGE.finditer((ROOT / "requirements.lock").read_text())
    }
    missing = needed() - set(house)
    if missing:
        raise LookupError(f"not in requirements.lock: {', '.join(sorted(missing))}; run `make lock`")
    return "".join(_VIA.sub("", house[name]).rstrip() + "\n" for name in sorted(needed()))


if __name__ == "__main__":
    LOCK.write_text(lock())
    sys.stdout.write(f"{LOCK.relative_to(ROOT)}: {len(needed())} packages\n")
