"""Files that people have, as datasets for offline protocols."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.datasets import Dataset, Unsuited, distinct
from penchant.evaluation.offline import Log

if TYPE_CHECKING:
    from scipy import sparse

_PERIOD = re.compile(r"(\d+)\.txt(\.gz)?$")


def read_lines(path: Path) -> Dataset:
    """Lines of `user item`, each user's in order of time; the file may be compressed (`.gz`).

    Where every user's lines stand together nothing is known of the order between users: they are laid side by side so
    that the last interactions of all come last. Otherwise the order of the file is that of time.
    """
    users, items = _pairs(_text(path), path.name)
    users, n_users = _numbered(users)
    items, n_items = _numbered(items)
    if int((np.diff(users) != 0).sum()) + 1 == n_users:
        order = np.lexsort((users, -_left(users)))
        users, items = users[order], items[order]
    return Dataset(path.name, Log(users, items, n_users, n_items))


def read_ratings(path: Path, above: float | None = None) -> Dataset:
    """A CSV file with `userId`, `movieId`, `rating` and `timestamp` (seconds), as MovieLens has it.

    In order of time, ties in that of the file; with `above` only ratings above it count. With a `movies.csv` beside it
    lists are diverse by its `genres`.
    """
    import duckdb

    columns = {}
    with duckdb.connect() as connection:
        try:
            columns = connection.execute(
                "select userId, movieId, rating, timestamp from read_csv(?, header = true)", [str(path)]
            ).fetchnumpy()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise Unsuited(f"{path}: not a table with userId, movieId, rating and timestamp: {reason}") from None
    kept = np.ones(len(columns["userId"]), bool) if above is None else columns["rating"] > above
    times = columns["timestamp"][kept].astype(np.int64) * 1_000
    order = np.argsort(times, kind="stable")
    users, n_users = _numbered(np.asarray(columns["userId"])[kept][order])
    known, items = np.unique(np.asarray(columns["movieId"])[kept][order], return_inverse=True)
    log = Log(users, items.astype(np.int32), n_users, len(known), times[order])
    return Dataset(path.name, log, traits=_genres(path.with_name("movies.csv"), known))


def _genres(path: Path, known: NDArray[Any]) -> sparse.csr_matrix | None:
    """A row for each known film: ones where it has the genre; None without such a table."""
    import duckdb
    from scipy import sparse

    if not path.is_file():
        return None
    with duckdb.connect() as connection:
        try:
            rows = connection.execute(
                "select movieId, genres from read_csv(?, header = true, quote = '\"')", [str(path)]
            ).fetchall()
        except duckdb.Error:
            return None  # another table of that name: lists are then diverse by who took what
    of = {film: genres.split("|") for film, genres in rows if genres and not genres.startswith("(")}
    words = [of.get(film, []) for film in known.tolist()]
    numbers = {word: at for at, word in enumerate(sorted({word for one in words for word in one}))}
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in words])])
    columns = np.array([numbers[word] for one in words for word in one], np.int32)
    return sparse.csr_matrix((np.ones(len(columns), np.float32), columns, offsets), shape=(len(known), len(numbers)))


def read_split(folder: Path) -> Dataset:
    """A folder with `train.txt` and `test.txt` (or `.gz`) of lines `user item item …`, as LightGCN has them."""
    parts = [_lists(_text(_one_of(folder, name)), name) for name in ("train", "test")]
    cut = len(parts[0][0])
    users, n_users = _numbered(np.concatenate([part[0] for part in parts]))
    items, n_items = _numbered(np.concatenate([part[1] for part in parts]))
    train = Log(users[:cut], items[:cut], n_users, n_items)
    test = Log(users[cut:], items[cut:], n_users, n_items)
    return Dataset(folder.name, distinct(train), test=distinct(test), ordered=False)


def read_periods(path: Path) -> Dataset:
    """A folder or tar file of `period_0.txt`, `period_1.txt` … with lines `session item` in order of time.

    A session belongs to one period: the same name in the next one is another session.
    """
    texts = dict(sorted(_periods(path).items()))
    if len(texts) < 2:
        raise Unsuited(f"{path}: has {len(texts)} files named like period_0.txt; two or more are needed")
    pairs = [_pairs(text, f"period {number}") for number, text in texts.items()]
    lengths = [len(one[0]) for one in pairs]
    found, count = [], 0
    for sessions, _ in pairs:
        numbers, n = _numbered(sessions)
        found.append(numbers + np.int32(count))
        count += n
    items, n_items = _numbered(np.concatenate([one[1] for one in pairs]))
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Dataset(path.name, Log(np.concatenate(found), items, count, n_items), bounds=bounds)


def _text(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise Unsuited(f"{path} cannot be read: {error}") from None


def _one_of(folder: Path, name: str) -> Path:
    for end in (".txt", ".txt.gz"):
        if (folder / f"{name}{end}").is_file():
            return folder / f"{name}{end}"
    raise Unsuited(f"{folder} has neither {name}.txt nor {name}.txt.gz")


def _periods(path: Path) -> dict[int, bytes]:
    if path.is_dir():
        files = [(found, one) for one in path.iterdir() if (found := _PERIOD.search(one.name))]
        return {int(found[1]): _text(one) for found, one in files}
    try:
        with tarfile.open(path) as archive:
            members = [(found, one) for one in archive if one.isfile() and (found := _PERIOD.search(one.name))]
            return {int(found[1]): archive.extractfile(one).read() for found, one in members}  # type: ignore[union-attr]
    except (OSError, EOFError, tarfile.TarError) as error:
        raise Unsuited(f"{path} is neither a folder nor a tar file that can be read: {error}") from None


def _pairs(text: bytes, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The two columns of a text; raises `Unsuited` naming the first line that has not two."""
    tokens = text.split()
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise Unsuited(f"{name} is empty")
    if len(tokens) != 2 * len(lines) or len(lines[0].split()) != 2:
        at = next((n for n, line in enumerate(lines) if len(line.split()) != 2), 0)
        raise Unsuited(f"{name}, line {at + 1}: expected two columns, `user item`, found {lines[at].decode()!r}")
    columns = _names(tokens)
    return columns[::2], columns[1::2]


def _lists(text: bytes, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    lines = [line.split() for line in text.splitlines() if line.strip()]
    lengths = [len(line) - 1 for line in lines]
    if not lines or not sum(lengths):
        raise Unsuited(f"{name}: expected lines `user item item …`, found none")
    tokens = _names([token for line in lines for token in line])
    heads = np.zeros(len(tokens), bool)
    heads[np.concatenate([[0], np.cumsum([n + 1 for n in lengths])[:-1]])] = True
    return np.repeat(tokens[heads], lengths), tokens[~heads]


def _names(tokens: Sequence[bytes]) -> NDArray[Any]:
    """Numbers where all are, so that their order is that of numbers; else the bytes."""
    names = np.array(tokens)
    try:
        return names.astype(np.int64)
    except ValueError:
        return names


def _numbered(names: NDArray[Any]) -> tuple[NDArray[np.int32], int]:
    """Numbers from 0 in the order of the names, and how many there are."""
    known, numbers = np.unique(names, return_inverse=True)
    return numbers.astype(np.int32), len(known)


def _left(users: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many interactions each user has left at each row; each user's rows stand together."""
    ends = np.flatnonzero(np.diff(users, append=-1))
    begins = np.concatenate([[0], ends[:-1] + 1])
    return np.repeat(ends, ends - begins + 1) - np.arange(len(users))
