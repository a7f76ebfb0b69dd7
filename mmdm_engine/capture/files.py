"""A capture on disk: ``capture.json``, and ``person_N.npz`` and ``person_N.bvh`` of each. Reading needs NumPy only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import MotionError
from ..joint_sets import JOINT_SETS
from .cameras import Camera
from .result import Capture, Person

FORMAT = 1
_ARRAYS = tuple(f.name for f in fields(Person) if f.name != "first")


def save(capture: Capture, folder: str | Path, *, bvh: bool = True) -> dict[str, Any]:
    """Write a capture into a folder; returns what ``capture.json`` says."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = summary(capture)
    for person, entry in zip(capture.people, about["people"], strict=True):
        np.savez_compressed(
            folder / f"{entry['name']}.npz",
            first=person.first,
            confidence=person.confidence,
            **{a: getattr(person, a) for a in _ARRAYS},
        )
        if bvh:
            from .. import bvh as bvh_file
            from .bones import armature

            bvh_file.save(armature(person, capture.fps), folder / f"{entry['name']}.bvh")
    (folder / "capture.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def summary(capture: Capture) -> dict[str, Any]:
    """What ``capture.json`` says, and what Blender is told beside the armatures: everything but arrays over time."""
    set_name = next(name for name, joint_set in JOINT_SETS.items() if joint_set == capture.joint_set)
    people = [
        {
            "name": f"person_{number}", "first_frame": int(capture.frames[person.first]), "frames": len(person),
            "made_up_percent": round(100 * float(1 - person.visible.mean()), 1),
        }
        for number, person in enumerate(capture.people, 1)
    ]  # fmt: skip
    return {
        "format": FORMAT, "fps": capture.fps, "up": "y", "joint_set": set_name, "joints": list(capture.joint_set.names),
        "first_frame": int(capture.frames[0]), "frames": len(capture.frames), "people": people,
        "cameras": [_camera(c, px) for c, px in zip(capture.cameras, capture.reprojection, strict=True)],
        "notes": list(capture.notes),
    }  # fmt: skip


def load(folder: str | Path) -> Capture:
    """Read what `save` wrote. Raises `MotionError` where it cannot be read."""
    folder = Path(folder)
    try:
        about = json.loads((folder / "capture.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}")
        people = []
        for entry in about["people"]:
            with np.load(folder / f"{entry['name']}.npz", allow_pickle=False) as file:
                people.append(Person(first=int(file["first"]), **{a: file[a] for a in _ARRAYS}))
        return Capture(
            people=tuple(people),
            joint_set=JOINT_SETS[about["joint_set"]],
            frames=about["first_frame"] + np.arange(about["frames"]),
            fps=float(about["fps"]),
            cameras=cameras_of(about),
            reprojection=tuple(
                float("nan") if c["reprojection_px"] is None else c["reprojection_px"] for c in about["cameras"]
            ),
            notes=tuple(about["notes"]),
        )
    except FileNotFoundError as error:
        raise MotionError(f"{error.filename} is missing; give the folder that the capture command wrote.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MotionError(
            f"{folder} holds no capture that can be read ({type(error).__name__}: {error}); make it again."
        ) from error


def cameras_of(about: Mapping[str, Any]) -> tuple[Camera, ...]:
    """The cameras that a `summary` tells of."""
    return tuple(
        Camera(
            name=c["name"], matrix=np.array(c["matrix"]), rotation=np.array(c["rotation"]),
            translation=np.array(c["translation"]), distortion=np.array(c["distortion"]),
            size=c["size"] and (c["size"][0], c["size"][1]),
        )
        for c in about["cameras"]
    )  # fmt: skip


def _camera(camera: Camera, pixels: float) -> dict[str, object]:
    return {
        "name": camera.name, "matrix": camera.matrix.tolist(), "rotation": camera.rotation.tolist(),
        "translation": camera.translation.tolist(), "distortion": camera.distortion.tolist(),
        "size": camera.size, "reprojection_px": round(pixels, 2) if np.isfinite(pixels) else None,
    }  # fmt: skip
