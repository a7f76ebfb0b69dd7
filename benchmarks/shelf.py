"""Four people, five cameras, one shelf: how many limbs come out right, beside what has been published.

    python benchmarks/shelf.py --data shelf/
    python benchmarks/shelf.py --data shelf/ --completion capture_completion --refinement capture_refinement
    python benchmarks/shelf.py --data shelf/ --out poses.npz --json

The folder holds the detections of each camera, ``calibration.json`` and ``ground_truth.npz`` (Belagiannis et al. 2014,
frames 300 to 600). No threshold that moves a joint was chosen on it: they come from made-up
scenes (`benchmarks/capture.py`), priors from motion capture.

A limb counts (PCP) when the mean error of its ends is at most half its length. Each annotated person is given one
estimate, no estimate two. "captured" is the pipeline before completion, where a joint that was not found is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402

from mmdm_engine import MotionError, baselines  # noqa: E402
from mmdm_engine.capture import cameras, detections, pipeline  # noqa: E402
from mmdm_engine.capture.clean import FILTER, Priors, clean, refined  # noqa: E402
from mmdm_engine.evaluate import machine  # noqa: E402
from mmdm_engine.joint_sets import CAPTURE15  # noqa: E402

FPS = 25.0
LIMBS = np.array([(9, 10), (8, 7), (10, 11), (7, 6), (3, 4), (2, 1), (4, 5), (1, 0), (12, 13), (12, 14)])
"""Upper arms, lower arms, upper legs, lower legs (left, right), head, torso, in the annotation's joints."""
LIMB_NAMES = (
    "upper arm l", "upper arm r", "lower arm l", "lower arm r", "upper leg l", "upper leg r", "lower leg l",
    "lower leg r", "head", "torso",
)  # fmt: skip
HEAD = 8
ACTORS = (0, 1, 2)
"""The fourth is left out of published averages."""
ABSENT = 0.5
"""Metres that a joint which was not found counts when estimates are given to people."""

PUBLISHED = {"4DAG": 97.6, "TEMPO": 97.8, "JCSAT": 98.2, "MMDM": 98.5}
"""Average PCP in the paper's tables; MMDM by actor: 98.4, 97.1, 99.9."""
PUBLISHED_REFINEMENT = [
    ("noise 5 cm", "SmoothNet", 79.3, 67.4, 305.8, 131.3), ("noise 5 cm", "VPoser-t", 79.3, 70.9, 305.8, 165.9),
    ("noise 5 cm", "HuMoR", 79.3, 63.4, 305.8, 134.4), ("noise 5 cm", "MMDM", 79.3, 60.2, 305.8, 132.1),
    ("noise 10 cm", "SmoothNet", 107.5, 94.2, 418.4, 183.8), ("noise 10 cm", "VPoser-t", 107.5, 100.1, 418.4, 271.5),
    ("noise 10 cm", "HuMoR", 107.5, 89.4, 418.4, 190.7), ("noise 10 cm", "MMDM", 107.5, 84.2, 418.4, 175.7),
    ("real capture", "SmoothNet", 52.1, 48.7, 40.9, 33.3), ("real capture", "VPoser-t", 52.1, 48.6, 40.9, 38.0),
    ("real capture", "HuMoR", 52.1, 43.0, 40.9, 35.0), ("real capture", "MMDM", 52.1, 43.1, 40.9, 32.0),
]  # fmt: skip
"""Table IV: input, method, MPJPE before and after (mm), Accel before and after (mm per frame²)."""
NOISES = {"noise 5 cm": 0.05, "noise 10 cm": 0.10}
NOISE_FILTERS = {
    "noise 5 cm": ("savitzky_golay", {"window": 0.37, "order": 1}),
    "noise 10 cm": ("savitzky_golay", {"window": 0.57, "order": 1}),
}
"""The filter that is best at this noise on motion capture (`benchmarks/capture.py --filters`)."""


@dataclass(frozen=True)
class Truth:
    """joints (4, 301, 15, 3) metres, Z up; valid (4, 301): annotated; first: the number of the first frame."""

    joints: np.ndarray
    valid: np.ndarray
    first: int

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read ``ground_truth.npz``."""
        try:
            with np.load(path) as file:
                return cls(file["joints"].astype(float), file["valid"].all(axis=-1), int(file["frames"][0]))
        except (OSError, KeyError, ValueError) as error:
            raise MotionError(f"{path} is not Shelf's ground truth ({error}); give the benchmark's folder.") from None

    def segments(self, actor: int, shortest: int = 3) -> list[slice]:
        """Runs of consecutive annotated frames."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.valid[actor].astype(int), [0]])))
        return [slice(a, b) for a, b in edges.reshape(-1, 2) if b - a >= shortest]


@dataclass(frozen=True)
class Track:
    """One estimated person: frame index of its first pose, and joints (T, 15, 3) of the annotation, NaN = none."""

    first: int
    joints: np.ndarray


def annotated(limbs: np.ndarray, ears: np.ndarray, neck: np.ndarray) -> np.ndarray:
    """The annotation's 15 joints (…, 15, 3), Z up, by the head rule used for the published numbers.

    limbs (…, 12, 3) in the annotation's order; ears (…, 3) their middle; neck (…, 3).
    """
    shoulders, hip = limbs[..., 8:10, :].mean(axis=-2), limbs[..., 2:4, :].mean(axis=-2)
    face = np.cross(neck - hip, limbs[..., 8, :] - limbs[..., 9, :])
    face /= np.linalg.norm(face, axis=-1, keepdims=True)
    bottom = (shoulders + ears) / 2
    top = bottom + 0.125 * face + np.array([0, 0, 0.145])
    return np.concatenate([limbs, np.stack([bottom, top, hip], axis=-2)], axis=-2)


def from_points(points: np.ndarray) -> np.ndarray:
    """Captured points (…, 15, 3), Y up → the annotation's joints, Z up; a detector's neck is the shoulders' middle."""
    turned = np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)
    limbs = turned[..., :12, :]
    return annotated(limbs, turned[..., CAPTURE15.names.index("head"), :], limbs[..., 8:10, :].mean(axis=-2))


def assigned(tracks: list[Track], truth: Truth) -> np.ndarray:
    """(4, 301, 15, 3) the estimate of every annotated person, one to one by the sum of joint distances."""
    out = np.full(truth.joints.shape, np.nan)
    for frame in range(truth.joints.shape[1]):
        actors = np.flatnonzero(truth.valid[:, frame])
        poses = [t.joints[frame - t.first] for t in tracks if 0 <= frame - t.first < len(t.joints)]
        if not len(actors) or not poses:
            continue
        off = np.linalg.norm(np.stack(poses)[None] - truth.joints[actors, frame][:, None], axis=-1)
        cost = np.nan_to_num(off, nan=ABSENT).mean(axis=-1)
        for a, p in zip(*linear_sum_assignment(cost), strict=True):
            out[actors[a], frame] = poses[p]
    return out


def score(tracks: list[Track], truth: Truth) -> dict[str, object]:
    """PCP with and without the head, MPJPE of the joints found, Accel over consecutive annotated frames."""
    joints = assigned(tracks, truth)
    off = np.linalg.norm(joints - truth.joints, axis=-1)
    ends = np.nan_to_num(off, nan=np.inf)[..., LIMBS].mean(axis=-1)
    length = np.linalg.norm(truth.joints[..., LIMBS[:, 0], :] - truth.joints[..., LIMBS[:, 1], :], axis=-1)
    right = ends <= 0.5 * length  # (4, 301, 10)
    limbs = {a: right[a][truth.valid[a]].mean(axis=0) for a in range(4)}
    body = np.delete(np.arange(10), HEAD)
    accel = [
        np.linalg.norm(np.diff(joints[a, run] - truth.joints[a, run], 2, axis=0), axis=-1).ravel()
        for a in ACTORS
        for run in truth.segments(a)
    ]
    mine = np.concatenate([off[a][truth.valid[a]].ravel() for a in ACTORS])
    return {
        "pcp_average": float(100 * np.mean([limbs[a].mean() for a in ACTORS])),
        "pcp": [float(100 * limbs[a].mean()) for a in range(4)],
        "pcp_average_without_head": float(100 * np.mean([limbs[a][body].mean() for a in ACTORS])),
        "pcp_limbs": {n: [float(100 * limbs[a][i]) for a in range(4)] for i, n in enumerate(LIMB_NAMES)},
        "mpjpe_mm": float(1000 * np.nanmean(mine)),
        "not_found_percent": float(100 * np.isnan(mine).mean()),
        "accel": float(1000 * np.nanmean(np.concatenate(accel))),
        "people": len(tracks),
    }


def reference(path: Path, truth: Truth) -> list[Track]:
    """The published 3-D result of 4DAG, as tracks."""
    with np.load(path) as file:
        names = [str(n) for n in file["joint_names"]]
        joints = np.where(file["valid"][..., None], file["joints"], np.nan).astype(float)
    order = [names.index(n) for n in CAPTURE15.names[:12]]
    ears = joints[..., [names.index("left_ear"), names.index("right_ear")], :].mean(axis=-2)
    return [
        Track(0, annotated(joints[k][:, order], ears[k], joints[k][:, names.index("neck")])) for k in range(len(joints))
    ]  # fmt: skip


def noisy_rows(truth: Truth, priors: Priors, seed: int = 0) -> list[dict[str, object]]:
    """Table IV's rows with noise on the annotation: prior and best filter, before → after.

    The annotation has no toes and no ears: toes are left at the ankles and not counted, ears follow from the head rule.
    """
    rng = np.random.default_rng(seed)
    limbs = truth.joints[..., :12, :]
    ears = 2 * truth.joints[..., 12, :] - limbs[..., 8:10, :].mean(axis=-2)
    points = np.concatenate([limbs, ears[..., None, :], limbs[..., [5, 0], :]], axis=-2)
    points = np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)  # Y up
    runs = [points[a, run] for a in ACTORS for run in truth.segments(a, 10)]
    rows: list[dict[str, object]] = []
    for name, level in NOISES.items():
        kind, settings = NOISE_FILTERS[name]
        best = Priors(refinement=baselines.Filter(kind, settings, settings))
        noisy = [run + level * rng.standard_normal(run.shape) for run in runs]
        methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            f"{kind} filter": lambda x, best=best: refined(x, FPS, best)
        }
        if not isinstance(priors.refinement, baselines.Filter):
            methods["ours"] = lambda x: refined(x, FPS, priors)
        for method, apply in methods.items():
            after = [apply(x) for x in noisy]
            figures = [*_errors(noisy, runs), *_errors(after, runs)]
            rows.append(_refinement_row(name, method, figures[0], figures[2], figures[1], figures[3]))
    return rows


def _errors(estimates: list[np.ndarray], runs: list[np.ndarray]) -> tuple[float, float]:
    """MPJPE and Accel in millimetres over the points that the annotation has."""
    off = [(e - r)[:, :13] for e, r in zip(estimates, runs, strict=True)]
    lengths = [np.linalg.norm(x, axis=-1).ravel() for x in off]
    bends = [np.linalg.norm(np.diff(x, 2, axis=0), axis=-1).ravel() for x in off]
    return float(1000 * np.concatenate(lengths).mean()), float(1000 * np.concatenate(bends).mean())


def _refinement_row(name: str, method: str, a: float, b: float, c: float, d: float) -> dict[str, object]:
    return {
        "input": name, "method": method, "mpjpe_before": a, "mpjpe_after": b, "mpjpe_ratio": b / a,
        "accel_before": c, "accel_after": d, "accel_ratio": d / c,
    }  # fmt: skip


def measure(args: argparse.Namespace) -> dict[str, object]:
    """Every stage of the pipeline, scored."""
    truth = Truth.load(args.data / "ground_truth.npz")
    rig = cameras.load(args.data / "calibration.json")
    recording = detections.find(args.data, [c.name for c in rig])
    refinement = FILTER if args.refinement == "filter" else args.refinement
    priors = Priors(args.completion, refinement)
    begun = time.perf_counter()
    found, pixels = pipeline.people(rig, recording, FPS)
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    whole = [clean(first, points, FPS, replace(priors, refinement=None)) for first, points in found]
    final = [replace(p, positions=refined(p.positions, FPS, priors)) for p in whole]
    offset = int(recording.frames[0]) - truth.first
    stages = {
        "captured": [Track(first + offset, from_points(points.positions)) for first, points in found],
        "completed": [Track(p.first + offset, from_points(p.positions)) for p in whole],
        "refined": [Track(p.first + offset, from_points(p.positions)) for p in final],
    }
    scores = {name: score(tracks, truth) for name, tracks in stages.items()}
    table = noisy_rows(truth, priors)
    before, after = scores["completed"], scores["refined"]
    method = "ours" if args.refinement != "filter" else f"{FILTER.kind} filter"
    table.append(
        _refinement_row("real capture", method, before["mpjpe_mm"], after["mpjpe_mm"], before["accel"], after["accel"])  # type: ignore[arg-type]
    )
    if args.out:
        frames = np.arange(truth.joints.shape[1])
        poses = np.full((len(final), len(frames), 15, 3), np.nan, np.float32)
        for row, track in zip(poses, stages["refined"], strict=True):
            inside = slice(max(track.first, 0), min(track.first + len(track.joints), len(frames)))
            row[inside] = track.joints[inside.start - track.first : inside.stop - track.first]
        np.savez_compressed(args.out, joints=poses, frames=frames + truth.first)
    others = args.data / "reference_skel.npz"
    published = {"published 3-D result of 4DAG": score(reference(others, truth), truth)} if others.exists() else {}
    return {
        **after, "stages": {**published, **scores}, "refinement": table, "published": PUBLISHED,
        "reprojection_px": list(pixels), "capture_frames_per_second": len(recording.frames) / seconds,
        "clean_frames_per_second": len(recording.frames) / (time.perf_counter() - begun),
        "completion": str(args.completion or "interpolation"), "refinement_by": str(args.refinement),
        "machine": machine(), "date": date.today().isoformat(),
    }  # fmt: skip


def show(result: dict[str, object]) -> None:
    """Markdown tables."""
    print(
        "| estimate | actor 1 | actor 2 | actor 3 | average | without head | (actor 4) | MPJPE mm | not found | Accel |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, s in result["stages"].items():  # type: ignore[attr-defined]
        a = s["pcp"]
        print(
            f"| {name} | {a[0]:.2f} | {a[1]:.2f} | {a[2]:.2f} | **{s['pcp_average']:.2f}** | "
            f"{s['pcp_average_without_head']:.2f} | {a[3]:.2f} | {s['mpjpe_mm']:.1f} | "
            f"{s['not_found_percent']:.1f} % | {s['accel']:.1f} |"
        )
    for name, value in PUBLISHED.items():
        print(f"| *published:* {name} | | | | {value} | | | | | |")
    print("\n| limb | actor 1 | actor 2 | actor 3 | (actor 4) |\n|---|---|---|---|---|")
    for limb, values in result["pcp_limbs"].items():  # type: ignore[attr-defined]
        print(f"| {limb} | " + " | ".join(f"{v:.1f}" for v in values) + " |")
    print("\n| input | method | MPJPE mm | ratio | Accel mm/frame² | ratio |\n|---|---|---|---|---|---|")
    rows = [tuple(r.values()) for r in result["refinement"]]  # type: ignore[attr-defined]
    for name, method, a, b, r, c, d, q in rows:
        print(f"| {name} | {method} | {a:.1f} → {b:.1f} | {r:.2f} | {c:.1f} → {d:.1f} | {q:.2f} |")
    for name, method, a, b, c, d in PUBLISHED_REFINEMENT:
        print(f"| {name} | *published:* {method} | {a} → {b} | {b / a:.2f} | {c} → {d} | {d / c:.2f} |")
    pixels = ", ".join(f"{p:.1f}" for p in result["reprojection_px"])  # type: ignore[attr-defined]
    print(
        f"\n{result['people']} people · reprojection {pixels} px · {result['capture_frames_per_second']:.0f} frames/s "
        f"captured, {result['clean_frames_per_second']:.0f} cleaned · completion {result['completion']}, refinement "
        f"{result['refinement_by']} · {result['machine']} · {result['date']}"
    )


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmark")
    parser.add_argument("--completion", help="position prior; default: interpolation")
    parser.add_argument("--refinement", default="filter", help="position prior, or filter (default)")
    parser.add_argument("--out", type=Path, help="write the estimates: joints (people, 301, 15, 3), NaN where none")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    try:
        result = measure(args)
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        json.dump(result, sys.stdout)
        sys.stdout.write("\n")
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
