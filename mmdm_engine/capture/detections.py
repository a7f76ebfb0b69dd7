"""2-D detections on disk: OpenPose JSON, one file for each frame, in one folder or zip for each camera.

`Recording` knows which frames there are and reads any range of them, so that a long take need not fit into memory.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..contract import MotionError

BODY_25 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye",
    "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe",
    "right_small_toe", "right_heel",
)  # fmt: skip
"""OpenPose's 25 joints, the order in which this package holds detections."""
COCO_18 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear",
)  # fmt: skip
"""OpenPose's COCO model."""
COCO_17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""The COCO data set's own order, which other detectors write."""
ORDERS = {3 * len(names): [BODY_25.index(n) for n in names] for names in (BODY_25, COCO_18, COCO_17)}
"""Length of ``pose_keypoints_2d`` → rows in BODY_25."""

MISSING_SHARE = 0.1
"""A camera may lack this share of the frames, counted as having seen nobody; one that lacks more was not in sync."""
_FRAME = re.compile(r"(\d+)(?:_keypoints)?\.json$")
_PAIRS = (("neck", "left_shoulder", "right_shoulder"), ("mid_hip", "left_hip", "right_hip"))


class CameraFiles:
    """The JSON files of one camera, by frame number.

    path: a folder or a ``.zip``; files in folders inside it count, too. The last number in a name is the frame's.
    """

    def __init__(self, path: Path):
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            names = [str(p.relative_to(path)) for p in path.rglob("*.json")]
        else:
            try:
                self._zip = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile):
                raise MotionError(f"{path} is neither a folder nor a zip file; give one of each camera.") from None
            names = [n for n in self._zip.namelist() if n.endswith(".json")]
        self.names = {int(found[1]): name for name in sorted(names) if (found := _FRAME.search(name))}
        if not self.names:
            raise MotionError(f"{path} holds no files like frame_000001.json; give the folder that OpenPose wrote.")

    def people(self, frame: int) -> list[np.ndarray]:
        """(25, 3) pixels and confidence of each person of a frame, in BODY_25; none where the file is missing."""
        if frame not in self.names:
            return []
        name = self.names[frame]
        try:
            data = self._zip.read(name) if self._zip else (self.path / name).read_bytes()
            people = [np.asarray(p["pose_keypoints_2d"], np.float64) for p in json.loads(data)["people"]]
        except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise MotionError(
                f"{name} of {self.path} is not OpenPose JSON ({type(error).__name__}: {error}); "
                "detect that frame again."
            ) from None
        return [self._in_order(values, name) for values in people]

    def _in_order(self, values: np.ndarray, name: str) -> np.ndarray:
        if values.ndim != 1 or len(values) not in ORDERS:
            raise MotionError(
                f"A person in {name} of {self.path} has {values.size} numbers; 75 (BODY_25), 54 or 51 (COCO) are known."
            )
        if not np.isfinite(values).all():
            raise MotionError(f"{name} of {self.path} holds NaN or infinite numbers; detect that frame again.")
        person = np.zeros((25, 3))
        person[ORDERS[len(values)]] = values.reshape(-1, 3)
        for middle, left, right in _PAIRS:  # COCO has no mid hip, and its own order no neck
            ends = person[[BODY_25.index(left), BODY_25.index(right)]]
            if person[BODY_25.index(middle), 2] <= 0 and (ends[:, 2] > 0).all():
                person[BODY_25.index(middle)] = *ends[:, :2].mean(axis=0), ends[:, 2].min()
        return person


class Detections(Protocol):
    """What the pipeline needs of a take: `Recording`, or a made-up scene."""

    @property
    def frames(self) -> np.ndarray:
        """(T,) the frame numbers, without holes."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """(cameras, frames, people, 25, 3) pixels and confidence of ``frames[start:stop]``; 0 = not detected."""


@dataclass(frozen=True, eq=False)
class Recording:
    """All cameras of a take.

    cameras: the files of each, in the calibration's order. frames: (T,) the frame numbers, without holes.
    notes: sentences for the user about what is missing but can be borne.
    """

    cameras: tuple[CameraFiles, ...]
    frames: np.ndarray
    notes: tuple[str, ...]

    def read(self, start: int, stop: int) -> np.ndarray:
        """(cameras, frames, people, 25, 3) pixels and confidence of ``self.frames[start:stop]``; 0 = not detected.

        The axis of people is as long as the fullest image has them; their order says nothing.
        """
        frames = self.frames[start:stop]
        found = [[files.people(int(f)) for f in frames] for files in self.cameras]
        most = max((len(people) for camera in found for people in camera), default=0)
        out = np.zeros((len(self.cameras), len(frames), most, 25, 3))
        for c, camera in enumerate(found):
            for t, people in enumerate(camera):
                if people:
                    out[c, t, : len(people)] = people
        out[out[..., 2] <= 0] = 0
        return out


def find(folder: str | Path, names: Sequence[str]) -> Recording:
    """The detections of cameras by name: ``folder/NAME`` or ``folder/NAME.zip``, or what is there in sorted order.

    Raises `MotionError` when cameras are missing or their frame numbers do not belong together.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MotionError(f"There is no folder {folder}; give the one that holds a folder or zip for each camera.")
    paths = [next((p for p in (folder / n, folder / f"{n}.zip") if p.exists()), None) for n in names]
    if not any(paths):
        there = sorted(p for p in folder.iterdir() if p.suffix == ".zip" or (p.is_dir() and any(p.rglob("*.json"))))
        paths = list(there) if len(there) == len(names) else paths
    absent = [n for n, p in zip(names, paths, strict=True) if p is None]
    if absent:
        raise MotionError(
            f"{folder} has no detections of camera {absent[0]}; name the folders and zips after the calibration's "
            f"cameras: {', '.join(names)}."
        )
    return together([CameraFiles(p) for p in paths if p is not None])


def beside(calibration: Path, names: Sequence[str]) -> Path:
    """The folder of the detections that lie beside a calibration file or inside its folder.

    It is the calibration's own, or else the one folder in it that has something of every camera by name.
    """
    home = calibration if calibration.is_dir() else calibration.parent

    def has_all(folder: Path) -> bool:
        return all((folder / name).is_dir() or (folder / f"{name}.zip").is_file() for name in names)

    inside = [] if has_all(home) else [p for p in sorted(home.iterdir()) if p.is_dir() and has_all(p)]
    return inside[0] if len(inside) == 1 else home


def together(cameras: Sequence[CameraFiles]) -> Recording:
    """Cameras as one take, after checking that they are in step."""
    first = min(min(c.names) for c in cameras)
    last = max(max(c.names) for c in cameras)
    frames = np.arange(first, last + 1)
    notes = []
    for c in cameras:
        lost = len(frames) - len(c.names)
        if lost > MISSING_SHARE * len(frames):
            raise MotionError(
                f"{c.path.name} has {len(c.names)} of the frames {first} to {last} that the cameras have together; "
                "cut all cameras to the same frames and number them alike."
            )
        if lost:
            notes.append(f"{c.path.name} lacks {lost} of {len(frames)} frames; there it counts as seeing nobody.")
    return Recording(tuple(cameras), frames, tuple(notes))
