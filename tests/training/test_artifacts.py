from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penchant.core.clock import ManualClock
from penchant.core.errors import ArtifactError, NotFound
from penchant.training.artifacts import ArtifactStore, Fingerprints, Manifest
from penchant.training.parts import read_arrays, write_arrays

PRINTS = Fingerprints(state="s", view="v", columns="c")
PARTS = {"click.txt": "tree\n", "ease.npz": {"items": np.arange(3), "weights": np.eye(3, dtype=np.float32)}}


def _manifest(metric: float = 0.5) -> Manifest:
    return Manifest(kind="models", created_at=7, fingerprints=PRINTS, names=("a", "b"), metrics={"ndcg": metric})


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", clock=ManualClock(9))


def test_what_was_written_is_loaded(store: ArtifactStore) -> None:
    artifact = store.load(store.write(PARTS, _manifest()), PRINTS, ("a", "b"))
    assert artifact.text("click.txt") == "tree\n"
    np.testing.assert_array_equal(artifact.arrays("ease.npz")["weights"], np.eye(3))
    assert [part.name for part in artifact.manifest.parts] == ["click.txt", "ease.npz"]
    with pytest.raises(ArtifactError, match="no text part"):
        artifact.text("ease.npz")
    with pytest.raises(ArtifactError, match="no array part"):
        artifact.arrays("click.txt")


def test_equal_content_equal_id(store: ArtifactStore, tmp_path: Path) -> None:
    other = ArtifactStore(tmp_path / "other")
    identity = store.write(PARTS, _manifest())
    assert identity == other.write(dict(reversed(PARTS.items())), _manifest()) == store.write(PARTS, _manifest())
    assert identity != store.write(PARTS, _manifest(0.6))
    assert identity != store.write({"click.txt": "tree"}, _manifest())
    body = (store.folder / identity / "manifest.json").read_bytes()
    assert hashlib.sha256(body).hexdigest() == identity
    assert json.loads(body)["fingerprints"]["columns"] == "c"


def test_nothing_half_written_stays(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match="dtype object"):
        store.write({"bad.npz": {"a": np.array([object()])}}, _manifest())
    with pytest.raises(ArtifactError, match="cannot name a part"):
        store.write({"../click.txt": "x"}, _manifest())
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["click.txt", "ease.npz", "manifest.json"])
def test_every_byte_is_verified(store: ArtifactStore, name: str) -> None:
    identity = store.write(PARTS, _manifest())
    path = store.folder / identity / name
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b" ", bytes([whole[0] ^ 1]) + whole[1:], b""):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError):
            store.load(identity)
    path.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        store.load(identity)


def test_another_schema_is_refused_by_name(store: ArtifactStore) -> None:
    identity = store.write(PARTS, _manifest())
    with pytest.raises(ArtifactError, match=r"view, columns differ.*only it has: \['a'\].*lacks: \['z'\]"):
        store.load(identity, Fingerprints(state="s", view="w", columns="d"), ("b", "z"))
    free = store.write(PARTS, Manifest(kind="models", created_at=7, fingerprints=Fingerprints(state="s")))
    assert store.load(free, Fingerprints(state="s", view="w", columns="d")).id == free


@pytest.mark.parametrize("identity", ["", "live", "../x", "A" * 64, "a" * 63, "a" * 64 + "\n", "/etc/passwd"])
def test_an_id_is_never_a_path(store: ArtifactStore, identity: str) -> None:
    with pytest.raises(ArtifactError, match="not the id"):
        store.load(identity)


def _forge(store: ArtifactStore, parts: list[tuple[str, bytes]], sizes: dict[str, int] | None = None) -> str:
    """An artifact that names itself truly, made by somebody who means harm."""
    entries = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size": (sizes or {}).get(name, len(data))}
        for name, data in parts
    ]
    body = json.dumps({"kind": "models", "created_at": 1, "parts": entries}).encode()
    identity = hashlib.sha256(body).hexdigest()
    folder = store.folder / identity
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(body)
    for name, data in parts:
        if "/" not in name:
            (folder / name).write_bytes(data)
    return identity


def _npz(entry: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr(entry, data)
    return out.getvalue()


def _npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=pickled)
    return out.getvalue()


def test_hostile_artifacts_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    zeros = _npy(np.zeros(1_000_000))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    hostile = {
        "unpacks to more": [("a.npz", _npz("a.npy", zeros, zipfile.ZIP_DEFLATED))],
        "compressed": [("a.npz", _npz("a.npy", b"incompressible", zipfile.ZIP_DEFLATED))],
        "header does not fit": [("a.npz", _npz("a.npy", header.getvalue()))],
        "does not fit|not a file of arrays": [("a.npz", _npz("a.npy", _npy(np.array([{}]), pickled=True)))],
        "is not an array": [("a.npz", _npz("../a.npy", _npy(np.zeros(1))))],
        "not a file of arrays": [("a.npz", b"PK not a zip")],
        "not allowed": [("../../secret.txt", b"x")],
    }
    for reason, parts in hostile.items():
        with pytest.raises(ArtifactError, match=reason):
            store.load(_forge(store, parts))
    with pytest.raises(ArtifactError, match="more than"):
        store.load(_forge(store, [("a.txt", b"x")], {"a.txt": 1 << 60}))
    identity = _forge(store, [("link.txt", b"secret")])
    (tmp_path / "secret").write_bytes(b"secret")
    (store.folder / identity / "link.txt").unlink()
    os.symlink(tmp_path / "secret", store.folder / identity / "link.txt")
    with pytest.raises(ArtifactError, match="cannot be read"):
        store.load(identity)


def test_the_pointer_moves_forward_and_back(store: ArtifactStore) -> None:
    assert store.live() is None
    assert store.history() == []
    with pytest.raises(NotFound):
        store.rollback()
    first, second, third = (store.write(PARTS, _manifest(metric)) for metric in (0.1, 0.2, 0.3))
    for identity in (first, second, third, third):
        store.publish(identity)
    assert store.live() == third
    assert (store.rollback(), store.rollback()) == (second, first)
    with pytest.raises(NotFound):
        store.rollback()
    assert store.live() == first
    changes = [(change.id, change.how, change.at) for change in store.history()]
    assert changes[-2:] == [(second, "rolled_back", 9), (first, "rolled_back", 9)]
    assert len(changes) == 6


def test_a_damaged_artifact_is_not_published_and_the_previous_serves(store: ArtifactStore) -> None:
    good, bad = store.write(PARTS, _manifest(0.1)), store.write(PARTS, _manifest(0.2))
    store.publish(good)
    (store.folder / bad / "click.txt").write_text("tree?")
    with pytest.raises(ArtifactError, match="damaged"):
        store.publish(bad)
    with pytest.raises(ArtifactError, match="another schema"):
        store.publish(good, Fingerprints(columns="other"))
    assert store.live() == good


def test_a_restart_finds_the_newest_artifact_that_can_serve(store: ArtifactStore) -> None:
    assert store.newest_sound() == (None, [])
    first, second = store.write(PARTS, _manifest(0.1)), store.write(PARTS, _manifest(0.2))
    store.publish(first)
    store.publish(second)
    (store.folder / second / "ease.npz").write_bytes(b"")
    found, reasons = store.newest_sound(PRINTS)
    assert found is not None
    assert found.id == first
    assert len(reasons) == 1
    (store.folder / "live").write_text("{")
    found, reasons = store.newest_sound(PRINTS)
    assert found is None
    assert "damaged" in reasons[0]


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True),
        hnp.arrays(
            st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.bool_, "U4"]), hnp.array_shapes(min_side=0)
        ),
        max_size=3,
    )
)
def test_arrays_come_back_bit_for_bit(arrays: dict[str, np.ndarray]) -> None:
    data = write_arrays(arrays)
    assert data == write_arrays(arrays)
    back = read_arrays(data, "x.npz")
    with np.load(io.BytesIO(data), allow_pickle=False) as plain:
        for name, array in arrays.items():
            assert back[name].dtype == plain[name].dtype == array.dtype
            assert back[name].shape == array.shape
            assert back[name].tobytes() == plain[name].tobytes() == array.tobytes()
