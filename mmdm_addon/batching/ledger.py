"""What is done and who does what, on disk: one JSON file per source, one lock file per source at work.

Records and results appear under their names only when they are whole, so a run may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .arguments import Settings
from .listing import Item

BEAT = 5.0
"""Seconds after which the owner of a lock shows that it lives."""
STALE = 60.0
"""Seconds without a beat after which a lock has no owner any more."""
FORGOTTEN = 3600.0
"""Seconds after which a half-written file of another machine is nobody's."""
PRIVATE = ("size", "modified", "settings", "ended")
"""Of a record: what tells whether it still holds, and when it was made. No part of the report."""
HOST = re.sub(r"\W", "_", socket.gethostname())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends well, and is removed when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{HOST}-{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


class Ledger:
    """The records of a run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.results = settings.out / "results"
        self._records = settings.out / "ledger"
        self._locks = settings.out / "locks"

    def exists(self) -> bool:
        """Whether there is a run in the folder."""
        return self._records.is_dir()

    def create(self) -> None:
        """Make the folders. Raises `OSError`."""
        for folder in (self.results, self._records, self._locks):
            folder.mkdir(parents=True, exist_ok=True)
            with whole(folder / ".writable") as probe:
                probe.write_bytes(b"")
            (folder / ".writable").unlink(missing_ok=True)  # another member may have been faster

    def record(self, item: Item) -> dict[str, Any] | None:
        """What is known of a file; None where nothing is, or where it no longer holds."""
        try:
            record = json.loads(self._path(item).read_text("utf-8"))
            there = record["result"] is None or (self.settings.out / record["result"]).stat().st_size == record["bytes"]
            same = [record["size"], record["modified"]] == list(stamp(item)) and record["settings"] == self._fingerprint
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if there and same else None

    def store(self, item: Item, record: dict[str, Any]) -> None:
        """Keep what came of a file. Raises `OSError`."""
        size, modified = stamp(item)
        record = {**record, "size": size, "modified": modified, "settings": self._fingerprint, "ended": time.time()}
        with whole(self._path(item)) as partial:
            partial.write_text(json.dumps(record, ensure_ascii=False, allow_nan=False), "utf-8")

    def span(self, items: Sequence[Item]) -> tuple[float, float]:
        """When work on these files began and when it ended, as `time.time` says it; now where none is done."""
        made = [record for item in items if (record := self.record(item))]
        ends = [record["ended"] for record in made] or [time.time()]
        begins = [record["ended"] - record["seconds"]["total"] for record in made] or ends
        return min(begins), max(ends)

    def forget(self, item: Item) -> None:
        """Do a file again."""
        self._path(item).unlink(missing_ok=True)

    @contextlib.contextmanager
    def claimed(self, item: Item) -> Iterator[bool]:
        """True when the file is ours to do until the block ends; False when another process is at it."""
        path = self._locks / f"{item.name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (_take(path) or (_abandoned(path) and _take(path))):
            yield False
            return
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, ended), name="mmdm-lock", daemon=True)
        beat.start()
        try:
            yield True
        finally:
            ended.set()
            beat.join()
            path.unlink(missing_ok=True)

    def at_work(self, process: int) -> str:
        """The name of the file that a process of this machine has claimed; empty for none."""
        for path in self._locks.rglob("*.lock"):
            if _owner(path) == (socket.gethostname(), process):
                return path.relative_to(self._locks).as_posix().removesuffix(".lock")
        return ""

    def sweep(self) -> None:
        """Remove what a killed run has left: half-written files and locks without owners."""
        for folder in (self.results, self._records):
            for partial in folder.rglob(".*.partial.*"):
                host, _, process = partial.name.split(".")[1].rpartition("-")
                with contextlib.suppress(OSError):  # somebody else removed it
                    ours = host == HOST and not _lives(int(process))
                    if ours or time.time() - partial.stat().st_mtime > (STALE if host == HOST else FORGOTTEN):
                        partial.unlink()
        for path in self._locks.rglob("*.lock"):
            _abandoned(path)

    @property
    def _fingerprint(self) -> str:
        return self.settings.fingerprint

    def _path(self, item: Item) -> Path:
        return self._records / f"{item.name}.json"


def stamp(item: Item) -> tuple[int, int]:
    """Size and time of a source; zeros where it is gone."""
    try:
        about = item.source.stat()
    except OSError:
        return 0, 0
    return about.st_size, about.st_mtime_ns


def _take(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"host": socket.gethostname(), "process": os.getpid()}, file)
    return True


def _owner(path: Path) -> tuple[str, int] | None:
    try:
        about = json.loads(path.read_text("utf-8"))
        return str(about["host"]), int(about["process"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _abandoned(path: Path) -> bool:
    """Whether a lock had no owner any more; it is gone then."""
    owner = _owner(path)
    try:
        silent = time.time() - path.stat().st_mtime > STALE
    except OSError:
        return True
    ours = owner is not None and owner[0] == socket.gethostname() and not _lives(owner[1])
    if not (silent or ours):
        return False
    aside = path.with_name(f"{path.name}.{os.getpid()}.gone")
    try:
        os.rename(path, aside)  # of several processes that see the same dead lock, one removes it
    except OSError:
        return False
    aside.unlink(missing_ok=True)
    return True


def _lives(process: int) -> bool:
    if os.name == "nt":  # where signal 0 would end it; there only the beat tells
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)
