"""Snapshots on disk: of one rank, for one model and plan, each with digests of all that it is.

    KEY.json              the entry, whose it is, digests of the files, and one of all that
    KEY.rows.safetensors  its pooled rows
    KEY.rest.safetensors  the rest; missing if only later entries need this one

Nothing here is precious: what is not whole, or not of this model and plan, is deleted.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import mlx.core as mx

from dsv4_tp.log import log
from dsv4_tp.model import Arrays
from dsv4_tp.prefixes.index import Drop, Entry, Piece, with_entries

_In = TypeVar("_In", str, Entry)
_Out = TypeVar("_Out")
_FORMAT = 1
_NAME_CHARACTERS = 16  # of a fingerprint, for its folder
_FOLDERS = 2  # of models and plans that a rank's files are kept for


@dataclass(slots=True)
class Folder:
    """Where one rank has its snapshots."""

    path: Path
    fingerprint: str  # of the model and the plan
    notes: list[str] = field(default_factory=list[str])  # what was deleted, and why
    _digests: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def load(self, budget_bytes: int) -> Iterator[tuple[Entry, Arrays, Arrays]]:
        """Each entry that is whole, with its rows and its rest; without a rest, it is empty.

        No more than the budget has room for; what else there is, is deleted.
        """
        found = {file.stem: self._guarded(self._entry, file.stem) for file in self._records()}
        entries = [entry for entry in found.values() if entry is not None]
        index = with_entries(budget_bytes, entries)
        for key in found:
            if key not in index.entries:
                self.remove(Drop(key, Piece.ROWS))
            elif whole := self._guarded(self._arrays, index.entries[key]):
                yield whole

    def save(self, entry: Entry, rows: Arrays, rest: Arrays) -> None:
        """Write an entry; if that fails the next launch has to do without it."""
        digests = self._digests.setdefault(entry.key, {})
        try:
            for piece, arrays in ((Piece.ROWS, rows), (Piece.REST, rest)):
                if piece is Piece.REST or piece not in digests:
                    digests[piece] = self._write(self._file(entry.key, piece), arrays)
            self._record(entry, digests)
        except (OSError, RuntimeError) as error:
            log("snapshot-not-saved", folder=self.path, error=error)
            self.remove(Drop(entry.key, Piece.ROWS))

    def remove(self, drop: Drop) -> None:
        """Delete a piece; without its rows nothing of an entry is left."""
        files = [self._file(drop.key, Piece.REST)]
        if drop.piece is Piece.ROWS:
            files = [self._json(drop.key), *files, self._file(drop.key, Piece.ROWS)]
            self._digests.pop(drop.key, None)
        try:
            for file in files:
                file.unlink(missing_ok=True)
        except OSError as error:
            log("snapshot-not-deleted", folder=self.path, error=error)

    def _records(self) -> list[Path]:
        """One for each entry; files that have none are left of a write that was cut short."""
        records = sorted(self.path.glob("*.json"))
        known = {record.stem for record in records}
        for file in self.path.glob("*.safetensors"):
            if file.name.partition(".")[0] not in known:
                file.unlink(missing_ok=True)
        return records

    def _guarded(self, read: Callable[[_In], _Out], what: _In) -> _Out | None:
        """What `read` returns; None, and a note, if it finds damage."""
        key = what.key if isinstance(what, Entry) else str(what)
        try:
            return read(what)
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            self.notes.append(f"snapshot {self._json(key)} was deleted: {error}")
            self.remove(Drop(key, Piece.ROWS))
            return None

    def _entry(self, key: str) -> Entry:
        file = self._json(key)
        raw = cast(dict[str, Any], json.loads(file.read_text()))
        if raw.pop("seal", None) != _seal(raw):
            raise ValueError(f"{file.name} is damaged")
        if raw["fingerprint"] != self.fingerprint:
            raise ValueError("it was made for another model or plan")
        entry = Entry(**raw["entry"])
        self._digests[entry.key] = raw["digests"]
        kept = entry.rest_bytes if self._file(entry.key, Piece.REST).exists() else 0
        return replace(entry, tail=tuple(entry.tail), rest_bytes=kept)

    def _arrays(self, entry: Entry) -> tuple[Entry, Arrays, Arrays]:
        digests = self._digests[entry.key]
        rows = _load(self._file(entry.key, Piece.ROWS), digests[Piece.ROWS])
        if not entry.rest_bytes:
            return entry, rows, {}
        return entry, rows, _load(self._file(entry.key, Piece.REST), digests[Piece.REST])

    def _write(self, file: Path, arrays: Arrays) -> str:
        """Writes the file whole or not at all; its digest."""
        partial = file.with_name(f"partial-{file.name}")
        mx.save_safetensors(str(partial), arrays)
        digest = _digest(partial)
        partial.rename(file)
        return digest

    def _record(self, entry: Entry, digests: dict[str, str]) -> None:
        raw = {"fingerprint": self.fingerprint, "entry": asdict(entry), "digests": digests}
        file = self._json(entry.key)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(raw | {"seal": _seal(raw)}))
        partial.rename(file)

    def _json(self, key: str) -> Path:
        return self.path / f"{key}.json"

    def _file(self, key: str, piece: Piece) -> Path:
        return self.path / f"{key}.{piece}.safetensors"


def open_folder(parent: Path, *, rank: int, facts: str) -> Folder:
    """The folder of a rank's snapshots; made if missing.

    `facts` say which model and plan they are for. Folders of others are deleted, but the latest.

    Raises:
        OSError: it cannot be made.
    """
    fingerprint = hashlib.sha256(f"{_FORMAT} {rank} {facts}".encode()).hexdigest()
    mine = parent / f"rank-{rank}"
    path = mine / fingerprint[:_NAME_CHARACTERS]
    path.mkdir(parents=True, exist_ok=True)
    path.touch()  # the latest in use
    for partial in path.glob("*partial*"):
        partial.unlink()
    by_age = sorted(mine.iterdir(), key=lambda folder: folder.stat().st_mtime)
    for other in by_age[:-_FOLDERS]:
        shutil.rmtree(other, ignore_errors=True)
    return Folder(path, fingerprint)


def _load(file: Path, digest: str) -> Arrays:
    if _digest(file) != digest:
        raise ValueError(f"{file.name} is damaged")
    arrays = cast(Arrays, mx.load(str(file)))
    mx.eval(list(arrays.values()))
    return arrays


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _seal(raw: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()
