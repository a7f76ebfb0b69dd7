"""Lost parts of a body made up by the prior, by interpolation, by standing still, and by looking up a similar pose."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import baselines, metrics
from .. import rotations as rot
from ..contract import PARENTS, Motion, MotionError
from ..metrics import LEAVES, Score
from ..pack import Pack
from ..priors.selection import PARTS
from .entry import Evaluation, Progress, Report, Request, Row, numbers
from .figures import summary
from .tables import figures_table, rows_of
from .windows import CONTEXT, add_take_argument, clips_of, cut, in_batches, remembered, stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from ..priors.recall import Memory

REFERENCE = "interpolation"
"""The baseline that ratios refer to."""
DEFAULT_PARTS = "left_arm,left_leg,whole_head,both_feet,below_waist"
SECONDS = 2.8
"""Length of a window, unless the loss needs more."""
BANK = 20_000
"""Poses of the training pack among which a similar one is looked up."""


class Restore(Protocol):
    """A method of completion."""

    def __call__(self, motions: list[Motion], mask: np.ndarray, memories: Sequence[Memory | None] = ()) -> list[Motion]:
        """Windows of equal length and one mask (T, 22), True = lost → the same with what is lost made up.

        memories: the clips that the windows were cut from, for methods that look there; empty = only the windows.
        """


def _observed(mask: np.ndarray) -> np.ndarray:
    """(T, 22) lost → (T, 23) observed; the root's place goes with the pelvis."""
    return ~np.concatenate([mask, mask[:, :1]], axis=1)


def _array_restorer(function: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Restore:
    def restore(motions: list[Motion], mask: np.ndarray, memories: Sequence[Memory | None] = ()) -> list[Motion]:
        rotations, root, _ = stack(motions)
        q, p = function(rotations, root, _observed(mask))
        return [m.with_frames(a, b) for m, a, b in zip(motions, q, p, strict=True)]

    return restore


RESTORERS: dict[str, Restore] = {
    "interpolation": _array_restorer(baselines.interpolate),
    "zero velocity": _array_restorer(baselines.zero_velocity),
}


def prior_restorer(prior: str | None, device: str) -> Restore:
    """Our completion prior: its deterministic result, without the foot lock."""
    from ..priors.completion import complete_many

    def restore(motions: list[Motion], mask: np.ndarray, memories: Sequence[Memory | None] = ()) -> list[Motion]:
        return complete_many(
            motions, [mask] * len(motions), memories=memories, lock_feet=False, prior=prior, device=device
        )

    return restore


def nearest_pose(pack: Pack) -> Restore:
    """Each frame's lost joints from the training pose that is most like it in the others.

    Alike are poses whose local rotations are and, where the pelvis shows, those that tilt the same way. Where the body
    stands and faces says nothing about its pose, so a lost pelvis stays interpolated.
    """
    step = max(1, int(pack.length.sum()) // BANK)
    poses = np.concatenate([pack.decode(clip).rotations[::step] for clip in range(len(pack))]).astype(np.float64)

    def features(rotations: np.ndarray, shown: np.ndarray) -> np.ndarray:
        turns = rot.to_6d(rotations[:, shown & (np.arange(22) > 0)]).reshape(len(rotations), -1)
        up = rot.rotate(rot.conjugate(rotations[:, 0]), np.array([0.0, 1.0, 0.0]))
        return np.concatenate([turns, up * shown[0]], axis=1).astype(np.float32)

    def restore(motions: list[Motion], mask: np.ndarray, memories: Sequence[Memory | None] = ()) -> list[Motion]:
        rotations, root, _ = stack(motions)
        q, p = baselines.interpolate(rotations, root, _observed(mask))
        for lost in np.unique(mask[mask.any(axis=1)], axis=0):  # frames that lack the same joints together
            rows = (mask == lost).all(axis=1)
            wanted = features(rotations[:, rows].reshape(-1, 22, 4).astype(np.float64), ~lost)
            bank = features(poses, ~lost)
            near = np.argmax(wanted @ bank.T - 0.5 * np.square(bank).sum(axis=1), axis=1)
            joints = np.flatnonzero(lost & (np.arange(22) > 0))
            found = poses[near][:, joints].reshape(len(motions), -1, len(joints), 4)
            q[:, np.flatnonzero(rows)[:, None], joints] = found
        return [m.with_frames(a, b) for m, a, b in zip(motions, q, p, strict=True)]

    return restore


# --- figures --------------------------------------------------------------------------------------------------------


def moved_by(joints: tuple[int, ...]) -> list[int]:
    """The joints whose place depends on the rotations of ``joints``: their descendants; all where the root is lost."""
    if 0 in joints:
        return list(range(22))
    moved: set[int] = set()
    for j in range(1, 22):  # parents come first
        if PARENTS[j] in joints or PARENTS[j] in moved:
            moved.add(j)
    return sorted(moved)


def seam(positions: np.ndarray, start: int, stop: int) -> Score:
    """Mean length of the second difference where a loss begins and ends, mm per frame². (N, T, J, 3) metres.

    A jump of the value counts and so does one of the velocity. Ends of the window are no seams.
    """
    bend = 1000 * np.linalg.norm(np.diff(positions, 2, axis=1), axis=-1).mean(axis=2)  # about frame i + 1
    frames = [t - 1 for border in (start, stop) for t in (border - 1, border) if 0 < border < positions.shape[1]]
    values = bend[:, frames]
    return Score(values.sum(axis=1), np.full(len(values), len(frames), np.float64))


def completion_figures(
    truth: list[Motion], restored: list[Motion], joints: tuple[int, ...], start: int, stop: int
) -> dict[str, Score]:
    """Errors on frames [start, stop) alone, over the lost joints (angles) and those that they move (positions)."""
    q_true, p_true, offsets = stack(truth)
    q, p, _ = stack(restored)
    moved, inside = moved_by(joints), slice(start, stop)
    edges = slice(max(start - 1, 0), stop + 1)
    x, x_true = (metrics.forward(*each, offsets)[:, :, moved] for each in ((q, p), (q_true, p_true)))
    out = {
        "mpjpe_mm": metrics.mpjpe(x[:, inside], x_true[:, inside]),
        "angle_deg": metrics.angle(q[:, inside], q_true[:, inside], joints),
    }
    if leaves := tuple(j for j in joints if j in LEAVES):
        out["leaf_angle_deg"] = metrics.angle(q[:, inside], q_true[:, inside], leaves)
    out["accel_mm"] = metrics.accel(x[:, edges], x_true[:, edges])
    out["jitter_m_s3"] = metrics.jitter(x[:, edges], truth[0].fps)
    if start > 0 or stop < len(truth[0]):
        out["seam_mm"] = seam(x, start, stop)
    return out


def completion(
    pack: Pack,
    part: str,
    loss: int | None,
    fps: float = 30.0,
    count: int = 320,
    methods: Mapping[str, Restore] = RESTORERS,
    progress: Progress | None = None,
    seed: int = 0,
    take: bool = False,
) -> Report:
    """Figures of every method with ``part`` of `PARTS` lost for ``loss`` frames in the middle; None = throughout.

    methods must hold "interpolation". "truth" stands beside them for what needs no comparison: jitter and seams. take:
    let the prior see the whole clip around each loss, as in use.
    """
    joints = PARTS[part]
    least = round(SECONDS * fps)
    frames = round(1.5 * least) if loss is None else max(least, loss + 2 * math.ceil(CONTEXT * fps - 1e-6))
    start, stop = (0, frames) if loss is None else ((frames - loss) // 2, (frames + loss) // 2)
    windows = cut(pack, fps, frames, count, seed)
    truth = [w.motion for w in windows]
    mask = np.zeros((frames, 22), bool)
    mask[start:stop, list(joints)] = True
    lost = [_without(m, mask) for m in truth]
    memories = remembered(pack, windows, fps, mask.any(axis=1)) if take else None
    what = f"{part}, {loss or 'all'}"
    figures = {"truth": completion_figures(truth, truth, joints, start, stop)}
    seconds: dict[str, float] = {}
    for name, method in methods.items():
        begun = time.perf_counter()

        def report(done: int, of: int, name: str = name) -> None:
            if progress:
                progress(f"{what}: {name}", done, of)

        restored = in_batches(partial(method, mask=mask), lost, report, memories)
        seconds[name] = (time.perf_counter() - begun) / len(lost)
        figures[name] = completion_figures(truth, restored, joints, start, stop)
    clips = clips_of(windows)
    return {
        "part": part,
        "loss": loss,
        "take": take,
        "fps": fps,
        "windows": len(windows),
        "clips": len(set(clips)),
        "seconds_per_window": seconds,
        "figures": summary(figures, clips, REFERENCE, [m for m in methods if m != "ours"]),
    }


def _without(motion: Motion, mask: np.ndarray) -> Motion:
    """The motion with NaN where the mask says so, and in the root where the pelvis is lost."""
    rotations, root = motion.rotations.copy(), motion.root.copy()
    rotations[mask], root[mask[:, 0]] = np.nan, np.nan
    return motion.with_frames(rotations, root)


# --- command --------------------------------------------------------------------------------------------------------


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parts", default=DEFAULT_PARTS, help=f"what is lost, of {', '.join(PARTS)} (default %(default)s)"
    )
    parser.add_argument(
        "--losses", default="30,45,60,all", help="for how many frames; all = throughout (default %(default)s)"
    )
    add_take_argument(parser)
    parser.add_argument(
        "--tune-data", type=Path, metavar="PACK.npz", help="also look up the most similar pose of this training pack"
    )


def _measure(request: Request) -> Report:
    args = request.args
    parts = [part.strip() for part in args.parts.split(",") if part.strip()]
    for part in parts:
        if part not in PARTS:
            raise MotionError(f"There is no part {part}; --parts takes some of {', '.join(PARTS)}.")
    words = [word.strip() for word in args.losses.split(",") if word.strip()]
    losses: list[int | None] = list(numbers(",".join(w for w in words if w != "all"), "--losses"))
    losses += [None] if "all" in words else []
    methods = dict(RESTORERS)
    if (tuning := request.tuning()) is not None:
        methods["nearest pose"] = nearest_pose(tuning)
    if request.ours:
        methods["ours"] = prior_restorer(request.prior, args.device)
    cases = [
        completion(
            request.pack, part, loss, args.fps, args.windows or 320, methods, request.progress, request.seed, args.take
        )
        for part in parts
        for loss in losses
        if loss is not None or 0 not in PARTS[part]  # without a pelvis anywhere, nothing says where the body is
    ]
    return {"cases": cases}


def _show(report: Mapping[str, Any], console: Console) -> None:
    for case in report["cases"]:
        lost = f"{case['loss']} frames" if case["loss"] else "throughout"
        lost += ", in its take," if case["take"] else ""
        title = f"{case['part']} lost {lost} at {case['fps']:g} fps: {case['windows']} windows of {case['clips']} clips"
        console.print(figures_table(title, case["figures"], REFERENCE))


def _rows(report: Mapping[str, Any]) -> list[Row]:
    return [
        row
        for case in report["cases"]
        for row in rows_of(case["figures"], REFERENCE, part=case["part"], loss=case["loss"] or "all", fps=case["fps"])
        if row["method"] != "truth"
    ]


def _draw(report: Mapping[str, Any], figure: Figure) -> None:
    """Ratio to interpolation over the length of the loss; a row of panels per part."""
    names = ("mpjpe_mm", "angle_deg", "accel_mm")
    cases = [case for case in report["cases"] if case["loss"]]
    parts = list(dict.fromkeys(case["part"] for case in cases))
    if not parts:
        raise MotionError("Only losses of some frames can be drawn over their length; give --losses numbers.")
    figure.set_size_inches(4 * len(names), 0.5 + 3 * len(parts))
    panels = figure.subplots(len(parts), len(names), squeeze=False, sharex=True)
    for row, part in zip(panels, parts, strict=True):
        here = [case for case in cases if case["part"] == part]
        losses = [case["loss"] for case in here]
        for panel, name in zip(row, names, strict=True):
            for method in here[0]["figures"][name][f"ratio_to_{REFERENCE}"]:
                if method == "truth":
                    continue
                found = np.array([case["figures"][name][f"ratio_to_{REFERENCE}"][method] for case in here], np.float64)
                spread = np.clip(np.stack([found[:, 0] - found[:, 1], found[:, 2] - found[:, 0]]), 0, None)
                panel.errorbar(losses, found[:, 0], spread, label=method, marker="o", capsize=3)
            panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
            panel.set_title(f"{part}: {name}")
            panel.set_ylim(0, min(panel.get_ylim()[1], 2))
            panel.set_xlabel("frames lost")
        row[0].set_ylabel(f"ratio to {REFERENCE}")
        row[0].legend()


COMPLETION = Evaluation(
    "make up lost parts of a body beside interpolation and similar poses",
    _add_arguments, _measure, _show, _rows, _draw,
)  # fmt: skip
