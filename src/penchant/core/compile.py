"""How hot loops are compiled: one place for the settings of the compiler and for where its results are kept."""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import xxhash

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = Path(__file__).resolve().parents[1]
_IMPORT = re.compile(r"^from (penchant[\w.]*) import (\([^)]*\)|[^\n]*)|^import (penchant[\w.]*)", re.MULTILINE)


def kernel(function: F) -> F:
    """Compile a loop over arrays to machine code, cached on disk; it runs without the interpreter's lock.

    Floating point keeps its order (no fast-math), so a kernel gives the same bits on every run. What is cached is
    found again only while the kernel's file and all that it imports of this package are as they were: the compiler by
    itself watches the kernel's own file alone, and would go on with old code of a kernel, or an old constant, that
    another file gives it. The cache is in `NUMBA_CACHE_DIR`, else beside the package, else in the user's own cache
    folder; where nothing may be written kernels are compiled anew in every process.
    """
    base = _base()
    config: Any = numba.config
    before = config.CACHE_DIR
    if base is not None:
        # Read when the function is decorated; put back, as it belongs to all users of the compiler in the process.
        config.CACHE_DIR = str(base / _digest(Path(function.__code__.co_filename)))
    try:
        compiled = numba.njit(nogil=True, cache=base is not None, error_model="numpy", boundscheck=False)(function)
    finally:
        config.CACHE_DIR = before
    return cast("F", compiled)


@functools.cache
def _base() -> Path | None:
    """The first folder that can be written; None when there is none. Never a shared one: what is there is run."""
    wanted = os.environ.get("NUMBA_CACHE_DIR")
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "penchant"
    for folder in (Path(wanted),) if wanted else (_PACKAGE / "__pycache__", own):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder / "kernels"
        except OSError:
            continue
    return None


def _digest(path: Path) -> str:
    """A name for the content of a file and of the files of this package that it imports, and so on."""
    found: dict[Path, str] = {}
    left = [path]
    while left:
        one = left.pop()
        if one not in found:
            found[one], imported = _read(one)
            left += imported
    # Without the folder, so that it does not matter where the package stands.
    return xxhash.xxh3_64_hexdigest("".join(sorted(found.values())).encode())


@functools.cache
def _read(path: Path) -> tuple[str, tuple[Path, ...]]:
    """The digest of a file's content, and the files of this package that it imports at its top level."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    modules: list[str] = []
    for origin, names, plain in _IMPORT.findall(text):
        modules.append(origin or plain)
        modules += [f"{origin}.{name}" for name in re.findall(r"\w+", names)]
    files: list[Path] = []
    for module in modules:
        place = _PACKAGE.joinpath(*module.split(".")[1:])
        files += [one for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file()]
    return xxhash.xxh3_64_hexdigest(text.encode()), tuple(files)
