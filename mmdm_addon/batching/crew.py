"""Several Blender processes over one list: they claim files, this one watches."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bpy

from .arguments import Settings
from .ledger import Ledger
from .listing import Item
from .progress import Progress

SCRIPT = Path(__file__).resolve().parent.parent / "batch.py"
LOOK = 0.3
"""Seconds between two looks."""
PATIENCE = 10.0
"""Seconds for members to end by themselves when the run is stopped."""
NO_ENGINE = 79
"""Exit status of a member whose engine does not work, so that no file is blamed for it; no crash gives that number."""


class NoEngineError(Exception):
    """A member has ended because its engine does not work; it has not said why."""


def command(settings: Settings) -> list[str]:
    """The command line of one member: this Blender, or this Python where Blender is a module of it."""
    program = bpy.app.binary_path
    if program:
        return [program, "-b", "--python-exit-code", "1", "--python", str(SCRIPT), "--", *settings.argv()]
    return [sys.executable, str(SCRIPT), *settings.argv()]


class Crew:
    """The members of a run."""

    def __init__(self, items: list[Item], ledger: Ledger, settings: Settings, progress: Progress) -> None:
        self._items, self._ledger, self._settings, self._progress = items, ledger, settings, progress
        self._members: list[subprocess.Popen[bytes]] = []
        self._worked = False  # once one engine has done a file, another that does not start is no reason to give up

    def work(self) -> None:
        """Until every file has a record; a member that dies costs the file that it was at, and is replaced.

        Raises `NoEngineError`.
        """
        left = [item for item in self._items if self._ledger.record(item) is None]
        useless = 0
        try:
            self._members = [self._start() for _ in range(min(self._settings.jobs, len(left)))]
            while left:
                time.sleep(LOOK)
                useless += self._mourn()
                before, left = left, []
                for item in before:
                    if record := self._ledger.record(item):
                        useless, self._worked = 0, True
                        self._progress.end(item.name, record["sentence"])
                    else:
                        left.append(item)
                if useless > 2 * self._settings.jobs:
                    self._progress.say("Blender ends again and again without doing anything; see its messages above.")
                    return
                if left and len(self._members) < min(self._settings.jobs, len(left)):
                    self._members.append(self._start())
        finally:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        cores = os.cpu_count() or 1
        threads = str(max(1, cores // self._settings.jobs))
        environment = {"OMP_NUM_THREADS": threads, **os.environ}  # members must not fight for the cores
        return subprocess.Popen(command(self._settings), env=environment, stdout=subprocess.DEVNULL)

    def _mourn(self) -> int:
        """Take note of members that have ended; how many ended badly without having been at a file."""
        useless = 0
        for member in [m for m in self._members if m.poll() is not None]:
            self._members.remove(member)
            if member.returncode == NO_ENGINE and not self._worked:
                raise NoEngineError
            name = self._ledger.at_work(member.pid)
            item = next((i for i in self._items if i.name == name), None)
            if item is not None and self._ledger.record(item) is None:
                sentence = (
                    f"Blender crashed on this file (exit status {member.returncode}); open it in Blender to see why."
                )
                self._ledger.store(item, _crashed(item, sentence))
            elif member.returncode:
                useless += 1
        return useless

    def _end(self) -> None:
        for member in self._members:
            if member.poll() is None:
                with contextlib.suppress(OSError):
                    member.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        for member in self._members:
            try:
                member.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.kill()
                member.wait()


def _crashed(item: Item, sentence: str) -> dict[str, object]:
    return {
        "name": item.name, "source": str(item.source), "result": None, "bytes": 0, "status": "failed", "takes": [],
        "notes": [], "sentence": sentence, "seconds": {"total": 0.0, "engine": 0.0},
    }  # fmt: skip
