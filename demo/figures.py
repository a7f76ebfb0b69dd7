"""The demo's picture: stick figures over the gap, and two curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from mmdm_engine import Motion
from mmdm_engine import rotations as rot
from mmdm_engine.contract.skeleton import INDEX, JOINTS, PARENTS
from mmdm_engine.kinematics import joint_positions

LEFT, RIGHT, TRUNK, GHOST, GENERATED = "#c8553d", "#2f6690", "#3a3a3a", "#d5d5d5", "#fdf3dc"
METHODS = {"truth": "#3a3a3a", "interpolation": "#9a9a9a", "Bézier": "#8a6fb0", "ours": "#d1495b"}
CAMERA_YAW, CAMERA_TILT = np.radians(35), np.radians(8)
SAMPLES = 9


def project(points: np.ndarray, heading: float) -> np.ndarray:
    """Metres → (..., 3): right and up on the picture, and depth; who faces ``heading`` goes to the right."""
    seen = rot.rotate(rot.about_y(np.array(np.pi / 2 - CAMERA_YAW - heading)), points)
    up = np.cos(CAMERA_TILT) * seen[..., 1] - np.sin(CAMERA_TILT) * seen[..., 2]
    return np.stack([seen[..., 0], up, seen[..., 2]], axis=-1)


def draw_figure(axis: Any, points: np.ndarray, exists: np.ndarray, at: float, ghost: bool = False) -> None:
    """One stick figure, far limbs first. points: (22, 3) from `project`."""
    bones = [j for j in range(1, 22) if exists[j]]
    for j in sorted(bones, key=lambda j: points[[j, PARENTS[j]], 2].mean()):
        side = LEFT if JOINTS[j].startswith("left") else RIGHT if JOINTS[j].startswith("right") else TRUNK
        ends = points[[PARENTS[j], j]]
        width = 3.0 if "foot" in JOINTS[j] or "wrist" in JOINTS[j] or "elbow" in JOINTS[j] else 4.0
        axis.plot(
            ends[:, 0] + at, ends[:, 1], color=GHOST if ghost else side, linewidth=width, solid_capstyle="round",
            zorder=1 if ghost else 2,
        )  # fmt: skip
    neck, head = points[INDEX["neck"]], points[INDEX["head"]]
    centre = head + 0.6 * (head - neck)
    axis.add_patch(
        plt.Circle((centre[0] + at, centre[1]), 0.085, color=GHOST if ghost else TRUNK, zorder=1 if ghost else 2)
    )


def strip(
    axis: Any, name: str, motion: Motion, truth: Motion | None, frames: np.ndarray, kept: set[int], first: int
) -> None:
    """Figures at ``frames`` beside each other; where truth is given it stands behind them in grey."""
    reference = truth or motion
    facing = rot.heading(reference.rotations[frames, 0].astype(np.float64)).mean(axis=0)
    heading = float(np.arctan2(facing[0], facing[1]))
    size = reference.skeleton.leg_length / 0.82
    places, true_places = joint_positions(motion), joint_positions(reference)
    floor = true_places[frames][..., 1].min()
    for i, frame in enumerate(frames):
        origin = true_places[frame, 0] * (1, 0, 1) + (0, floor, 0)
        if truth is not None:
            draw_figure(axis, project((true_places[frame] - origin) / size, heading), motion.skeleton.exists, i, True)
        draw_figure(axis, project((places[frame] - origin) / size, heading), motion.skeleton.exists, i)
        if frame not in kept:
            axis.axvspan(i - 0.5, i + 0.5, color=GENERATED, zorder=0, linewidth=0)
    axis.axhline(-0.02, color="#bbbbbb", linewidth=0.8, zorder=0)
    axis.set(xlim=(-0.6, len(frames) - 0.4), ylim=(-0.16, 1.82), aspect="equal", yticks=[])
    axis.set_xticks(range(len(frames)), [str(f + first) for f in frames], fontsize=7)
    axis.tick_params(length=0, pad=1)
    axis.set_title(name, fontsize=10, loc="left", pad=3)
    for edge in axis.spines.values():
        edge.set_visible(False)


def angle_from_rest(motion: Motion, joint: str) -> np.ndarray:
    """(T,) degrees by which a joint is turned."""
    q = motion.rotations[:, INDEX[joint]].astype(np.float64)
    return np.degrees(rot.angle(np.broadcast_to(np.array(rot.IDENTITY), q.shape), q))


def before_and_after(
    out: Path,
    truth: Motion,
    gap: tuple[int, int],
    fills: Mapping[str, Motion],
    noisy: Motion,
    cleaned: Mapping[str, Motion],
    captions: Sequence[str],
    first: int,
) -> None:
    """Write the picture. gap: [start, stop) of what was made up, counted from 0; first: the scene frame of frame 0."""
    start, stop = gap
    frames = np.unique(np.linspace(start - 2, stop + 1, SAMPLES).round().astype(int))
    kept = {int(f) for f in frames if not start <= f < stop}
    figure = plt.figure(figsize=(10, 10.6), layout="constrained")
    grid = figure.add_gridspec(4, 2, height_ratios=[1, 1, 1, 1.15])
    strip(figure.add_subplot(grid[0, :]), "As it was (frames below; shaded: deleted)", truth, None, frames, kept, first)
    strip(
        figure.add_subplot(grid[1, :]), f"Blender's Bézier: {captions[0]}", fills["Bézier"], truth, frames, kept, first
    )
    strip(figure.add_subplot(grid[2, :]), f"Fill Gap: {captions[1]}", fills["ours"], truth, frames, kept, first)

    axis = figure.add_subplot(grid[3, 0])
    swing = {j: np.ptp(angle_from_rest(truth, j)[start:stop]) for j in ("left_knee", "right_knee", "right_elbow")}
    joint = max(swing, key=swing.__getitem__)
    span = np.arange(max(0, start - 15), min(len(truth), stop + 15))
    axis.axvspan(start + first - 0.5, stop + first - 0.5, color=GENERATED, linewidth=0)
    for name, motion in {"truth": truth, **fills}.items():
        axis.plot(
            span + first, angle_from_rest(motion, joint)[span], color=METHODS[name], label=name,
            linewidth=2 if name in ("truth", "ours") else 1.3, linestyle="-" if name in ("truth", "ours") else "--",
        )  # fmt: skip
    axis.set_title(f"Fill Gap: bend of the {joint.replace('_', ' ')}, degrees", fontsize=10, loc="left")
    axis.legend(fontsize=7, frameon=False)

    axis = figure.add_subplot(grid[3, 1])
    span = np.arange(max(0, start - 30), min(len(truth), stop + 30))
    wrist, colours = INDEX["right_wrist"], iter(("#8a6fb0", METHODS["ours"]))
    axis.plot(span + first, joint_positions(noisy)[span, wrist, 1], color="#cfcfcf", linewidth=1, label="with jitter")
    for name, motion in cleaned.items():
        axis.plot(span + first, joint_positions(motion)[span, wrist, 1], color=next(colours), linewidth=1.6, label=name)
    axis.plot(
        span + first, joint_positions(truth)[span, wrist, 1], color=METHODS["truth"], linewidth=1.2, label="truth"
    )
    axis.set_title("Refine Jitter: height of the right wrist, metres", fontsize=10, loc="left")
    axis.legend(fontsize=7, frameon=False)
    for axis in figure.axes[3:]:
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
        axis.margins(x=0)
    figure.savefig(out, dpi=100)
    plt.close(figure)
