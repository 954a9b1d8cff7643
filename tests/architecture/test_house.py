"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import penchant
from architecture.budget import SOURCE, over_budget

ROOT = SOURCE.parent
PACKAGE = SOURCE / "penchant"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_CATCH_ALL = {
    "pipeline/executor.py",
    "stream/runner.py",
    "stream/worker.py",
    "log/relay.py",
    "assembly/cluster/keeping.py",
    "assembly/cluster/relaying.py",
    "assembly/cluster/streaming.py",
    "serving/http.py",
    "serving/live.py",
    "cli/context.py",
    "cli/checkup.py",
}
"""Where any exception may be caught: it is answered for there, by a policy that is written beside it."""

CLOCK = "core/clock.py"
_WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
_GLOBAL_RANDOM = re.compile(
    r"^(random|np\.random|numpy\.random)\.(?!Random$|SystemRandom$|default_rng$|Generator$|PCG64$)\w+$"
)
_NEVER_IMPORTED = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_NEVER_CALLED = {"eval", "exec", "compile", "__import__"}

_PLACES = re.compile(
    r"(?<![\w.~-])/(?:work|home|root|Users|tmp/[a-z])[/\w]*"  # folders of one machine
    r"|\.\./shared"
    r"|(?:index-url|extra-index|trusted-host)\s*[= ]\s*\S*://"
    r"|https?://[\w.-]*(?:artifactory|nexus|devpi|pypi)[\w.-]*\.(?!org\b)\w+",
    re.I,
)
_MAY_NAME_PLACES = {
    "tests/architecture/test_house.py",  # this file says what is forbidden
}
_DATA = re.compile(r"\.\./shared/data|PENCHANT_DATA")
"""Tests and benchmarks may look for data beside the repository."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute chain, "" for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every node of every module's syntax tree, with the module's name."""
    return [(name_of(path), node) for path in MODULES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def tracked() -> list[Path]:
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if told.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in told.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_module_is_over_budget() -> None:
    assert over_budget() == []


def test_the_budget_names_offenders(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("pass\n" * 401)
    (tmp_path / "short.py").write_text("pass\n" * 400)
    assert over_budget(tmp_path) == [(tmp_path / "long.py", 401)]


def test_layers() -> None:
    """As `lint-imports` in `make check`."""
    command = Path(sys.executable).with_name("lint-imports")
    told = subprocess.run([str(command), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


def test_exported_names_exist_and_are_sorted() -> None:
    for name in penchant.__all__:
        assert getattr(penchant, name) is not None
    assert penchant.__all__ == sorted(penchant.__all__)
    assert set(penchant._LAZY) < set(penchant.__all__)
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        penchant.nothing_of_ours  # noqa: B018


@pytest.mark.parametrize(
    "path", [path for path in MODULES if "__all__" in path.read_text(encoding="utf-8")], ids=name_of
)
def test_every_all_is_true(path: Path) -> None:
    dots = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    module = import_module(dots)
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), f"{dots}.{name}"


def test_events_are_quick_to_import() -> None:
    """`import penchant` alone brings no web framework, no compiler and no trainer."""
    code = "import sys, penchant; penchant.Interaction; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"fastapi", "numba", "lightgbm", "duckdb", "scipy", "httpx", "typer"} & set(told.stdout.split())
    assert not heavy


def test_every_module_says_what_it_is() -> None:
    silent = [name_of(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in MODULES}
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_no_grab_bags() -> None:
    banned = {"utils", "util", "helpers", "common", "manager", "base", "misc"}
    assert [name_of(path) for path in MODULES if path.stem in banned or path.parent.name in banned] == []


def test_who_catches_everything() -> None:
    found = {
        name
        for name, node in nodes()
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or "Exception" in ast.unparse(node.type).replace(".", " ").split())
    }
    assert found <= MAY_CATCH_ALL


def test_base_exceptions_are_raised_again() -> None:
    """`except BaseException` may clean up on the way out, never swallow."""
    for name, node in nodes():
        if isinstance(node, ast.ExceptHandler) and node.type is not None and "BaseException" in ast.unparse(node.type):
            assert any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node)), name


def test_time_and_chance_are_inputs() -> None:
    for name, node in nodes():
        if isinstance(node, ast.Attribute):
            chain = dotted(node)
            assert name == CLOCK or not any(chain == wall or chain.endswith("." + wall) for wall in _WALL), (
                name,
                chain,
            )
            assert not _GLOBAL_RANDOM.match(chain), (name, chain)
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random", "time"):
            names = {alias.name for alias in node.names}
            assert not names & {"time", "time_ns", "seed", "random", "randint", "choice", "shuffle"}, name


def test_no_pickle_no_code_from_data() -> None:
    for name, node in nodes():
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & _NEVER_IMPORTED, name
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in _NEVER_IMPORTED, name
        if isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in _NEVER_CALLED), name
            for keyword in node.keywords:
                allowed = keyword.arg != "allow_pickle" or (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                )
                assert allowed, name


def test_no_places_of_one_machine() -> None:
    """Nothing that is committed names a folder or a registry that only its author has."""
    found = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name in _MAY_NAME_PLACES or name == "LICENSE":
            continue
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), start=1):
            allowed = name.startswith(("tests/", "bench/")) and _DATA.search(line)
            if not allowed and _PLACES.search(line):
                found.append(f"{name}:{number}: {line.strip()[:120]}")
    assert found == []


def test_no_artifacts_are_tracked() -> None:
    big = [path for path in tracked() if path.stat().st_size > 512 * 1024]
    assert [path.relative_to(ROOT).as_posix() for path in big] == []
