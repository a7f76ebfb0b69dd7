"""Bone maps as files: a rig's roles under a name, to be put on the next armature of its kind."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import bpy

from ..engine_link import INDEX, JOINTS, MotionError
from . import roles

FORMAT = "MMDM bone map"
_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
_LARGEST = 1 << 20
"""Bytes; a map takes less than two thousand."""


class Applied(NamedTuple):
    """What a map did. roles: how many bones now play as the map says. missing: its bones that the rig lacks."""

    roles: int
    missing: tuple[str, ...]


def current(armature: bpy.types.Object) -> dict[str, str]:
    """The map in force: every role → its first bone, "" where the figure lacks it."""
    chains = roles.detect(armature).chains
    return {role: chains[role][0] if role in chains else "" for role in JOINTS}


def save(path: Path, bones: Mapping[str, str]) -> None:
    """Write a map. Raises `MotionError` where the place cannot be written."""
    text = json.dumps({"format": FORMAT, "version": 1, "roles": dict(bones)}, indent=1, ensure_ascii=False)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise MotionError(f"'{path}' cannot be written ({error.strerror}); choose another folder.") from error


def load(path: Path) -> dict[str, str]:
    """Read a map: role → bone, "" for none. Raises `MotionError` on anything else."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MotionError(f"'{path}' cannot be read ({error.strerror}); choose a saved bone map.") from error
    except (ValueError, RecursionError) as error:
        raise MotionError(f"'{path.name}' is not a bone map; choose a .json file that Bone Map has saved.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("roles"), dict):
        raise MotionError(f"'{path.name}' is not a bone map; choose a .json file that Bone Map has saved.")
    if content.get("version") != 1:
        raise MotionError(f"'{path.name}' was saved by a newer MMDM; update the extension to load it.")
    bones = {}
    for role, bone in content["roles"].items():
        if role not in INDEX or not isinstance(bone, str):
            raise MotionError(f"'{path.name}' gives a bone to '{role}', which is no role; correct or delete that line.")
        bones[role] = bone
    return bones


def apply(armature: bpy.types.Object, bones: Mapping[str, str]) -> Applied:
    """Put a map on an armature in place of the user's choices.

    Only what detection does not find by itself becomes a choice, so that merged chains (Neck, Neck1) and a control
    rig's skeleton stay as they are. Bones that the rig lacks are left to detection. Raises `MotionError` if the rig has
    none of the map's bones.
    """
    there = armature.data.bones
    named = {role: bone for role, bone in bones.items() if bone}
    missing = tuple(bone for bone in named.values() if bone not in there)
    if named and len(missing) == len(named):
        raise MotionError(f"'{armature.name}' has none of the map's bones; choose a map of a rig of the same kind.")
    wanted = {role: bone for role, bone in bones.items() if not bone or bone in there}
    chosen: dict[str, str] = {}
    for _ in JOINTS:  # a choice may change what is found below it
        chains = roles.detect(armature, chosen).chains
        differs = {role: bone for role, bone in wanted.items() if chains.get(role, ("",))[0] != bone}
        if not differs.keys() - chosen.keys():
            break
        chosen |= differs
    roles.set_overrides(armature, chosen)
    chains = roles.detect(armature).chains
    return Applied(sum(chains.get(role, ("",))[0] == bone for role, bone in wanted.items() if bone), missing)


def file_of(folder: Path, name: str) -> Path:
    """Where a map of that name lies. Raises `MotionError` on names that are no file names everywhere."""
    name = name.strip()
    if not name or len(name) > 80 or name.startswith(".") or name.endswith(".") or _FORBIDDEN.search(name):
        raise MotionError(
            'Give the bone map a name of 1 to 80 letters, without dots at the ends and < > : " / \\ | ? *.'
        )
    return folder / f"{name}.json"


def saved(folder: Path) -> list[str]:
    """Names of the maps in a folder."""
    return sorted((path.stem for path in folder.glob("*.json")), key=str.casefold) if folder.is_dir() else []
