"""Does a label steer the in-between? The same gaps of a pack filled unlabelled, with their own label, and with others.

    python benchmarks/labels.py --data val.npz
    python benchmarks/labels.py --data val.npz --prior runs/mine.safetensors --guidance 1,2,4 --json

Two questions. Is the true label worth something: error with it, without one, and with labels of other movements. And
does a label change the motion in the direction that it names: each direction is a figure of the filled gap with the
sign that its word asks for, averaged over gaps that come from other movements, with 95 % bootstrap bounds by clip.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from mmdm_engine import kinematics
from mmdm_engine.contract import Motion
from mmdm_engine.evaluate.tables import machine
from mmdm_engine.evaluate.windows import Window, clips_of, cut, hide
from mmdm_engine.pack import Pack
from mmdm_engine.priors import store
from mmdm_engine.priors.inbetween import PRIOR, fill_many
from mmdm_engine.priors.network import InbetweenNetwork
from mmdm_engine.text import split_words, stem

CONTEXT = 12


def hip_rise(motion: Motion, gap: slice) -> float:
    """Highest hips in the gap over the higher border, cm."""
    height = motion.root[:, 1]
    return 100 * float(height[gap].max() - max(height[gap.start - 1], height[gap.stop]))


def hip_drop(motion: Motion, gap: slice) -> float:
    """Lowest hips in the gap under the lower border, cm."""
    height = motion.root[:, 1]
    return 100 * float(min(height[gap.start - 1], height[gap.stop]) - height[gap].min())


def foot_speed(motion: Motion, gap: slice) -> float:
    """Mean speed of the ankles in the gap, cm/s."""
    p = kinematics.positions(motion.rotations, motion.root, motion.skeleton.offsets)[:, [7, 8]]
    return 100 * motion.fps * float(np.linalg.norm(np.diff(p[gap], axis=0), axis=-1).mean())


def hand_speed(motion: Motion, gap: slice) -> float:
    """Mean speed of the wrists in the gap, cm/s."""
    p = kinematics.positions(motion.rotations, motion.root, motion.skeleton.offsets)[:, [20, 21]]
    return 100 * motion.fps * float(np.linalg.norm(np.diff(p[gap], axis=0), axis=-1).mean())


@dataclass(frozen=True)
class Direction:
    """A word, a figure that it should raise over another word's."""

    word: str
    against: str
    figure: Callable[[Motion, slice], float]


DIRECTIONS = (
    Direction("jump", "walk", hip_rise),
    Direction("run", "walk", foot_speed),
    Direction("sit", "walk", hip_drop),
    Direction("boxing", "walk", hand_speed),
)


def bounds(values: np.ndarray, clips: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """Mean of (N,) values with the 95 % bounds of its bootstrap over clips."""
    numbers = np.unique(clips, return_inverse=True)[1]
    total, count = np.bincount(numbers, weights=values), np.bincount(numbers)
    drawn = np.random.default_rng(0).multinomial(len(count), np.full(len(count), 1 / len(count)), size=draws)
    low, high = np.percentile((drawn @ total) / (drawn @ count), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def error(filled: list[Motion], truth: list[Motion], gap: slice) -> np.ndarray:
    """(N,) mean joint distance in the gap, mm."""
    p, q = (
        np.stack([kinematics.positions(m.rotations, m.root, m.skeleton.offsets) for m in motions])[:, gap]
        for motions in (filled, truth)
    )
    return 1000 * np.linalg.norm(p - q, axis=-1).mean(axis=(1, 2))


def measure(pack: Pack, prior: str, gap_frames: int, count: int, guidances: list[float]) -> list[dict]:
    """One row per guidance."""
    network = store.load(prior, "inbetween", "cpu")
    assert isinstance(network, InbetweenNetwork)
    assert network.text is not None, "the prior takes no labels"
    windows = cut(pack, 30.0, gap_frames + 2 * CONTEXT, count)
    gap = slice(CONTEXT, CONTEXT + gap_frames)
    truth = [w.motion for w in windows]
    hidden = [hide(m, gap.start, gap.stop) for m in truth]
    clips = clips_of(windows)

    def fill(label: str, guidance: float, which: np.ndarray | None = None) -> list[Motion]:
        chosen = hidden if which is None else [hidden[i] for i in np.flatnonzero(which)]
        return fill_many(
            chosen, gap.start, gap.stop, label=label, guidance=guidance, lock_feet=False, prior=prior, device="cpu"
        )

    own = {label: np.array([_label(w, pack) == label for w in windows]) for label in {_label(w, pack) for w in windows}}
    own = {label: mask for label, mask in own.items() if network.text.ids([label]).any()}
    known = np.any(list(own.values()), axis=0)
    unsaid = error(fill("", 1.0), truth, gap)
    rows = []
    for guidance in guidances:
        right, wrong = np.zeros(len(windows)), np.zeros(len(windows))
        for label, mask in own.items():
            right[mask] = error(fill(label, guidance, mask), [truth[i] for i in np.flatnonzero(mask)], gap)
        for word in ("walk", "jump", "dance", "boxing"):
            wrong += error(fill(word, guidance), truth, gap) / 4
        directions = {}
        for d in DIRECTIONS:
            if not all(network.text.ids([w]).any() for w in (d.word, d.against)):
                continue
            other = np.array([stem(d.word) not in {stem(w) for w in split_words(_label(x, pack))} for x in windows])
            asked, plain = (
                np.array([d.figure(m, gap) for m in fill(word, guidance, other)]) for word in (d.word, d.against)
            )
            change = asked - plain
            directions[f"{d.word} over {d.against}: {d.figure.__name__}"] = {
                "change": bounds(change, clips[other]),
                "share_in_direction": float((change > 0).mean()),
                "windows": int(other.sum()),
            }
        rows.append(
            {
                "guidance": guidance,
                "windows": int(known.sum()),
                "mm_unsaid": float(unsaid[known].mean()),
                "mm_own_label": float(right[known].mean()),
                "mm_other_labels": float(wrong[known].mean()),
                "own_minus_unsaid_mm": bounds((right - unsaid)[known], clips[known]),
                "other_minus_own_mm": bounds((wrong - right)[known], clips[known]),
                "directions": directions,
            }
        )
    return rows


def _label(window: Window, pack: Pack) -> str:
    return pack.labels[window.clip]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PACK.npz")
    parser.add_argument("--prior", default=PRIOR)
    parser.add_argument("--gap", type=int, default=45, help="frames at 30 fps (default %(default)s)")
    parser.add_argument("--windows", type=int, default=160)
    parser.add_argument("--guidance", default="1,3", help="with commas (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    pack = Pack.load(args.data)
    rows = measure(pack, args.prior, args.gap, args.windows, [float(g) for g in args.guidance.split(",")])
    about = {"data": args.data.name, "prior": Path(args.prior).name, "gap": args.gap, "machine": machine()}
    report = {**about, "date": date.today().isoformat(), "rows": rows}
    if args.json:
        print(json.dumps(report))
        return 0
    for row in rows:
        print(
            f"guidance {row['guidance']:g}, {row['windows']} gaps of {args.gap} frames: "
            f"unsaid {row['mm_unsaid']:.1f} mm, own label {row['mm_own_label']:.1f}, "
            f"other labels {row['mm_other_labels']:.1f}"
        )
        for name in ("own_minus_unsaid_mm", "other_minus_own_mm"):
            print("  {:44} {:+.2f} [{:+.2f}, {:+.2f}]".format(name.replace("_", " "), *row[name]))
        for name, d in row["directions"].items():
            print("  {:44} {:+.2f} [{:+.2f}, {:+.2f}]".format(name.replace("_", " "), *d["change"])
                  + f", in {100 * d['share_in_direction']:.0f} % of {d['windows']}")  # fmt: skip
    print(f"{report['data']} · {report['prior']} · {report['machine']} · {report['date']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
