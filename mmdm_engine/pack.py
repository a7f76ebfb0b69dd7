"""Packs: many clips in one ``.npz``, the form in which training and evaluation read motion.

Arrays: ``rotations`` int16 (N, 22, 4) × 1/32767, ``root`` float32 (N, 3) metres, ``clip_start`` and ``clip_length``
(C,), ``offsets`` float32 (C, 22, 3), ``fps`` scalar or (C,); optional ``names``, ``labels``, ``exists`` bool (C, 22)
and whatever else a pack's maker adds per clip.

    python -m mmdm_engine pack takes/ takes.npz
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from . import kinematics
from . import rotations as rot
from .contract import Motion, MotionError, Skeleton
from .contract.skeleton import INDEX

SCALE = 32767.0
SHORTEST_SECONDS = 0.5
JUMP_DEGREES, JUMP_METRES = 40.0, 0.25
"""More than this in a sixtieth of a second is a cut or a calibration pose, not movement."""
FOOT_HEIGHT = 0.035
"""Height of the lowest foot joint of a standing figure, in leg lengths."""
_LEAVES = tuple(INDEX[name] for name in ("left_foot", "right_foot", "left_wrist", "right_wrist", "head"))

REQUIRED = ("rotations", "root", "clip_start", "clip_length", "offsets", "fps")


@dataclass(frozen=True, eq=False)
class Pack:
    """The clips of one pack file, decoded on demand.

    rotations: (N, 22, 4) int16. root: (N, 3) float32. start, length: (C,) int64. offsets: (C, 22, 3) float32.
    exists: (C, 22) bool. fps: (C,) float64. names, labels: C strings each. extra: the file's other arrays.
    """

    path: Path
    rotations: np.ndarray
    root: np.ndarray
    start: np.ndarray
    length: np.ndarray
    offsets: np.ndarray
    exists: np.ndarray
    fps: np.ndarray
    names: tuple[str, ...]
    labels: tuple[str, ...]
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Pack:
        """Read a pack. Raises `MotionError` when the file is not a pack or its arrays do not fit together."""
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise MotionError(f"There is no pack at {path}; check the path.") from None
        except Exception as error:  # zipfile, zlib, struct and NumPy have no common parent
            raise MotionError(f"{path} is not a readable pack ({error}); download or make it again.") from error
        missing = [name for name in REQUIRED if name not in arrays]
        if missing:
            raise MotionError(f"{path} lacks the array {missing[0]}; it is not a motion pack.")
        return cls._from_arrays(path, arrays)

    @classmethod
    def _from_arrays(cls, path: Path, arrays: dict[str, np.ndarray]) -> Pack:
        def need(ok: bool, what: str) -> None:
            if not ok:
                raise MotionError(f"{path} is not a usable pack: {what}. Make it again.")

        rotations, root = arrays.pop("rotations"), arrays.pop("root")
        start, length = arrays.pop("clip_start"), arrays.pop("clip_length")
        offsets, fps = arrays.pop("offsets"), arrays.pop("fps")
        frames, clips = len(rotations) if rotations.ndim else 0, start.size
        need(rotations.dtype == np.int16 and rotations.shape == (frames, 22, 4), "rotations must be int16 (N, 22, 4)")
        need(root.dtype.kind == "f" and root.shape == (frames, 3), f"root must be float ({frames}, 3)")
        need(bool(np.isfinite(root).all()), "root holds NaN or infinite numbers")
        need(start.dtype.kind in "iu" and start.shape == (clips,), "clip_start must be a list of integers")
        need(length.dtype.kind in "iu" and length.shape == (clips,), f"clip_length must hold {clips} integers")
        start, length = start.astype(np.int64), length.astype(np.int64)
        inside = (start >= 0) & (length > 0) & (start <= frames) & (length <= frames - start)
        need(bool(inside.all()), f"a clip reaches outside its {frames} frames")
        need(offsets.dtype.kind == "f" and offsets.shape == (clips, 22, 3), f"offsets must be float ({clips}, 22, 3)")
        need(bool(np.isfinite(offsets).all()), "offsets hold NaN or infinite numbers")
        need(fps.dtype.kind in "fiu" and fps.shape in ((), (1,), (clips,)), "fps must be one number, or one per clip")
        fps = np.broadcast_to(fps.astype(np.float64), (clips,))
        need(bool((np.isfinite(fps) & (fps > 0)).all()), "fps must be positive")
        exists = arrays.pop("exists", np.ones((clips, 22), bool))
        need(exists.dtype == bool and exists.shape == (clips, 22), f"exists must be bool ({clips}, 22)")
        names = arrays.pop("names", np.array([f"clip_{i}" for i in range(clips)]))
        labels = arrays.pop("labels", np.full(clips, ""))
        need(names.shape == (clips,) and labels.shape == (clips,), f"names and labels must hold {clips} strings each")
        return cls(
            path, rotations, root.astype(np.float32, copy=False), start, length,
            offsets.astype(np.float32, copy=False), exists, fps,
            tuple(str(n) for n in names), tuple(str(t) for t in labels), arrays,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Motion]:
        return (self.decode(i) for i in range(len(self)))

    def __getitem__(self, clip: int | str) -> Motion:
        """A clip by its number or its name."""
        if not isinstance(clip, str):
            return self.decode(range(len(self))[clip])
        if clip not in self.names:
            raise MotionError(
                f"{self.path.name} has no clip named {clip}; it has {', '.join(self.names[:5])} and so on."
            )
        return self.decode(self.names.index(clip))

    def decode(self, clip: int, start: int = 0, stop: int | None = None) -> Motion:
        """Frames [start, stop) of one clip as a motion with unit quaternions."""
        length = int(self.length[clip])
        begin, end, _ = slice(start, stop).indices(length)
        frames = slice(int(self.start[clip]) + begin, int(self.start[clip]) + end)
        rotations = self.rotations[frames].astype(np.float32) / np.float32(SCALE)
        lengths = np.linalg.norm(rotations, axis=-1, keepdims=True)
        if (lengths < 0.5).any():
            raise MotionError(
                f"Clip {self.names[clip]} of {self.path} holds a rotation of length zero; make the pack again."
            )
        skeleton = Skeleton(self.offsets[clip], self.exists[clip])
        return Motion(rotations / lengths, self.root[frames].copy(), skeleton, float(self.fps[clip]))


def resample(motion: Motion, fps: float) -> Motion:
    """The motion at another frame rate by slerp and lerp; frames that fall on a frame of the source are that frame."""
    if len(motion) < 2 or abs(motion.fps / fps - 1) < 1e-9:
        return motion
    count = int((len(motion) - 1) * fps / motion.fps + 1e-6) + 1
    at = np.arange(count) * (motion.fps / fps)
    at = np.where(np.abs(at - np.round(at)) < 1e-6, np.round(at), at)
    low = np.minimum(at.astype(int), len(motion) - 2)
    part = (at - low)[:, None]
    q, root = motion.rotations.astype(np.float64), motion.root.astype(np.float64)
    rotations = rot.continuous(rot.normalize(rot.slerp(q[low], q[low + 1], part)))
    place = root[low] + part * (root[low + 1] - root[low])
    return Motion(rotations.astype(np.float32), place.astype(np.float32), motion.skeleton, fps)


def pieces(motion: Motion) -> list[Motion]:
    """The motion cut where it jumps; pieces below half a second are left out."""
    q = motion.rotations.astype(np.float64)
    turns = np.degrees(rot.angle(q[:-1], q[1:]))
    turns[:, list(_LEAVES)] = 0  # glitches of hands and toes move nothing else
    steps = np.linalg.norm(np.diff(motion.root.astype(np.float64), axis=0), axis=-1)
    slower = max(1.0, 60 / motion.fps)  # at 120 frames per second, one bad frame is still a jump of 40 degrees
    jumps = np.flatnonzero((turns > JUMP_DEGREES * slower).any(axis=1) | (steps > JUMP_METRES * slower)) + 1
    edges = [0, *jumps.tolist(), len(motion)]
    shortest = max(2, SHORTEST_SECONDS * motion.fps)
    return [motion.slice(a, b) for a, b in pairwise(edges) if b - a >= shortest]


def on_floor(motion: Motion) -> tuple[Motion, float]:
    """The motion lifted so that feet stand on y = 0, and by how many metres."""
    points = kinematics.joint_positions(motion)
    feet = [INDEX[name] for name in ("left_ankle", "right_ankle", "left_foot", "right_foot")]
    lowest = np.percentile(points[:, feet, 1].min(axis=1), 2)
    shift = FOOT_HEIGHT * motion.skeleton.leg_length - float(lowest)
    return motion.with_frames(motion.rotations, motion.root + np.array([0, shift, 0], np.float32)), shift


def write_pack(
    folder: str | Path,
    out: str | Path,
    *,
    fps: float = 60.0,
    scale: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Pack, list[str]]:
    """Make a pack of every BVH file below a folder.

    Takes are brought to ``fps``, cut where they jump, and set on the floor. A clip's name is its path below the folder
    without the suffix, with ``_p1``, ``_p2`` … where a take was cut. scale: metres per file unit, None = per file,
    inferred. Returns the pack and one sentence per file that could not be used. Raises `MotionError` when nothing is
    left or the pack cannot be written.
    """
    from .bvh import load

    folder, out = Path(folder), Path(out)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() == ".bvh") if folder.is_dir() else []
    if not files:
        raise MotionError(f"There are no .bvh files in {folder}; give the folder that holds your takes.")
    clips: list[tuple[str, Motion, float, float]] = []
    skipped: list[str] = []
    for done, file in enumerate(files):
        if progress is not None:
            progress(done, len(files))
        try:
            take = load(file, scale)
            take.require_finite()
            standing, shift = on_floor(take)
            parts = [resample(part, fps) for part in pieces(standing)]
        except MotionError as error:
            skipped.append(str(error))
            continue
        if not parts:
            skipped.append(f"{file}: nothing in it lasts {SHORTEST_SECONDS} s; left out.")
        name = file.relative_to(folder).with_suffix("").as_posix()
        for n, part in enumerate(parts, 1):
            clips.append((name if len(parts) == 1 else f"{name}_p{n}", part, shift, take.fps))
    if not clips:
        raise MotionError(f"None of the {len(files)} files in {folder} could be used. The first: {skipped[0]}")
    if progress is not None:
        progress(len(files), len(files))
    _store(out, clips, fps)
    return Pack.load(out), skipped


def _store(out: Path, clips: list[tuple[str, Motion, float, float]], fps: float) -> None:
    length = np.array([len(motion) for _, motion, _, _ in clips], np.int64)
    arrays = {
        "rotations": np.concatenate([np.round(m.rotations * SCALE).astype(np.int16) for _, m, _, _ in clips]),
        "root": np.concatenate([m.root for _, m, _, _ in clips]),
        "clip_start": np.cumsum(length) - length,
        "clip_length": length,
        "offsets": np.stack([m.skeleton.offsets for _, m, _, _ in clips]),
        "exists": np.stack([m.skeleton.exists for _, m, _, _ in clips]),
        "fps": np.float32(fps),
        "names": np.array([name for name, _, _, _ in clips]),
        "labels": np.array(["" for _ in clips]),
        "floor_shift": np.array([shift for _, _, shift, _ in clips], np.float32),
        "source_fps": np.array([rate for _, _, _, rate in clips], np.float32),
    }
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(part, out)  # a run that is stopped leaves no half pack
    except OSError as error:
        raise MotionError(f"{out} cannot be written ({error.strerror}); choose another folder.") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m mmdm_engine pack``."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with BVH files; folders inside it count too")
    parser.add_argument("output", type=Path, metavar="OUT.npz")
    parser.add_argument("--fps", type=float, default=60.0, help="frame rate of the pack (default: 60)")
    parser.add_argument("--scale", type=float, help="metres per unit of the files (default: inferred per file)")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON document")


def run(args: argparse.Namespace) -> int:
    """Make the pack, say what is in it and what was left out."""
    from .cli import progress_bar

    if not args.fps > 0:
        raise MotionError(f"--fps must be a positive number, not {args.fps}.")
    with progress_bar("Packing", args.json) as progress:
        pack, skipped = write_pack(args.folder, args.output, fps=args.fps, scale=args.scale, progress=progress)
    minutes = float((pack.length / pack.fps).sum()) / 60
    if args.json:
        report = {"pack": str(args.output), "clips": len(pack), "frames": int(pack.length.sum()), "minutes": minutes}
        print(json.dumps({**report, "skipped": skipped}))
        return 0
    for sentence in skipped:
        print(f"left out: {sentence}", file=sys.stderr)
    print(f"{args.output}: {len(pack)} clips, {int(pack.length.sum())} frames, {minutes:.1f} minutes")
    return 0
