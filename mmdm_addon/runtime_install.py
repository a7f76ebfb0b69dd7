"""Making and removing the managed environment: a virtual environment of Blender's own Python with pinned packages.

An installation runs in a thread and in processes that it can kill. It is built beside its final place and moved there
when it is complete, so that what is broken or cancelled never counts. Nothing here knows Blender.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from .engine_link import MotionError
from .runtime_locks import Lock

MARKER = "mmdm-runtime.json"
"""In a complete environment: what it was made of. Without it a folder does not count."""
BUILDING = ".building-"
SPACE_FACTOR, SPACE_BASE = 2.5, 800_000_000
"""Free space wanted: so many sizes of the download, for the files and what they unpack to, and so many bytes more."""
CHECKED = ("numpy", "scipy", "safetensors", "array_api_compat", "torch")
CANCELLED = "Cancelled; no engine was installed."
_SHARES = {"make": 0.03, "download": 0.75, "unpack": 0.19}
_CHECK = f"""
import importlib, json
versions = {{n: getattr(importlib.import_module(n), "__version__", "") for n in {CHECKED!r}}}
import torch
device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
print(json.dumps({{"versions": versions, "device": device}}))
"""


class _CancelledError(Exception):
    """The user wants no environment any more."""


def is_folder(package_index: str) -> bool:
    """Whether the preference Package Index names a folder of files instead of an address."""
    return bool(package_index) and "://" not in package_index


def blender_python() -> str:
    """Blender's own Python as a program. Raises `MotionError` where it has none."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    prefix = Path(sys.base_prefix)
    for candidate in (
        Path(sys.executable or "none"),
        prefix / "bin" / name,
        prefix / "bin" / "python3",
        prefix / "bin" / "python.exe",
        prefix / "python.exe",
    ):
        if "python" in candidate.name.lower() and candidate.is_file():
            return str(candidate)
    raise MotionError(
        "The Python program of this Blender was not found, so no environment can be made with it; "
        "name a Python that has torch in the preferences of this extension."
    )


def program(folder: Path) -> Path:
    """The Python of an environment, whether it exists or not."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What a complete environment was made of; None for anything else."""
    try:
        about = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and program(folder).is_file() else None


def digest(lock: Lock) -> str:
    """Tells one version of a lock from the next."""
    return hashlib.sha256(lock.path.read_bytes()).hexdigest()


def log_path(folder: Path) -> Path:
    """Where the installation of an environment writes what it does."""
    return folder.with_name(folder.name + ".log")


class _Claim:
    """The right to change an environment, held by one process at a time; it goes when the process does."""

    def __init__(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] | None = open(folder.with_name(folder.name + ".lock"), "ab")  # noqa: SIM115
        try:
            if os.name == "nt":
                import msvcrt

                self._file.seek(0)
                msvcrt.locking(self._file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            else:
                import fcntl

                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise MotionError(
                "Another Blender is installing or removing the engine; wait until it has finished."
            ) from error

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(folder: Path, *but: Path) -> None:
    """What a killed Blender left half-built."""
    for path in folder.parent.glob(f"{folder.name}{BUILDING}*"):
        if path not in but:
            _remove_tree(path)


class Installation:
    """One environment on its way. `start` it, look at it until `built` or `error`, then `finish` it.

    package_index: instead of pip's own index and of the lock's: an address, or a folder of wheels.
    """

    def __init__(self, folder: Path, lock: Lock, python: str, package_index: str = "") -> None:
        self.folder, self.lock = folder, lock
        self.error = ""
        self.cancelled = False
        self.about: dict[str, Any] = {}
        self.text = "Preparing"
        self._python, self._index = python, package_index
        self._done = False
        self._phase = ""
        self._furthest = 0.0
        self._process: subprocess.Popen[str] | None = None
        self._guard = threading.Lock()
        self._local_bytes = 0
        self._claim: _Claim | None = None
        self._log: IO[str] | None = None
        self._staging = folder  # until `start` makes one
        self._thread = threading.Thread(target=self._run, name="mmdm-install", daemon=True)

    @property
    def ended(self) -> bool:
        """True once the thread is through, however."""
        return self._done

    @property
    def built(self) -> bool:
        """True once there is something to `finish`."""
        return self._done and not self.error

    @property
    def progress(self) -> float:
        """How much is done, 0 to 1; never less than before. Looks at the disk."""
        share = {"make": 0.0, "download": self._downloaded(), "unpack": self._unpacked(), "check": 1.0}
        done = 0.0
        for phase, weight in _SHARES.items():
            if phase == self._phase:
                done += weight * share[phase]
                break
            done += weight if self._phase else 0.0
        self._furthest = max(self._furthest, done)  # pip tidies up while it works
        return self._furthest

    def start(self) -> None:
        """Begin. Raises `MotionError` when another process is at it, or the disk is full or closed to us."""
        try:
            self._claim = _Claim(self.folder)
            self._need_space()
            self._staging = Path(tempfile.mkdtemp(prefix=self.folder.name + BUILDING, dir=self.folder.parent))
            self._log = open(log_path(self.folder), "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        except OSError as error:
            self._release()
            raise MotionError(
                f"The engine cannot be installed in {self.folder.parent} ({error.strerror or error}); "
                "make that folder writable and install again."
            ) from error
        except MotionError:
            self._release()
            raise
        atexit.register(self.cancel)
        self._thread.start()

    def cancel(self) -> None:
        """Stop; the processes are killed at once."""
        self.cancelled = True
        self.text = "Cancelling"
        with self._guard:
            if self._process is not None:
                _kill(self._process)

    def wait(self, on_change: Callable[[Installation], None] | None = None) -> None:
        """Block until `ended`. Ctrl-C in a terminal cancels."""
        seen = ""
        try:
            while not self._done:
                if on_change is not None and self.text != seen:
                    seen = self.text
                    on_change(self)
                time.sleep(0.05)
        except KeyboardInterrupt:
            self.cancel()
        self._thread.join()

    def finish(self) -> None:
        """Put what was built in its place, once nothing runs from the one before. Raises `MotionError`."""
        if self.error:
            raise MotionError(self.error)
        old = self._staging / "old"
        try:
            if self.folder.exists():
                os.rename(self.folder, old)
            try:
                os.rename(self._staging / "new", self.folder)
            except OSError:
                if old.exists():
                    os.rename(old, self.folder)
                raise
        except OSError as error:
            raise MotionError(
                "The engine that is installed is in use, so the new one could not take its place; "
                "close the other Blenders and install again."
            ) from error
        finally:
            atexit.unregister(self.cancel)
            self._release()  # before the old files are gone: a new installation need not wait for that
            threading.Thread(target=_remove_tree, args=[self._staging], name="mmdm-clean-up").start()

    def _release(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _run(self) -> None:
        try:
            _remove_leftovers(self.folder, self._staging)
            self._make()
            self._install()
            self._check()
        except _CancelledError:
            self.error = CANCELLED
        except MotionError as error:
            self.error = str(error)
        except OSError as error:
            self.error = (
                f"The engine could not be installed ({error.strerror or error}); see the log and install again."
            )
        if self.error:
            self._say(self.error)
            atexit.unregister(self.cancel)
            self._release()
        self._done = True
        if self.error:  # told by now: the files may take their time to go
            _remove_tree(self._staging)

    def _need_space(self) -> None:
        wanted = self.lock.size * SPACE_FACTOR + SPACE_BASE
        free = shutil.disk_usage(self.folder.parent).free
        if free < wanted:
            raise MotionError(
                f"The engine needs {wanted / 1e9:.1f} GB while it is installed in {self.folder.parent}, where "
                f"{free / 1e9:.1f} GB are free; free some space and install again."
            )

    def _make(self) -> None:
        self._phase, self.text = "make", "Making an environment"
        code, words = self._call([self._python, "-I", "-m", "venv", str(self._staging / "new")])
        if code:
            raise MotionError(
                f"{self._python} could not make an environment ({_last(words)}); "
                "name a Python that has torch in the preferences of this extension."
            )

    def _install(self) -> None:
        self._phase, self.text = "download", "Looking for packages"
        command = [
            str(program(self._staging / "new")), "-I", "-m", "pip", "install",
            "--require-hashes", "--only-binary", ":all:", "--no-user", "--no-input", "--no-compile",
            "--disable-pip-version-check", "--no-warn-script-location", "--progress-bar", "off", "--retries", "3",
            "-r", str(self.lock.path),
        ]  # fmt: skip
        if is_folder(self._index):
            command += ["--no-index", "--find-links", self._index]
        elif self._index:
            command += ["--index-url", self._index]
        elif self.lock.index:
            command += ["--extra-index-url", self.lock.index]
        code, words = self._call(command, self._hear_pip)
        if code:
            raise MotionError(_explain(words))

    def _hear_pip(self, line: str) -> None:
        words = line.split()
        if words[:1] == ["Collecting"] and len(words) > 1:
            self.text = f"Downloading {words[1].partition('==')[0]} ({self.lock.size / 1e6:.0f} MB in all)"
        elif words[:1] == ["Processing"]:
            with contextlib.suppress(OSError):  # a name for the user, not for the installation
                self._local_bytes += os.path.getsize(line.split(" ", 1)[1].strip())
        elif line.startswith("Installing collected packages"):
            self._phase, self.text = "unpack", f"Unpacking {len(self.lock.packages)} packages"

    def _check(self) -> None:
        self._phase, self.text = "check", "Checking the engine"
        code, words = self._call([str(program(self._staging / "new")), "-I", "-c", _CHECK])
        try:
            about = json.loads(words[-1]) if not code else None
        except (IndexError, ValueError):
            about = None
        if about is None:
            raise MotionError(
                f"The packages were installed but do not run on this machine ({_last(words)}); "
                "choose another build, or name a Python that has torch."
            )
        self.about = about | {"build": self.lock.build, "lock": digest(self.lock), "python": self.lock.python}
        (self._staging / "new" / MARKER).write_text(json.dumps(self.about, indent=1), encoding="utf-8")

    def _call(self, command: Sequence[str], hear: Callable[[str], None] | None = None) -> tuple[int, list[str]]:
        """Run a program to its end; its exit status and lines. Raises `_CancelledError`."""
        drop = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIREMENT", "PIP_CONSTRAINT")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k not in drop}
        temporary = self._staging / "downloads"  # on the disk whose space was looked at, and gone with the rest
        temporary.mkdir(exist_ok=True)
        environment |= {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "PIP_NO_COLOR": "1"}
        self._say("> " + " ".join(command))
        with self._guard:
            if self.cancelled:
                raise _CancelledError
            self._process = process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # a group of its own, to be killed with all its children
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        lines = []
        with process:
            for line in process.stdout or ():
                line = line.rstrip()
                self._say(line)
                lines.append(line)
                if hear is not None and line:
                    hear(line)
        with self._guard:
            self._process = None
        if self.cancelled:
            raise _CancelledError
        return process.returncode, lines

    def _say(self, line: str) -> None:
        if self._log is not None:
            self._log.write(line + "\n")

    def _downloaded(self) -> float:
        found = self._local_bytes
        for path in self._present("downloads/pip-unpack-*/*"):
            with contextlib.suppress(OSError):  # moved on in the meantime
                found += path.stat().st_size
        return min(1.0, found / max(1, self.lock.size))

    def _unpacked(self) -> float:
        packages = "Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages"
        return min(1.0, len(self._present(f"new/{packages}/*.dist-info")) / max(1, len(self.lock.packages)))

    def _present(self, pattern: str) -> list[Path]:
        """What pip has laid down so far; nothing where it moves a folder at that very moment."""
        try:
            return list(self._staging.glob(pattern))
        except OSError:
            return []


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    if os.name == "nt":
        subprocess.run(
            ["taskkill", "/F", "/T", "/PID", str(process.pid)],
            capture_output=True,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def remove(folder: Path) -> None:
    """Delete a managed environment, complete or not. Raises `MotionError` where it is in use."""
    claim = _Claim(folder)
    try:
        gone = Path(tempfile.mkdtemp(prefix=folder.name + BUILDING, dir=folder.parent))
        if folder.exists():
            os.rename(folder, gone / "old")
        _remove_leftovers(folder)
    except OSError as error:
        raise MotionError(
            "The engine is in use, so it could not be removed; close the other Blenders and try again."
        ) from error
    finally:
        claim.release()


def _last(lines: Sequence[str]) -> str:
    """The line in which a program says why it failed."""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.lower().startswith("error")]
    return (errors or said or ["no reason was given"])[-1].rstrip(".")


_REASONS = (
    (("no space left", "disk quota"), "The disk became full while the engine was installed; free some space"),
    (
        ("do not match the hashes", "hashes are required"),
        "A package is not the one that this extension was tested with, so nothing was installed; "
        "check the package index in the preferences",
    ),
    (
        ("connection", "timed out", "name resolution", "name or service", "unreachable", "proxy", "ssl"),
        "The packages could not be downloaded; check the network",
    ),
    (
        ("no matching distribution",),
        "The package index does not have all packages in the pinned versions for this machine; check it",
    ),
)


def _explain(lines: Sequence[str]) -> str:
    """Why pip failed, in one sentence with the way out."""
    text = "\n".join(lines).lower()
    for words, sentence in _REASONS:
        if any(word in text for word in words):
            return f"{sentence} and install again (details are in the log)."
    return f"The packages could not be installed ({_last(lines)}); see the log and install again."
