"""Motions as ``.npy`` files, the form in which text-to-motion tools exchange them; ``import`` and ``export``.

What is inside is told by its shape, where N counts motions and T frames:

    (T, 263)      (N, T, 263)                            HumanML3D features
    (T, 22, 12)   (N, T, 22, 12)                         the same sorted by joint, see `humanml3d.to_joint_level`
    (T, 22, 3)    (N, T, 22, 3)   (22, 3, T)  (N, 22, 3, T)   joint positions, Y up

Files of positions and features say nothing about their frame rate; HumanML3D and what learned from it run at 20 fps.
Importing this needs NumPy only, so that Blender can read such files without the engine's Python.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from . import humanml3d, kinematics
from .anatomy import from_positions
from .contract import JOINTS, Motion, MotionError
from .contract.skeleton import PARENTS
from .pack import resample

Form = Literal["features", "tokens", "joints"]
FORMS: tuple[Form, ...] = get_args(Form)
_LIMBS = tuple(
    JOINTS.index(f"{side}_{part}") for side in ("left", "right") for part in ("knee", "ankle", "elbow", "wrist")
)
"""Joints at whose parents thighs, shins, upper arms and forearms begin."""
_STEADY = 0.35
"""Standard deviation of a limb's length over its mean: beyond it the numbers are no figure."""
_LEGS = (0.25, 3.0)
"""Metres between which thigh plus shin may lie, children and giants included."""


def load(
    path: str | Path,
    *,
    fps: float = humanml3d.FPS,
    index: int | None = None,
    frames: int | None = None,
    mean: str | Path | None = None,
    std: str | Path | None = None,
    scale: float = 1.0,
) -> Motion:
    """Read a motion from a ``.npy`` file.

    fps: its frames per second. index: which motion of a batch, counted from 0; needed where there are several. frames:
    how many to take from the start, because batches are padded to one length. mean, std: ``.npy`` files of 263 numbers
    each, for features or tokens that were normalised with them. scale: metres per unit, for positions. Bones are as
    long as they are on average, rotations are found from positions. Raises `MotionError`.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise MotionError(f"The frame rate must be a positive number, not {fps:g}.")
    if not (np.isfinite(scale) and scale > 0):
        raise MotionError(f"The scale must be a positive number of metres per unit, not {scale:g}.")
    array, form = _one_motion(_read(path), index, Path(path))
    if frames is not None:
        if not 0 < frames <= len(array):
            raise MotionError(f"{path} has {len(array)} frames, so {frames} cannot be taken from it.")
        array = array[:frames]
    _require_finite(array, Path(path))
    if form == "joints":
        if mean is not None or std is not None:
            raise MotionError(
                f"{path} holds joint positions, which mean and std of 263 columns do not fit; leave them out."
            )
        points = array.astype(np.float64) * scale
    else:
        if scale != 1:
            raise MotionError(f"{path} holds features, which are in metres; leave the scale out.")
        centre, spread = _statistics(mean, std, form)
        columns = array * spread + centre
        points = humanml3d.recover_joints(humanml3d.from_joint_level(columns) if form == "tokens" else columns)
    _require_figure(points, Path(path), normalisable=form != "joints" and mean is None)
    return from_positions(points, fps)


def save(
    motion: Motion,
    path: str | Path,
    *,
    form: Form = "features",
    fps: float | None = None,
    mean: str | Path | None = None,
    std: str | Path | None = None,
) -> tuple[int, ...]:
    """Write a motion as ``.npy``, float32; the shape of what was written.

    form: ``features`` (T − 1, 263), ``tokens`` (T − 1, 22, 12) or ``joints`` (T, 22, 3); the first two are at 20 fps
    on the floor, facing +Z from the origin. fps: of joint positions, 20 unless given. mean, std: ``.npy`` files to
    normalise with. Sizes are kept. Raises `MotionError`.
    """
    if form not in FORMS:
        raise MotionError(f"There is no form {form}; there are {', '.join(FORMS)}.")
    if form == "joints":
        if mean is not None or std is not None:
            raise MotionError("Joint positions are not normalised; leave mean and std out, or export features.")
        motion.require_finite()
        fps = humanml3d.FPS if fps is None else fps
        if not (np.isfinite(fps) and fps > 0):
            raise MotionError(f"The frame rate must be a positive number, not {fps:g}.")
        array = kinematics.joint_positions(resample(motion, fps)).astype(np.float32)
    else:
        if fps not in (None, humanml3d.FPS):
            raise MotionError("HumanML3D features are always at 20 fps; leave the frame rate out, or export joints.")
        array = humanml3d.to_humanml3d(motion)
        array = humanml3d.to_joint_level(array) if form == "tokens" else array
        centre, spread = _statistics(mean, std, form)
        array = ((array - centre) / spread).astype(np.float32)
    try:
        with open(path, "wb") as file:  # numpy.save would add a suffix to a name
            np.save(file, array, allow_pickle=False)
    except OSError as error:
        raise MotionError(f"{path} cannot be written ({error.strerror}); choose another folder.") from error
    return array.shape


def _read(path: str | Path) -> np.ndarray:
    """The array of a ``.npy`` file; pickled Python objects are never opened."""
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise MotionError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, EOFError) as error:
        if "Object arrays" in str(error):
            raise MotionError(
                f"{path} holds a pickled Python object, which may run code and is not opened; save its array alone, as "
                'numpy.save("motion.npy", numpy.load(file, allow_pickle=True).item()["motion"]) does.'
            ) from error
        raise MotionError(f"{path} is not a sound .npy file; save the array with numpy.save again.") from error
    if array.dtype.kind not in "fiu":
        raise MotionError(f"{path} holds no real numbers but {array.dtype}; it is not a motion.")
    return array


def _one_motion(array: np.ndarray, index: int | None, path: Path) -> tuple[np.ndarray, Form]:
    """The chosen motion with time first, and what its numbers are."""
    shape = array.shape
    form: Form | None = None
    if shape[-2:] == (22, 12) and array.ndim in (3, 4):
        form = "tokens"
    elif shape[-2:] == (22, 3) and array.ndim in (3, 4):
        form = "joints"
    elif shape[-3:-1] == (22, 3) and array.ndim in (3, 4):
        array, form = np.moveaxis(array, -1, -3), "joints"
    elif shape[-1:] == (humanml3d.COLUMNS,) and array.ndim in (2, 3):
        form = "features"
    if form is None or 0 in shape:
        raise MotionError(
            f"{path} has the shape {shape}; a motion is (frames, 263), (frames, 22, 12) or (frames, 22, 3), "
            "or a batch of these."
        )
    if array.ndim == (3 if form == "features" else 4):
        count = len(array)
        if index is None and count > 1:
            raise MotionError(f"{path} holds {count} motions; choose one by its index, 0 to {count - 1}.")
        if not 0 <= (index or 0) < count:
            raise MotionError(f"{path} has no motion {index}; it holds {count}, counted from 0.")
        return array[index or 0], form
    if index not in (None, 0):
        raise MotionError(f"{path} holds one motion, so there is none with the index {index}; leave the index out.")
    return array, form


def _require_finite(array: np.ndarray, path: Path) -> None:
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise MotionError(
            f"{path} holds NaN or infinite numbers from frame {int(np.argmax(bad))} on; "
            "take fewer frames if that is padding, else make the file again."
        )


def _statistics(mean: str | Path | None, std: str | Path | None, form: Form) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation in the form's own shape, 0 and 1 where there are none."""
    if (mean is None) != (std is None):
        raise MotionError("Mean and std belong together; give both files or none.")
    if mean is None or std is None:
        return np.zeros(1, np.float32), np.ones(1, np.float32)
    found = []
    for path in (mean, std):
        array = _read(path)
        if array.size != humanml3d.COLUMNS or not np.isfinite(array).all():
            raise MotionError(f"{path} must hold {humanml3d.COLUMNS} finite numbers; it has the shape {array.shape}.")
        array = array.reshape(humanml3d.COLUMNS).astype(np.float32)
        found.append(humanml3d.to_joint_level(array) if form == "tokens" else array)
    if (found[1] <= 0).any():
        raise MotionError(f"{std} holds a standard deviation that is not positive; were mean and std exchanged?")
    return found[0], found[1]


def _require_figure(points: np.ndarray, path: Path, normalisable: bool) -> None:
    """Raise unless (T, 22, 3) positions are a figure in metres: limbs of steady length, legs of a person's size."""
    lengths = np.linalg.norm(points[:, _LIMBS] - points[:, [PARENTS[j] for j in _LIMBS]], axis=-1)
    mean = lengths.mean(axis=0)
    wavering = lengths.std(axis=0) / np.maximum(mean, 1e-9)
    worst = int(np.argmax(wavering))
    point = bool(mean.min() <= 1e-3 * mean.max())
    if wavering[worst] > _STEADY or point:
        fix = (
            "give the mean and std it was normalised with" if normalisable else "check the order of its joints and axes"
        )
        limb = JOINTS[_LIMBS[int(np.argmin(mean)) if point else worst]]
        why = "has no length" if point else f"changes its length by {wavering[worst]:.0%}"
        raise MotionError(f"The numbers in {path} are no figure (the bone to {limb} {why}); {fix}.")
    leg = float(mean[[0, 1, 4, 5]].sum() / 2)
    if not _LEGS[0] <= leg <= _LEGS[1]:
        fix = (
            "give the mean and std it was normalised with" if normalisable else f"give a scale, such as {_unit(leg):g}"
        )
        raise MotionError(f"The legs of the figure in {path} are {leg:.3g} m long; {fix}.")


def _unit(leg: float) -> float:
    """The power of ten that makes a leg most like a person's."""
    return float(10.0 ** np.round(np.log10(0.8 / leg)))


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``import``'s arguments."""
    parser.add_argument("input", type=Path, metavar="MOTION.npy")
    parser.add_argument("output", type=Path, metavar="OUT.bvh")
    parser.add_argument("--fps", type=float, default=humanml3d.FPS, help="frames per second of the file (default 20)")
    parser.add_argument("--index", type=int, help="which motion of a batch, counted from 0")
    parser.add_argument("--frames", type=int, help="take so many from the start; the rest of a batch is padding")
    parser.add_argument("--mean", type=Path, metavar="MEAN.npy", help="263 means the file was normalised with")
    parser.add_argument("--std", type=Path, metavar="STD.npy", help="263 standard deviations the same")
    parser.add_argument("--scale", type=float, default=1.0, help="metres per unit of joint positions (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run_import(args: argparse.Namespace) -> int:
    """Read a ``.npy`` motion and write it as BVH."""
    from .bvh import save as save_bvh

    motion = load(
        args.input, fps=args.fps, index=args.index, frames=args.frames, mean=args.mean, std=args.std, scale=args.scale
    )
    save_bvh(motion, args.output)
    leg = motion.skeleton.leg_length
    report = {"input": str(args.input), "output": str(args.output), "frames": len(motion), "fps": motion.fps}
    _tell(
        args,
        report | {"leg_length_m": round(leg, 4)},
        f"{args.output} has {len(motion)} frames at {motion.fps:g} fps, {leg:.2f} m legs",
    )
    return 0


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``export``'s arguments."""
    parser.add_argument("input", type=Path, metavar="IN.bvh")
    parser.add_argument("output", type=Path, metavar="OUT.npy")
    parser.add_argument(
        "--form", choices=FORMS, default="features",
        help="features (T, 263), tokens (T, 22, 12) or joints (T, 22, 3); features by default",
    )  # fmt: skip
    parser.add_argument("--fps", type=float, help="frames per second of joints (default 20; features are always at 20)")
    parser.add_argument("--mean", type=Path, metavar="MEAN.npy", help="263 means to normalise with")
    parser.add_argument("--std", type=Path, metavar="STD.npy", help="263 standard deviations the same")
    parser.add_argument("--scale", type=float, help="metres per unit of the BVH file (default: inferred)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run_export(args: argparse.Namespace) -> int:
    """Read a BVH take and write it as ``.npy``."""
    from .bvh import load as load_bvh

    shape = save(
        load_bvh(args.input, scale=args.scale), args.output, form=args.form, fps=args.fps, mean=args.mean, std=args.std
    )
    report = {"input": str(args.input), "output": str(args.output), "form": args.form, "shape": list(shape)}
    _tell(args, report, f"{args.output} holds {args.form} of the shape {shape}")
    return 0


def _tell(args: argparse.Namespace, report: dict[str, object], sentence: str) -> None:
    if args.json:
        json.dump(report, sys.stdout)
        sys.stdout.write("\n")
    else:
        print(f"{sentence}.")
