from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / ".figures"


@pytest.fixture
def figures(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Keeps what a test measured in `.figures/NAME.txt` and prints it, whatever pytest does with its output."""
    name = request.node.name.removeprefix("test_").partition("[")[0]
    path = FOLDER / f"{request.path.stem.removeprefix('test_')}.{name}.txt"

    def tell(line: str) -> None:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(line + "\n")
        with capsys.disabled():
            print(f"\n{path.stem}: {line}")

    return tell
