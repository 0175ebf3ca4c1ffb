"""A cache that goes on from a snapshot is, bit for bit, the cache it was taken of."""

import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.core import CacheRows
from dsv4_tp.model import Cache, Model
from dsv4_tp.prefixes import Folder, Index, Match, Shelf, digest_of, find, open_folder, with_entries
from tests.model.tiny import tiny_model

BIG = 1 << 40
TEXT = tuple(np.random.default_rng(0).integers(3, 60, 400).tolist())


@pytest.fixture(scope="module", params=CacheRows)
def model(request: pytest.FixtureRequest) -> Model:
    made = tiny_model()
    made.cache_rows = request.param
    return made


def fed(model: Model, ids: tuple[int, ...], cache: Cache | None = None) -> Cache:
    cache = cache or model.make_cache()
    mx.eval(model(mx.array([ids]), cache), cache.arrays())
    return cache


def same(one: Cache, other: Cache) -> bool:
    """Whether all counts alike: windows and open windows, and the rows that are complete."""
    assert one.positions == other.positions
    pairs = zip(one.arrays(), other.arrays(), strict=True)
    return all(_starts_alike(np.array(a), np.array(b)) for a, b in pairs)


def _starts_alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Stores differ in the room they have left, which holds zeros or rows taken back."""
    count = min(one.shape[1], other.shape[1])
    return np.array_equal(one[:, :count], other[:, :count])


def restored(model: Model, shelf: Shelf, index: Index, ids: tuple[int, ...]) -> Cache:
    cache = model.make_cache()
    shelf.restore(index, find(index, ids), cache)
    return cache


@pytest.mark.parametrize("length", [64, 129, 256, 399])
def test_a_snapshot_is_restored(model: Model, length: int) -> None:
    cache, shelf = fed(model, TEXT[:length]), Shelf()
    index = shelf.keep(Index(BIG), TEXT[:length], (), cache)
    assert shelf.nbytes == index.nbytes <= sum(array.nbytes for array in cache.arrays())
    fed(model, TEXT[length:], cache)  # must not touch what was kept
    assert same(restored(model, shelf, index, TEXT), fed(model, TEXT[:length]))


def test_many_go_on_from_one(model: Model) -> None:
    shelf = Shelf()
    index = shelf.keep(Index(BIG), TEXT[:200], (), fed(model, TEXT[:200]))
    first = fed(model, TEXT[200:300], restored(model, shelf, index, TEXT))
    assert same(first, fed(model, TEXT[200:300], fed(model, TEXT[:200])))
    assert same(restored(model, shelf, index, TEXT), fed(model, TEXT[:200]))


@pytest.mark.parametrize("back", [1, 2, 4, 15, 16])
def test_the_last_tokens_are_taken_back(model: Model, back: int) -> None:
    shelf = Shelf()
    index = shelf.keep(Index(BIG), TEXT[:300], (), fed(model, TEXT[:300]))
    other = (*TEXT[: 300 - back], 1, 2, 3)
    found = fed(model, other[300 - back :], restored(model, shelf, index, other))
    straight = went_on(model, fed(model, TEXT[:300]), 300 - back, other)
    assert far(model, found, straight) == 0


def test_what_was_taken_back_before_counts(model: Model) -> None:
    """Rows that a rewind went over are in the way of the oldest ones still."""
    cache, shelf = fed(model, TEXT[:300]), Shelf()
    cache.rewind([10])
    index = shelf.keep(Index(BIG), TEXT[:290], (), cache)
    assert restored(model, shelf, index, TEXT).rewindable == (6,)
    assert find(index, (*TEXT[:283], 1, 2, 3)) is None


def went_on(model: Model, cache: Cache, start: int, ids: tuple[int, ...]) -> Cache:
    """The same without a snapshot: back to `start`, then on with `ids`."""
    cache.rewind([cache.positions[0] - start])
    return fed(model, ids[start:], cache)


def far(model: Model, one: Cache, other: Cache) -> float:
    """How far the logits of the next tokens are apart."""
    assert one.positions == other.positions
    logits = [np.array(model(mx.array([TEXT[:9]]), cache)) for cache in (one, other)]
    return float(np.abs(logits[0] - logits[1]).max())


def test_a_branch_of_a_branch_of_a_branch(model: Model) -> None:
    """Each begins before its parent's end, and the third before its parent's own beginning."""
    shelf, index = Shelf(), Index(BIG)
    branches = [TEXT[:301], (*TEXT[:290], *TEXT[:7]), (*TEXT[:286], *TEXT[50:90])]
    for ids in branches:
        match = find(index, ids)
        cache = restored(model, shelf, index, ids) if match else model.make_cache()
        fed(model, ids[match.length if match else 0 :], cache)
        index = shelf.keep(index, ids, (match,) if match else (), cache)
    assert [index.entries[digest_of(ids)].base for ids in branches] == [0, 290, 286]
    more = (*branches[2], 9, 9)
    straight = went_on(model, fed(model, branches[0]), 290, branches[1])
    straight = went_on(model, straight, 286, branches[2])
    assert far(model, restored(model, shelf, index, more), straight) == 0


def test_a_chain_survives_its_links(model: Model) -> None:
    """The first turns' snapshots are given up; their rows serve the last one."""
    shelf, cache, trail = Shelf(), model.make_cache(), ()
    index, done = Index(BIG), 0
    for length in (100, 190, 280, 370):
        fed(model, TEXT[done:length], cache)
        index, done = shelf.keep(index, TEXT[:length], trail, cache), length
        trail = (*trail, Match(digest_of(TEXT[:length]), length))
        if length == 280:
            one = index.entries[digest_of(TEXT[:100])]
            index = Index(index.nbytes, index.entries, index.alive, index.clock)
            assert one.rest_bytes > one.rows_bytes
    assert len(index.alive) < len(index.entries) == 4
    assert shelf.nbytes == index.nbytes <= index.budget_bytes
    assert same(restored(model, shelf, index, TEXT), cache)


# On disk.


def folder_of(path: Path, facts: str = "model and plan") -> Folder:
    return open_folder(path, rank=0, facts=facts)


@pytest.fixture(scope="module")
def left(model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Index]:
    """What a launch leaves: two snapshots, one after the other."""
    path = tmp_path_factory.mktemp("left")
    shelf, cache = Shelf(folder_of(path), BIG), fed(model, TEXT[:150])
    index = shelf.keep(Index(BIG), TEXT[:150], (), cache)
    fed(model, TEXT[150:300], cache)
    return path, shelf.keep(index, TEXT[:300], (find(index, TEXT),), cache)


@pytest.fixture
def path(left: tuple[Path, Index], tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(left[0], tmp_path / "copy")


def test_snapshots_outlive_the_process(model: Model, path: Path, left: tuple[Path, Index]) -> None:
    index = left[1]
    shelf = Shelf(folder_of(path), BIG)
    assert with_entries(BIG, shelf.found) == index
    straight = fed(model, TEXT[150:300], fed(model, TEXT[:150]))
    assert same(restored(model, shelf, index, TEXT), straight)
    assert same(restored(model, shelf, index, TEXT[:200]), fed(model, TEXT[:150]))


@pytest.mark.parametrize("place", [0.0, 0.02, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["json", "rows.safetensors", "rest.safetensors"])
def test_a_damaged_file_is_never_served(path: Path, kind: str, place: float) -> None:
    key = digest_of(TEXT[:300])
    (file,) = path.rglob(f"{key}.{kind}")
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 1
    file.write_bytes(data)
    folder = folder_of(path)
    found = Shelf(folder, BIG).found
    assert [entry.length for entry in found] == [150]
    assert len(folder.notes) == 1
    assert key in folder.notes[0]
    assert not list(path.rglob(f"{key}*"))


def test_a_cut_file_is_never_served(path: Path) -> None:
    (file,) = path.rglob(f"{digest_of(TEXT[:300])}.rows.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    assert [entry.length for entry in Shelf(folder_of(path), BIG).found] == [150]


def test_another_model_finds_nothing(path: Path) -> None:
    assert Shelf(folder_of(path, "another"), BIG).found == ()


def test_files_of_another_model_are_refused(path: Path) -> None:
    other = folder_of(path, "another")
    for file in folder_of(path).path.iterdir():
        file.rename(other.path / file.name)
    assert Shelf(other, BIG).found == ()
    assert all("another model or plan" in note for note in other.notes)
    assert len(other.notes) == 2


def test_only_the_latest_models_keep_their_files(tmp_path: Path) -> None:
    for facts in ("first", "second", "third"):
        folder_of(tmp_path, facts)
    assert len(list(tmp_path.glob("rank-0/*"))) == 2


def test_what_is_given_up_is_deleted(path: Path, left: tuple[Path, Index]) -> None:
    shelf = Shelf(folder_of(path), BIG)
    shelf.keep_only(with_entries(left[1].nbytes - 1, shelf.found))
    names = sorted(file.name.partition(".")[2] for file in path.rglob("*.*"))
    assert names == ["json", "json", "rest.safetensors", "rows.safetensors", "rows.safetensors"]
    again = Shelf(folder_of(path), BIG)
    assert [entry.rest_bytes > 0 for entry in again.found].count(True) == 1
    shelf.keep_only(Index(0))
    assert not list(path.rglob("*.*"))
