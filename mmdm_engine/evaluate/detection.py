"""Problems put into motion on purpose, and which of them `quality.detect` finds."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import contacts, kinematics
from .. import rotations as rot
from ..contract import JOINTS, Motion
from ..contract.chains import runs
from ..contract.skeleton import LIMBS, TORSO
from ..pack import Pack
from ..quality import KINDS, Kind, Quality, detect
from .entry import Evaluation, Progress, Report, Request, Row
from .noise import moved
from .refinement import Clean, prior_cleaner
from .windows import cut, stack

if TYPE_CHECKING:
    from rich.console import Console

SECONDS = 4.0
"""Length of a window."""
WINDOWS = 300
"""How many by default; each is spoiled once per kind."""
NEAR = 0.1
"""Seconds by which a found problem may miss a true one and still count as the same event."""
MISSED_DEGREES, MISSED_METRES = 3.0, 0.02
"""A frozen joint that would have moved less than this has lost nothing; it is not judged."""


@dataclass(frozen=True, eq=False)
class Spoiled:
    """A motion with one kind of problem put in.

    bad: (T, 22) bool, where it is. unsure: (T, 22) bool, where it fades or does no harm; not judged.
    """

    motion: Motion
    kind: Kind
    bad: np.ndarray
    unsure: np.ndarray


def spoil(motion: Motion, kind: Kind, rng: np.random.Generator) -> Spoiled | None:
    """One problem at a random place, of random size; None where this motion has no place for it."""
    return _SPOIL[kind](motion, rng)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())


def _place(motion: Motion, length: int, rng: np.random.Generator) -> int:
    """First frame of a stretch of ``length`` that leaves a tenth of the motion on each side."""
    edge = max(2, len(motion) // 10)
    return int(rng.integers(edge, max(edge + 1, len(motion) - edge - length)))


def _columns(motion: Motion, rng: np.random.Generator) -> np.ndarray:
    """(23,) bool: one column, one limb or the torso, or everything; column 22 the root. Absent joints stay out."""
    there = np.append(motion.skeleton.exists, True)
    chosen = np.zeros(23, bool)
    draw = rng.random()
    if draw < 0.5:
        chosen[rng.choice(np.flatnonzero(there))] = True
    elif draw < 0.8:
        chains = (*LIMBS, TORSO)
        chosen[list(chains[rng.integers(len(chains))])] = True
    else:
        chosen[:] = True
    return chosen & there


def _bad(frames: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(T, 22) bool of the stretch in its columns; the root's place is the pelvis."""
    joints = columns[:22].copy()
    joints[0] |= columns[22]
    return frames[:, None] & joints


def _pop(motion: Motion, rng: np.random.Generator) -> Spoiled:
    length = int(rng.integers(1, max(1, int(0.1 * motion.fps + 1e-6)) + 1))
    frames = np.zeros(len(motion), bool)
    start = _place(motion, length, rng)
    frames[start : start + length] = True
    columns = _columns(motion, rng)
    axis = rot.normalize(rng.normal(size=(23, 3)))
    turn = axis[:22] * (np.radians(_log_uniform(rng, 8, 45)) * columns[:22, None])
    shift = axis[22] * (_log_uniform(rng, 0.04, 0.2) * _size(motion) * columns[22])
    spoiled = moved(motion, frames[:, None, None] * turn, frames[:, None] * shift)
    return Spoiled(spoiled, "pop", _bad(frames, columns), np.zeros((len(motion), 22), bool))


def _jitter(motion: Motion, rng: np.random.Generator) -> Spoiled:
    length = round(rng.uniform(0.4, 1.5) * motion.fps)
    frames = np.zeros(len(motion), bool)
    start = _place(motion, length, rng)
    frames[start : start + length] = True
    columns = _columns(motion, rng)
    turn = rng.normal(scale=np.radians(_log_uniform(rng, 1, 8)), size=(len(motion), 22, 3)) * columns[:22, None]
    shift = rng.normal(scale=_log_uniform(rng, 0.005, 0.04) * _size(motion), size=(len(motion), 3)) * columns[22]
    spoiled = moved(motion, frames[:, None, None] * turn, frames[:, None] * shift)
    return Spoiled(spoiled, "jitter", _bad(frames, columns), np.zeros((len(motion), 22), bool))


def _frozen(motion: Motion, rng: np.random.Generator) -> Spoiled:
    length = round(_log_uniform(rng, 1, max(1.0, 0.6 * motion.fps)))
    start = _place(motion, length, rng)
    run = slice(start, start + length)
    columns = _columns(motion, rng)
    rotations, root = motion.rotations.copy(), motion.root.copy()
    missed = np.zeros((len(motion), 23))
    held = rotations[start - 1].astype(np.float64)
    missed[run, :22] = np.degrees(rot.angle(rotations[run].astype(np.float64), held)) / MISSED_DEGREES
    missed[run, 22] = np.linalg.norm(root[run] - root[start - 1], axis=-1) / (MISSED_METRES * _size(motion))
    rotations[run, columns[:22]] = rotations[start - 1, columns[:22]]
    root[run] = root[start - 1] if columns[22] else root[run]
    harmed = columns & (missed.max(axis=0) >= 1)
    frames = np.zeros(len(motion), bool)
    frames[run] = True
    bad = _bad(frames, harmed)
    return Spoiled(motion.with_frames(rotations, root), "frozen", bad, _bad(frames, columns) & ~bad)


def _stance(motion: Motion, seconds: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """A stretch around a planted frame, (T,) rising to 1 and back in a tenth of a second, and (T, 2) planted sides."""
    planted = contacts.detect(motion).reshape(-1, 2, 2).any(axis=2)
    edge = len(motion) // 5
    some = edge + np.flatnonzero(planted[edge : len(motion) - edge].any(axis=1))
    if not len(some):
        return None
    time = np.abs(np.arange(len(motion)) - rng.choice(some)) / motion.fps
    return np.clip((seconds / 2 - time) / 0.1 + 0.5, 0, 1), planted


def _slide(motion: Motion, rng: np.random.Generator) -> Spoiled | None:
    stance = _stance(motion, rng.uniform(0.4, 1.2), rng)
    if stance is None:
        return None
    rise, planted = stance
    speed, heading = _log_uniform(rng, 0.25, 0.8) * _size(motion), rng.uniform(0, 2 * np.pi)
    way = np.cumsum(speed * rise / motion.fps)
    shift = way[:, None] * np.array([np.cos(heading), 0, np.sin(heading)])
    return _on_feet(moved(motion, np.zeros((len(motion), 22, 3)), shift), "slide", rise, planted)


def _penetration(motion: Motion, rng: np.random.Generator) -> Spoiled | None:
    stance = _stance(motion, rng.uniform(0.3, 1.0), rng)
    if stance is None:
        return None
    rise, planted = stance
    depth = _log_uniform(rng, 0.05, 0.15) * _size(motion)
    shift = -depth * (rise * rise * (3 - 2 * rise))[:, None] * np.array([0.0, 1.0, 0.0])
    return _on_feet(moved(motion, np.zeros((len(motion), 22, 3)), shift), "penetration", rise, planted)


def _on_feet(motion: Motion, kind: Kind, rise: np.ndarray, planted: np.ndarray) -> Spoiled:
    """Bad where a foot stood in the untouched motion; where it did not, it may or may not look bad."""
    bad, unsure = np.zeros((len(motion), 22), bool), np.zeros((len(motion), 22), bool)
    ankles = [limb[2] for limb in LIMBS[:2]]
    bad[:, ankles] = planted & (rise >= 0.75)[:, None]
    unsure[:, ankles] = (rise > 0)[:, None] & ~bad[:, ankles]
    return Spoiled(motion, kind, bad, unsure)


def _size(motion: Motion) -> float:
    return motion.skeleton.leg_length / contacts.ADULT_LEG


_SPOIL: dict[Kind, Callable[[Motion, np.random.Generator], Spoiled | None]] = {
    "pop": _pop, "jitter": _jitter, "frozen": _frozen, "slide": _slide, "penetration": _penetration,
}  # fmt: skip


# --- judging --------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Hits, false alarms and misses, of frames × joints and of events."""

    hit: int = 0
    false: int = 0
    missed: int = 0

    def figures(self) -> dict[str, float]:
        """Precision, recall and F1; NaN where nothing was found or nothing was there."""
        found, there = self.hit + self.false, self.hit + self.missed
        precision = self.hit / found if found else float("nan")
        recall = self.hit / there if there else float("nan")
        both = 2 * self.hit + self.false + self.missed
        return {"precision": precision, "recall": recall, "f1": 2 * self.hit / both if both else float("nan")}


def marks(quality: Quality, kind: Kind) -> np.ndarray:
    """(T, 22) bool: where a kind of problem was found."""
    out = np.zeros(quality.confidence.shape, bool)
    for p in quality.problems:
        if p.kind == kind:
            out[p.start : p.stop, JOINTS.index(p.joint)] = True
    return out


def judge(
    spoiled: Spoiled,
    quality: Quality,
    before: Quality,
    fps: float,
    cells: Mapping[Kind, Tally],
    events: Mapping[Kind, Tally],
) -> None:
    """Count one spoiled motion. before: what was found before it was spoiled; the same again is no news, nor judged."""
    for kind in KINDS:
        known = marks(before, kind)
        found = marks(quality, kind)
        bad = spoiled.bad if kind == spoiled.kind else np.zeros_like(found)
        judged = ~spoiled.unsure & ~(known & ~bad)
        tally = cells[kind]
        tally.hit += int((found & bad & judged).sum())
        tally.false += int((found & ~bad & judged).sum())
        tally.missed += int((~found & bad & judged).sum())
        tally = events[kind]
        near = max(1, round(NEAR * fps))
        for joint in np.flatnonzero((found | bad).any(axis=0)):
            true, alarms = runs(bad[:, joint]), runs(found[:, joint])
            excused = (spoiled.unsure | known)[:, joint]
            hits = [any(a < y + near and x - near < b for x, y in alarms) for a, b in true]
            tally.hit += sum(hits)
            tally.missed += len(hits) - sum(hits)
            tally.false += sum(
                not any(a < y + near and x - near < b for x, y in true) and not excused[a:b].any() for a, b in alarms
            )


def detection(
    pack: Pack, fps: float = 30.0, count: int = WINDOWS, progress: Progress | None = None, seed: int = 0
) -> Report:
    """Precision, recall and F1 per kind, what the untouched windows show, and how confidence tells bad from good."""
    windows = cut(pack, fps, round(SECONDS * fps), count, seed)
    rng = np.random.default_rng(seed)
    cells, events = {k: Tally() for k in KINDS}, {k: Tally() for k in KINDS}
    alarms = dict.fromkeys(KINDS, 0)
    doubted = 0.0
    trust: dict[Kind, list[float]] = {k: [] for k in KINDS}
    elsewhere: list[float] = []
    for done, window in enumerate(windows):
        before = detect(window.motion)
        doubted += float((before.confidence < 0.5).mean())
        for p in before.problems:
            alarms[p.kind] += 1
        for kind in KINDS:
            spoiled = spoil(window.motion, kind, rng)
            if spoiled is None:
                continue
            quality = detect(spoiled.motion)
            judge(spoiled, quality, before, fps, cells, events)
            if spoiled.bad.any():
                trust[kind].append(float(quality.confidence[spoiled.bad].mean()))
            elsewhere.append(float(quality.confidence[~spoiled.bad & ~spoiled.unsure].mean()))
        if progress:
            progress("detecting", done + 1, len(windows))
    minutes = len(windows) * SECONDS / 60
    return {
        "fps": fps,
        "windows": len(windows),
        "clips": len({w.clip for w in windows}),
        "minutes": minutes,
        "kinds": {
            kind: {
                "cells": cells[kind].figures(),
                "events": events[kind].figures(),
                "true_events": events[kind].hit + events[kind].missed,
                "alarms_per_minute_untouched": alarms[kind] / minutes,
                "confidence_where_bad": float(np.mean(trust[kind])) if trust[kind] else float("nan"),
            }
            for kind in KINDS
        },
        "confidence_elsewhere": float(np.mean(elsewhere)),
        "doubted_share_untouched": doubted / len(windows),
    }


# --- repair ---------------------------------------------------------------------------------------------------------


def repair(
    pack: Pack, clean: Clean, fps: float = 30.0, count: int = 40, progress: Progress | None = None, seed: int = 0
) -> Report:
    """What refining makes of spoiled windows: errors in the spoiled frames and elsewhere, before and after."""
    windows = [w.motion for w in cut(pack, fps, round(SECONDS * fps), count, seed)]
    rng = np.random.default_rng(seed)
    out: Report = {}
    kinds: tuple[Kind, ...] = ("pop", "jitter", "frozen")
    for done, kind in enumerate(kinds):
        spoiled = [_SPOIL[kind](motion, rng) for motion in windows]
        pairs = [(s, m) for s, m in zip(spoiled, windows, strict=True) if s is not None and s.bad.any()]
        after = clean([s.motion for s, _ in pairs])
        out[kind] = {"windows": len(pairs)}
        for name, motions in (("before", [s.motion for s, _ in pairs]), ("after", after)):
            angles, inside, outside, shake = [], [], [], []
            for motion, (s, truth) in zip(motions, pairs, strict=True):
                frames = s.bad.any(axis=1)
                q, p, offsets = (a[0].astype(np.float64) for a in stack([motion]))
                q_true, p_true, _ = (a[0].astype(np.float64) for a in stack([truth]))
                error = kinematics.positions(q, p, offsets) - kinematics.positions(q_true, p_true, offsets)
                distance = 1000 * np.linalg.norm(error, axis=-1)
                angles.append(np.degrees(rot.angle(q, q_true))[s.bad])
                inside.append(distance[frames].ravel())
                outside.append(distance[~frames].ravel())
                shake.append(1000 * np.linalg.norm(np.diff(error, 2, axis=0), axis=-1).ravel())
            out[kind][name] = {
                "angle_deg_where_bad": float(np.concatenate(angles).mean()),
                "mm_in_bad_frames": float(np.concatenate(inside).mean()),
                "mm_in_other_frames": float(np.concatenate(outside).mean()),
                "accel_mm": float(np.concatenate(shake).mean()),
            }
        if progress:
            progress("repairing", done + 1, 3)
    return out


# --- command --------------------------------------------------------------------------------------------------------


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example:\n  python -m mmdm_engine evaluate detect --data val.npz --fps 60"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--repair", action="store_true", help="also refine spoiled windows, and compare with the truth")


def _measure(request: Request) -> Report:
    args = request.args
    report = detection(request.pack, args.fps, args.windows or WINDOWS, request.progress, request.seed)
    if args.repair:
        cleaner = prior_cleaner(request.prior, args.device)
        report["repair"] = repair(request.pack, cleaner, args.fps, 40, request.progress, request.seed)
    return report


def _show(report: Mapping[str, Any], console: Console) -> None:
    from rich.table import Table

    title = (
        f"{report['windows']} windows of {report['clips']} clips at {report['fps']:g} fps, each spoiled once per kind"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("kind")
    for column in (
        "frames: precision", "recall", "F1", "events: precision", "recall", "F1", "events",
        "alarms a minute, untouched", "confidence where bad",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for kind, entry in report["kinds"].items():
        cells = [f"{entry[level][name]:.3f}" for level in ("cells", "events") for name in ("precision", "recall", "f1")]
        table.add_row(
            kind, *cells, str(entry["true_events"]), f"{entry['alarms_per_minute_untouched']:.1f}",
            f"{entry['confidence_where_bad']:.2f}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"confidence elsewhere {report['confidence_elsewhere']:.3f}; of the untouched joints and frames "
        f"{100 * report['doubted_share_untouched']:.2f} % have less than 0.5"
    )
    if "repair" not in report:
        return
    table = Table(title="spoiled → refined", title_justify="left")
    names = list(next(iter(report["repair"].values()))["before"])
    for column in ("kind", "windows", *names):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind, entry in report["repair"].items():
        pairs = [f"{entry['before'][n]:.2f} → {entry['after'][n]:.2f}" for n in names]
        table.add_row(kind, str(entry["windows"]), *pairs)
    console.print(table)


def _rows(report: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for kind, entry in report["kinds"].items():
        for level in ("cells", "events"):
            for name, value in entry[level].items():
                rows.append({"fps": report["fps"], "kind": kind, "figure": f"{level}.{name}", "value": value})
        for name in ("alarms_per_minute_untouched", "confidence_where_bad"):
            rows.append({"fps": report["fps"], "kind": kind, "figure": name, "value": entry[name]})
    return rows


DETECTION = Evaluation("find problems that were put in on purpose", _add_arguments, _measure, _show, _rows)
