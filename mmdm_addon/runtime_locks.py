"""Which pinned packages make up the engine's environment on this machine: the files of ``requirements/``.

scripts/lock_runtime writes them. Nothing here knows Blender.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from .engine_link import MotionError

FOLDER = Path(__file__).resolve().parent / "requirements"
BUILDS = {"cpu": "CPU", "cuda": "CUDA", "mps": "MPS"}
"""Builds of torch by their names in the files, and as they are shown."""


@dataclass(frozen=True)
class Lock:
    """A pip requirements file in which every package has its version and the digests of its files.

    index: where packages are found besides pip's own index; empty for nowhere. size: bytes to download.
    """

    path: Path
    system: str
    machine: str
    build: str
    python: str
    index: str
    size: int
    packages: tuple[str, ...]


def read(path: Path) -> Lock:
    """A lock with what its first lines say about it. Raises `MotionError` where these are damaged."""
    text = path.read_text(encoding="utf-8")
    about = dict(re.findall(r"^# (\w+): *(.*)$", text, re.MULTILINE))
    try:
        return Lock(
            path,
            about["system"],
            about["machine"],
            about["build"],
            about["python"],
            about["index"].strip(),
            int(about["bytes"]),
            tuple(re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)),
        )
    except (KeyError, ValueError) as error:
        raise MotionError(f"The package list {path.name} is damaged; install the extension again.") from error


def this_machine() -> tuple[str, str, str]:
    """System, machine and Python of the running interpreter, in the words of the locks."""
    name = sysconfig.get_platform().lower()  # of the interpreter: x86_64 Blenders run on ARM machines, too
    system = {"lin": "linux", "mac": "macos", "win": "windows"}.get(name[:3], name)
    machine = "arm64" if name.endswith(("arm64", "aarch64")) else "x86_64" if name.endswith(("64", "amd64")) else name
    return system, machine, f"{sys.version_info[0]}.{sys.version_info[1]}"


def available() -> dict[str, Lock]:
    """Build → lock for this machine, in the order of `BUILDS`."""
    found = {}
    for path in FOLDER.glob("*.txt"):
        lock = read(path)
        if (lock.system, lock.machine, lock.python) == this_machine():
            found[lock.build] = lock
    return {build: found[build] for build in BUILDS if build in found}


def find(build: str) -> Lock:
    """The lock of a build for this machine. Raises `MotionError` where there is none."""
    locks = available()
    if build not in locks:
        system, machine, python = this_machine()
        other = f"choose {' or '.join(BUILDS[b] for b in locks)}, or " if locks else ""
        raise MotionError(
            f"There is no pinned {BUILDS[build]} engine for {system} on {machine} with Python {python}; "
            f"{other}name a Python that has torch in the preferences of this extension."
        )
    return locks[build]
