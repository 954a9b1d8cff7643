"""Files as people have them."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from penchant.evaluation.datasets import Unsuited
from penchant.evaluation.loaders import read_lines, read_periods, read_ratings, read_split


def test_lines_of_users_side_by_side_are_aligned_at_their_ends(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt.gz"
    path.write_bytes(gzip.compress(b"10 5\n10 7\n10 5\n\n2 7\n2 9\n"))
    log = read_lines(path).log
    assert (log.n_users, log.n_items) == (2, 3)
    pairs = list(zip(log.users.tolist(), log.items.tolist(), strict=True))
    assert pairs == [(1, 0), (0, 1), (1, 1), (0, 2), (1, 0)]


def test_mixed_lines_keep_their_order_and_names_may_be_words(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("ann tea\nbob milk\nann milk\n")
    log = read_lines(path).log
    assert log.users.tolist() == [0, 1, 0]
    assert log.items.tolist() == [1, 0, 0]
    assert log.users.dtype == log.items.dtype == np.int32


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "empty"), ("1 2\n3 4 5\n", "line 2.*two columns"), ("1\n2\n", "line 1"), ("1 2 3\n4\n", "line 1")],
)
def test_lines_that_are_not_two_columns_are_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "lines.txt"
    path.write_text(text)
    with pytest.raises(Unsuited, match=told):
        read_lines(path)


def test_ratings_come_in_order_of_time_and_ties_in_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n1,30,4.0,200\n2,10,3.5,100\n1,20,5.0,100\n2,30,0.5,300\n")
    log = read_ratings(path).log
    assert log.times is not None
    assert log.times.tolist() == [100_000, 100_000, 200_000, 300_000]
    assert log.users.tolist() == [1, 0, 0, 1]
    assert log.items.tolist() == [0, 1, 2, 2]
    liked = read_ratings(path, above=3.5).log
    assert (len(liked), liked.n_users, liked.n_items) == (2, 1, 2)
    path.write_text("user,item\n1,2\n")
    with pytest.raises(Unsuited, match="userId"):
        read_ratings(path)


def test_films_are_alike_by_their_genres(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n1,30,4.0,200\n2,10,3.5,100\n1,20,5.0,100\n")
    assert read_ratings(path).traits is None
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n10,"A, the (1990)",Drama|War\n20,B,(no genres listed)\n40,C,Comedy\n30,D,War\n'
    )
    traits = read_ratings(path).traits
    assert traits is not None
    assert traits.toarray().tolist() == [[1, 1], [0, 0], [0, 1]]
    (tmp_path / "movies.csv").write_text("something,else\n1,2\n")
    assert read_ratings(path).traits is None


def test_a_split_has_the_same_numbers_in_both_parts(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 5 6 9\n2 6\n3\n")
    (tmp_path / "test.txt.gz").write_bytes(gzip.compress(b"0 7 7\n1 5\n"))
    data = read_split(tmp_path)
    assert data.test is not None
    assert not data.ordered
    assert (data.log.n_users, data.log.n_items) == (data.test.n_users, data.test.n_items) == (3, 4)
    assert list(zip(data.log.users.tolist(), data.log.items.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 3), (2, 1)]
    assert list(zip(data.test.users.tolist(), data.test.items.tolist(), strict=True)) == [(0, 2), (1, 0)]
    (tmp_path / "train.txt").unlink()
    with pytest.raises(Unsuited, match=r"neither train\.txt"):
        read_split(tmp_path)


def test_periods_come_from_a_folder_or_a_tar_file(tmp_path: Path) -> None:
    texts = {"period_10.txt": b"1 7\n", "period_2.txt": b"1 5\n2 5\n1 6\n", "period_0.txt": b"9 6\n9 5\n"}
    folder = tmp_path / "weeks"
    folder.mkdir()
    with tarfile.open(tmp_path / "weeks.tar.gz", "w:gz") as archive:
        for name, text in texts.items():
            (folder / name).write_bytes(text)
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    for path in (folder, tmp_path / "weeks.tar.gz"):
        data = read_periods(path)
        assert data.bounds is not None
        assert data.bounds.tolist() == [0, 2, 5, 6]
        assert data.log.users.tolist() == [0, 0, 1, 2, 1, 3]  # session 1 of another period is another session
        assert data.log.items.tolist() == [1, 0, 0, 0, 1, 2]
        assert (data.log.n_users, data.log.n_items) == (4, 3)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gz"
    broken.write_bytes(b"\x1f\x8bnot gzip")
    with pytest.raises(Unsuited, match="cannot be read"):
        read_lines(broken)
    with pytest.raises(Unsuited, match="neither a folder nor a tar file"):
        read_periods(broken)
    with pytest.raises(Unsuited, match="two or more"):
        read_periods(tmp_path)
