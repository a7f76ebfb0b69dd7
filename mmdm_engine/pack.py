"""Packs: many clips in one ``.npz``, the form in which training and evaluation read motion.

Arrays: ``rotations`` int16 (N, 22, 4) × 1/32767, ``root`` float32 (N, 3) metres, ``clip_start`` and ``clip_length``
(C,), ``offsets`` float32 (C, 22, 3), ``fps`` scalar or (C,); optional ``names``, ``labels``, ``exists`` bool (C, 22)
and whatever else a pack's maker adds per clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .contract import Motion, MotionError, Skeleton

SCALE = 32767.0
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
