"""Which files there are to do, and what their results are called."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .arguments import Settings

KINDS = {".bvh": "bvh", ".fbx": "fbx", ".glb": "glb", ".gltf": "glb", ".blend": "blend"}
"""Suffixes that are read → the format in which they are written unless another one is asked for."""


@dataclass(frozen=True)
class Item:
    """One file.

    name: its path below its input, with forward slashes, unique in the run. result: the same for what is written.
    """

    source: Path
    name: str
    result: str

    @property
    def kind(self) -> str:
        """The format of the result."""
        return PurePosixPath(self.result).suffix[1:]


def items(settings: Settings) -> list[Item]:
    """Every file of the inputs once, in order."""
    found: dict[Path, tuple[Path, PurePosixPath]] = {}
    for root in settings.inputs:
        for path, name in _below(root, settings.out):
            found.setdefault(path.resolve(), (root, name))
    names = _distinct(found)
    chosen = {path: name for path, name in names.items() if not settings.only or _fits(name, settings.only)}
    results = {
        path: name.with_suffix(f".{settings.format or KINDS[path.suffix.lower()]}") for path, name in chosen.items()
    }
    # a.bvh and a.fbx, both to become a.glb, keep their suffixes in the names
    taken = Counter(str(name).casefold() for name in results.values())
    for path, name in results.items():
        if taken[str(name).casefold()] > 1:
            results[path] = name.with_name(f"{chosen[path].name.replace('.', '_')}{name.suffix}")
    return [Item(path, str(chosen[path]), str(results[path])) for path in sorted(chosen, key=lambda p: str(chosen[p]))]


def share(everything: list[Item], settings: Settings) -> list[Item]:
    """What of the list is this process's part."""
    if settings.part is None:
        return everything
    first, of = settings.part
    return everything[first - 1 :: of]


def _below(root: Path, out: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    if root.is_file():
        yield root, PurePosixPath(root.name)
        return
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and here / name != out)
        for name in sorted(files):
            if Path(name).suffix.lower() in KINDS and not name.startswith("."):
                yield here / name, PurePosixPath((here / name).relative_to(root).as_posix())


def _distinct(found: dict[Path, tuple[Path, PurePosixPath]]) -> dict[Path, PurePosixPath]:
    """Names that no two files share: where they would, the name of the folder above comes in front, and so on up."""
    names = {path: name for path, (_, name) in found.items()}
    above = {
        path: list((root.parent if root.is_file() else root).resolve().parts[1:]) for path, (root, _) in found.items()
    }
    while twice := _shared(names.values()):
        for path, name in list(names.items()):
            if str(name).casefold() in twice and above[path]:
                names[path] = PurePosixPath(above[path].pop()) / name
    return names


def _shared(names: Iterable[PurePosixPath]) -> set[str]:
    return {name for name, times in Counter(str(n).casefold() for n in names).items() if times > 1}


def _fits(name: PurePosixPath, glob: str) -> bool:
    return fnmatch.fnmatch(str(name), glob) or fnmatch.fnmatch(name.name, glob)


def unreadable(settings: Settings) -> list[Path]:
    """Files that were named one by one and are of no kind that is read."""
    return [p for p in settings.inputs if p.is_file() and p.suffix.lower() not in KINDS]
