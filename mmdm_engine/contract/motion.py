"""`Motion` and `Skeleton`: the only form in which movement passes between modules and processes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .errors import MotionError
from .skeleton import INDEX, JOINTS, PARENTS


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Bone lengths of one character.

    offsets: (22, 3) float32 metres, each joint's rest position relative to its parent in the canonical frame; the
        root's row is zero.
    exists: (22,) bool, which joints the character really has; the others carry the identity rotation.
    """

    offsets: np.ndarray
    exists: np.ndarray = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        offsets = np.asarray(self.offsets, np.float32)
        if offsets.shape != (22, 3):
            raise MotionError(f"Skeleton offsets must have shape (22, 3), not {offsets.shape}.")
        if not np.isfinite(offsets).all():
            raise MotionError("Skeleton offsets hold NaN or infinite numbers; measure the rest pose again.")
        exists = np.ones(22, bool) if self.exists is None else np.asarray(self.exists, bool)
        if exists.shape != (22,):
            raise MotionError(f"Skeleton exists must have shape (22,), not {exists.shape}.")
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "exists", exists)

    @property
    def leg_length(self) -> float:
        """Thigh plus shin in metres, mean of both sides: the unit of length inside the priors."""
        lengths = np.linalg.norm(self.offsets[[4, 5, 7, 8]].astype(np.float64), axis=-1)
        length = float(lengths.sum() / 2)
        if length <= 0:
            raise MotionError("This skeleton has legs of length zero; check the hip, knee and ankle bones.")
        return length

    @property
    def hip_centre(self) -> np.ndarray:
        """(3,) midpoint of the hip joints relative to the pelvis joint, canonical frame, metres."""
        return self.offsets[[INDEX["left_hip"], INDEX["right_hip"]]].mean(axis=0)


@dataclass(frozen=True, eq=False)
class Motion:
    """A movement of one character.

    rotations: (T, 22, 4) float32 local unit quaternions (w, x, y, z), sign-continuous in time.
    root: (T, 3) float32 pelvis position in metres; Y up, right-handed.
    skeleton: bone lengths.
    fps: frames per second, any positive float.

    Shapes are checked on construction; values are checked where they are used, because what is to be generated
    may hold NaN.
    """

    rotations: np.ndarray
    root: np.ndarray
    skeleton: Skeleton
    fps: float

    def __post_init__(self) -> None:
        rotations = np.asarray(self.rotations, np.float32)
        root = np.asarray(self.root, np.float32)
        if rotations.ndim != 3 or rotations.shape[1:] != (22, 4):
            raise MotionError(f"Motion rotations must have shape (frames, 22, 4), not {rotations.shape}.")
        if root.shape != (len(rotations), 3):
            raise MotionError(f"Motion root must have shape ({len(rotations)}, 3), not {root.shape}.")
        fps = float(self.fps)
        if not (np.isfinite(fps) and fps > 0):
            raise MotionError(f"The frame rate must be a positive number, not {self.fps}.")
        object.__setattr__(self, "rotations", rotations)
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "fps", fps)

    def __len__(self) -> int:
        return len(self.rotations)

    def with_frames(self, rotations: np.ndarray, root: np.ndarray) -> Motion:
        """The same character and frame rate with other frames."""
        return replace(self, rotations=rotations, root=root)

    def slice(self, start: int, stop: int) -> Motion:
        """Frames [start, stop) as a motion of its own."""
        return self.with_frames(self.rotations[start:stop], self.root[start:stop])

    def require_finite(self, observed: np.ndarray | None = None) -> None:
        """Raise `MotionError` if an observed value is NaN, infinite or a rotation of length zero.

        observed: (T, 23) bool, columns 0-21 the joints' rotations, column 22 the root position; None = all.
        """
        lengths = np.linalg.norm(self.rotations.astype(np.float64), axis=-1)
        bad_rotation = ~(np.isfinite(lengths) & (lengths > 0.5) & (lengths < 2.0))
        bad = np.concatenate([bad_rotation, ~np.isfinite(self.root).all(axis=-1)[:, None]], axis=1)
        if observed is not None:
            bad &= observed
        if bad.any():
            frame, column = (int(i) for i in np.argwhere(bad)[0])
            what = "root position" if column == 22 else f"rotation of {JOINTS[column]}"
            raise MotionError(
                f"The {what} in frame {frame} is not a finite, unit value; "
                "delete or repair that key, or put the frame inside the gap."
            )


assert len(PARENTS) == len(JOINTS)
