"""Artifacts: models as directories named by the hash of their content, and the pointer to the one that serves."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from numpy.typing import NDArray

from penchant.core.clock import Clock, Millis, SystemClock
from penchant.core.errors import ArtifactError, NotFound
from penchant.training.parts import read_arrays, write_arrays

MANIFEST = "manifest.json"
POINTER = "live"
_ID = re.compile(r"[0-9a-f]{64}\Z")
_PART = re.compile(r"[a-z0-9][a-z0-9_-]{0,80}(\.[a-z0-9_-]{1,80})*\.(npz|txt)\Z")
_MANIFEST_LIMIT = 4 * 1024 * 1024
_KEPT = 100

Content = str | Mapping[str, NDArray[Any]]
"""What a part holds: text (`.txt`) or named arrays (`.npz`)."""


class Part(msgspec.Struct, frozen=True):
    """One file of an artifact."""

    name: str
    sha256: str
    size: int


class DataRange(msgspec.Struct, frozen=True, kw_only=True):
    """What the artifact was made from: positions of the log and event times (ms), both ends included."""

    first_position: int = 0
    last_position: int = 0
    first_ts: Millis = 0
    last_ts: Millis = 0


class Fingerprints(msgspec.Struct, frozen=True, kw_only=True):
    """The definitions that the artifact's numbers mean something under; "" binds it to none."""

    state: str = ""
    view: str = ""
    columns: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of an artifact; its canonical JSON is the file whose SHA-256 names the artifact.

    `names` are the columns of the feature matrix, in order. `models` says, by model, how its parts are to be used.
    """

    kind: str
    created_at: Millis
    data: DataRange = DataRange()
    fingerprints: Fingerprints = Fingerprints()
    names: tuple[str, ...] = ()
    models: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    parent: str | None = None
    parts: tuple[Part, ...] = ()
    format: Literal[1] = 1


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the pointer; `how` is published or rolled_back."""

    id: str
    at: Millis
    how: str


class _Pointer(msgspec.Struct, frozen=True, kw_only=True):
    live: str
    previous: list[str] = []
    history: list[Published] = []


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A verified artifact in memory; its arrays are shared and must not be written."""

    id: str
    manifest: Manifest
    content: Mapping[str, Content]

    def text(self, part: str) -> str:
        """A text part; raises `ArtifactError` when there is none of that name."""
        found = self.content.get(part)
        if not isinstance(found, str):
            raise ArtifactError(f"artifact {self.id[:12]} has no text part {part!r}")
        return found

    def arrays(self, part: str) -> Mapping[str, NDArray[Any]]:
        """An array part; raises `ArtifactError` when there is none of that name."""
        found = self.content.get(part)
        if found is None or isinstance(found, str):
            raise ArtifactError(f"artifact {self.id[:12]} has no array part {part!r}")
        return found


_canonical = msgspec.json.Encoder(order="deterministic")
_manifests = msgspec.json.Decoder(Manifest)
_pointers = msgspec.json.Decoder(_Pointer)


class ArtifactStore:
    """Artifacts in `folder`, one directory each, and `folder/live`, the pointer that `publish` swaps atomically.

    Several processes may use one folder: artifacts never change, the pointer is replaced whole. `limit` bounds the
    bytes that one artifact may take in memory.
    """

    def __init__(self, folder: Path, *, clock: Clock | None = None, limit: int = 8 * 1024**3) -> None:
        self.folder = folder
        self._clock = clock or SystemClock()
        self._limit = limit

    def write(self, parts: Mapping[str, Content], manifest: Manifest) -> str:
        """Keep an artifact durably and return its id; `manifest.parts` is filled in. Equal content, equal id."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        try:
            entries = []
            for name, content in sorted(parts.items()):
                if not _PART.match(name) or name.endswith(".txt") != isinstance(content, str):
                    raise ArtifactError(f"{name!r} cannot name a part: lower case, text as .txt and arrays as .npz")
                data = content.encode() if isinstance(content, str) else write_arrays(content)
                _write(folder / name, data)
                entries.append(Part(name, hashlib.sha256(data).hexdigest(), len(data)))
            body = _canonical.encode(msgspec.structs.replace(manifest, parts=tuple(entries)))
            _write(folder / MANIFEST, body)
            _sync(folder)
            identity = hashlib.sha256(body).hexdigest()
            if not (self.folder / identity).exists():
                folder.chmod(0o755)
                os.replace(folder, self.folder / identity)
                _sync(self.folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return identity

    def manifest(self, identity: str) -> Manifest:
        """The manifest, checked against the id; the parts are not read."""
        body = _read(self._path(identity) / MANIFEST, _MANIFEST_LIMIT)
        if hashlib.sha256(body).hexdigest() != identity:
            raise ArtifactError(f"artifact {identity[:12]} is damaged: its manifest does not match its id")
        try:
            return _manifests.decode(body)
        except msgspec.DecodeError as error:
            raise ArtifactError(f"artifact {identity[:12]} was written by another version: {error}") from None

    def load(
        self, identity: str, expected: Fingerprints | None = None, names: tuple[str, ...] | None = None
    ) -> Artifact:
        """The artifact, every byte verified; raises `ArtifactError` saying what is damaged or what differs."""
        manifest = self.manifest(identity)
        if expected is not None:
            _refuse_foreign(identity, manifest, expected, names)
        if sum(part.size for part in manifest.parts) > self._limit:
            raise ArtifactError(f"artifact {identity[:12]} takes more than {self._limit} bytes; raise the limit")
        content: dict[str, Content] = {}
        for part in manifest.parts:
            if not _PART.match(part.name):
                raise ArtifactError(f"artifact {identity[:12]} names a part {part.name!r}, which is not allowed")
            data = _read(self._path(identity) / part.name, part.size)
            if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
                raise ArtifactError(f"artifact {identity[:12]} is damaged: part {part.name} is not what was written")
            content[part.name] = data.decode() if part.name.endswith(".txt") else read_arrays(data, part.name)
        return Artifact(identity, manifest, content)

    def live(self) -> str | None:
        """The id of the artifact that serves, None before the first `publish`."""
        pointer = self._pointer()
        return pointer.live if pointer else None

    def newest_first(self) -> list[str]:
        """The live artifact, then those that served before it; raises `ArtifactError` when the pointer is damaged."""
        pointer = self._pointer()
        return [pointer.live, *reversed(pointer.previous)] if pointer else []

    def history(self) -> list[Published]:
        """The last changes of the pointer, oldest first."""
        pointer = self._pointer()
        return list(pointer.history) if pointer else []

    def publish(self, identity: str, expected: Fingerprints | None = None) -> None:
        """Verify the artifact and make it the one that serves; on `ArtifactError` the pointer stays."""
        self.load(identity, expected)
        pointer = self._pointer()
        previous = [*pointer.previous, pointer.live] if pointer and pointer.live != identity else []
        if pointer and pointer.live == identity:
            previous = pointer.previous
        self._swap(identity, previous, pointer, "published")

    def rollback(self) -> str:
        """Point to the artifact that served before and return its id; raises `NotFound` when there was none."""
        pointer = self._pointer()
        if pointer is None or not pointer.previous:
            raise NotFound("there is no artifact to go back to")
        *previous, identity = pointer.previous
        self.load(identity)
        self._swap(identity, previous, pointer, "rolled_back")
        return identity

    def newest_sound(
        self, expected: Fingerprints | None = None, names: tuple[str, ...] | None = None
    ) -> tuple[Artifact | None, list[str]]:
        """The live artifact or, where it cannot be used, the newest before it that can; and why others could not."""
        reasons: list[str] = []
        try:
            known = self.newest_first()
        except ArtifactError as error:
            return None, [str(error)]
        for identity in known:
            try:
                return self.load(identity, expected, names), reasons
            except ArtifactError as error:
                reasons.append(str(error))
        return None, reasons

    def _path(self, identity: str) -> Path:
        if not _ID.match(identity):
            raise ArtifactError(f"{identity!r} is not the id of an artifact: 64 hexadecimal digits")
        return self.folder / identity

    def _pointer(self) -> _Pointer | None:
        path = self.folder / POINTER
        if not path.exists():
            return None
        try:
            return _pointers.decode(_read(path, _MANIFEST_LIMIT))
        except msgspec.DecodeError as error:
            raise ArtifactError(f"{path} is damaged ({error}); publish an artifact again") from None

    def _swap(self, identity: str, previous: list[str], pointer: _Pointer | None, how: str) -> None:
        change = Published(id=identity, at=self._clock.now(), how=how)
        history = [*(pointer.history if pointer else []), change][-_KEPT:]
        body = _canonical.encode(_Pointer(live=identity, previous=previous[-_KEPT:], history=history))
        handle, name = tempfile.mkstemp(prefix=".live-", dir=self.folder)
        os.close(handle)
        _write(Path(name), body)
        os.replace(name, self.folder / POINTER)
        _sync(self.folder)


def _refuse_foreign(identity: str, manifest: Manifest, expected: Fingerprints, names: tuple[str, ...] | None) -> None:
    differs = [
        field
        for field in Fingerprints.__struct_fields__
        if getattr(manifest.fingerprints, field) and getattr(manifest.fingerprints, field) != getattr(expected, field)
    ]
    if not differs:
        return
    detail = ""
    if names is not None and names != manifest.names:
        gone, new = sorted(set(manifest.names) - set(names)), sorted(set(names) - set(manifest.names))
        detail = f" (columns only it has: {gone or 'none'}; columns it lacks: {new or 'none'})"
    raise ArtifactError(
        f"artifact {identity[:12]} was made for another schema: {', '.join(differs)} differ{detail}; train again"
    )


def _read(path: Path, limit: int) -> bytes:
    try:
        # A link could name any file of the machine: an artifact is plain files.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > limit:
            raise ArtifactError(f"{path} is larger than {limit} bytes")
        return file.read()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
