"""Tiny wheels under the names of the engine's packages, a lock of them, and a layout that notes what is drawn."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path
from types import SimpleNamespace

from mmdm_addon import runtime_install, runtime_locks

PACKAGES = {
    "numpy": '__version__ = "1.0"',
    "scipy": '__version__ = "1.0"',
    "safetensors": '__version__ = "1.0"',
    "array_api_compat": '__version__ = "1.0"',
    "torch": (
        '__version__ = "1.0"\n'
        "class _Absent:\n    is_available = staticmethod(lambda: False)\n"
        "class backends:\n    mps = _Absent\n"
        "cuda = _Absent\n"
    ),
}


def make_wheel(folder: Path, name: str, source: str) -> Path:
    """A pure Python wheel that pip takes."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{n},sha256={base64.urlsafe_b64encode(hashlib.sha256(c.encode()).digest()).rstrip(b'=').decode()},{len(c)}"
        for n, c in files.items()
    ]
    with zipfile.ZipFile(path, "w") as wheel:
        for member, content in files.items():
            wheel.writestr(member, content)
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return path


def make_wheels(folder: Path, **sources: str) -> Path:
    """All of them; a source given by name takes the place of the usual one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in (PACKAGES | sources).items():
        make_wheel(folder, name, source)
    return folder


def make_lock(folder: Path, wheels: Path, build: str = "cpu") -> Path:
    """A lock for this machine with the digests of these wheels."""
    folder.mkdir(parents=True, exist_ok=True)
    system, machine, python = runtime_locks.this_machine()
    files = sorted(wheels.glob("*.whl"))
    lines = [f"# system: {system}", f"# machine: {machine}", f"# build: {build}", f"# python: {python}", "# index:"]
    lines.append(f"# bytes: {sum(file.stat().st_size for file in files)}")
    for file in files:
        name = file.name.split("-")[0].replace("_", "-")
        lines.append(f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}")
    path = folder / f"{build}.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pretend_complete(folder: Path, python: str) -> None:
    """A folder that counts as a managed environment: a link to a Python, and the marker."""
    program = runtime_install.program(folder)
    program.parent.mkdir(parents=True)
    program.symlink_to(python)
    (folder / runtime_install.MARKER).write_text('{"build": "cpu", "python": "3.11", "versions": {"torch": "1.0"}}')


class Layout:
    """Stands in for a UILayout."""

    def __init__(self, notes: list[tuple[str, str]] | None = None) -> None:
        self.notes = notes if notes is not None else []

    def _sub(self, *_args, **_options) -> Layout:
        return Layout(self.notes)

    box = row = column = split = _sub

    def label(self, *, text="", icon="NONE") -> None:
        self.notes.append(("label", text))

    def operator(self, name, **_options) -> SimpleNamespace:
        self.notes.append(("operator", name))
        return SimpleNamespace()

    def prop(self, _owner, name, **_options) -> None:
        self.notes.append(("prop", name))

    def progress(self, *, factor, text) -> None:
        assert 0 <= factor <= 1
        self.notes.append(("progress", text))

    def named(self, kind: str) -> list[str]:
        """What was drawn of a kind."""
        return [text for what, text in self.notes if what == kind]
