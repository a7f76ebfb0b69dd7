"""How exactly motion passes through HumanML3D's forms: ``python benchmarks/humanml3d.py --data DIR [--pack P.npz]``.

DIR holds the published reference clip (``012314_new_joint_vecs.npy`` and ``…_new_joints.npy`` of the HumanML3D
repository); of a pack every n-th clip is used, at 20 fps. Distances in millimetres, angles in degrees.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from mmdm_engine import Motion, humanml3d, load_bvh, load_npy, save_bvh, save_npy  # noqa: E402
from mmdm_engine import rotations as rot  # noqa: E402
from mmdm_engine.anatomy import from_positions  # noqa: E402
from mmdm_engine.contract import JOINTS  # noqa: E402
from mmdm_engine.kinematics import joint_positions  # noqa: E402
from mmdm_engine.pack import Pack, resample  # noqa: E402

NOISE = (0.005, 0.01, 0.02)
MOST_FRAMES = 400
ANGLES = ("pelvis", "left_hip", "left_knee", "spine3", "neck")


def millimetres(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances between places (..., 3) in metres."""
    return 1000 * np.linalg.norm(a - b, axis=-1)


def forms(motion: Motion, folder: Path) -> dict[str, float]:
    """Positions, BVH and features there and back: the largest distance of a joint, in millimetres."""
    joints = joint_positions(motion)
    save_npy(motion, folder / "joints.npy", form="joints")
    read = load_npy(folder / "joints.npy")
    save_bvh(read, folder / "take.bvh")
    again = load_bvh(folder / "take.bvh", scale=1.0)
    features = humanml3d.to_humanml3d(motion)
    tokens = humanml3d.to_joint_level(features)
    from_features = humanml3d.from_humanml3d(features)
    return {
        "positions → motion": float(millimetres(joint_positions(read), joints).max()),
        "motion → BVH → motion": float(millimetres(joint_positions(again), joint_positions(read)).max()),
        "features → motion": float(
            millimetres(joint_positions(from_features), humanml3d.recover_joints(features)).max()
        ),
        "features → tokens → features": float(np.abs(humanml3d.from_joint_level(tokens) - features).max()),
    }


def published(folder: Path) -> dict[str, float]:
    """Beside the reference clip: places and columns."""
    vectors = np.load(folder / "012314_new_joint_vecs.npy")
    joints = np.load(folder / "012314_new_joints.npy")
    made = humanml3d.from_joints(joints)
    length = len(made) // 2  # the published positions lack a frame, and the heading's filter sees it from far
    return {
        "joints recovered, largest difference in mm": float(
            1000 * np.abs(humanml3d.recover_joints(vectors) - joints).max()
        ),
        "columns made, largest difference": float(np.abs(made[:length] - vectors[:length]).max()),
        "features → motion, largest distance in mm": float(
            millimetres(joint_positions(humanml3d.from_humanml3d(vectors)), joints).max()
        ),
    }


def shaken(joints: np.ndarray, sigma: float) -> float:
    """Mean distance in mm of the fitted figure from positions with this much noise, whose bones change their length."""
    seen = joints + np.random.default_rng(0).normal(scale=sigma, size=joints.shape)
    return float(millimetres(joint_positions(from_positions(seen, humanml3d.FPS)), seen).mean())


def angles(motion: Motion) -> np.ndarray:
    """(T, 22) degrees between true local rotations and those found from positions alone."""
    found = from_positions(joint_positions(motion), motion.fps)
    return np.degrees(rot.angle(motion.rotations.astype(np.float64), found.rotations.astype(np.float64)))


def takes(path: Path, every: int) -> Iterator[Motion]:
    """Every n-th clip of a pack at 20 fps."""
    pack = Pack.load(path)
    for clip in range(0, len(pack), every):
        motion = resample(pack[clip], humanml3d.FPS).slice(0, MOST_FRAMES)
        if len(motion) >= 20:
            yield motion


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the published reference clip")
    parser.add_argument("--pack", type=Path, help="a pack of real motion")
    parser.add_argument("--every", type=int, default=1, help="use every n-th clip of the pack (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    joints = np.load(args.data / "012314_new_joints.npy").astype(np.float64)
    report: dict[str, object] = {"published clip": published(args.data)}
    report["noise per axis in mm → mean distance in mm"] = {f"{1000 * s:g}": shaken(joints, s) for s in NOISE}
    if args.pack:
        motions = list(takes(args.pack, args.every))
        with tempfile.TemporaryDirectory() as folder:
            rows = [forms(motion, Path(folder)) for motion in motions]
        report["pack"] = {"clips": len(motions), "frames": sum(map(len, motions))}
        report["largest of all clips"] = {name: max(row[name] for row in rows) for name in rows[0]}
        found = np.median(np.concatenate([angles(motion) for motion in motions]), axis=0)
        report["median angle from the true local rotation"] = {j: float(found[JOINTS.index(j)]) for j in ANGLES}
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
        return
    for title, values in report.items():
        print(title)
        for name, value in values.items():  # type: ignore[attr-defined]
            print(f"  {name:<44} {value:.3g}")


if __name__ == "__main__":
    main()
