"""Capture on made-up cameras: the error through every stage, and where the pipeline's thresholds come from.

    python benchmarks/capture.py --data val.npz                                    # stages, speed
    python benchmarks/capture.py --data val.npz --completion a.safetensors --refinement b.safetensors
    python benchmarks/capture.py --data val.npz --tune reach                       # one threshold, other values of it
    python benchmarks/capture.py --data val.npz --filters                          # the filter that refines best
    python benchmarks/capture.py --data val.npz --armatures                        # Refine Jitter on what was captured

Clips of the pack stand close to each other before four to eight cameras; detections err as a detector's do
(`mmdm_engine/capture/synthetic.py`). Limbs (PCP) count when the mean error of their ends is at most half their length;
before completion a joint that was not found is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from mmdm_engine import Motion, MotionError, baselines, kinematics, refine  # noqa: E402
from mmdm_engine.capture import bones, clean, matching, pipeline, sides, synthetic, tracking, triangulation, weights  # noqa: E402
from mmdm_engine.capture.accuracy import accuracy  # noqa: E402
from mmdm_engine.capture.body import points  # noqa: E402
from mmdm_engine.capture.clean import FILTER, Priors  # noqa: E402
from mmdm_engine.capture.result import Person  # noqa: E402
from mmdm_engine.capture.synthetic import Scene, SceneRecording  # noqa: E402
from mmdm_engine.contract.skeleton import INDEX  # noqa: E402
from mmdm_engine.evaluate import machine  # noqa: E402
from mmdm_engine.joint_sets import CAPTURE15  # noqa: E402
from mmdm_engine.pack import Pack  # noqa: E402

CAMERAS = (4, 5, 6, 8)
Found = tuple[Scene, list[tuple[int, pipeline.Points]]]

THRESHOLDS: dict[str, tuple[object, str, tuple[float, ...]]] = {
    "reach": (triangulation, "REACH", (0.05, 0.075, 0.1, 0.15, 0.2)),
    "gate": (matching, "GATE", (0.15, 0.2, 0.25, 0.3, 0.4)),
    "margin": (sides, "MARGIN", (0.03, 0.06, 0.12, 1.0)),
    "same": (pipeline, "SAME_PERSON", (0.1, 0.15, 0.2, 0.3)),
    "track": (tracking, "GATE", (0.2, 0.3, 0.4)),
    "limit": (weights, "LIMIT", (0.6, 0.9, 1.2, 1.5, 2.0, 3.0)),
    "unit": (weights, "UNIT", (0.05, 0.1, 0.2)),
}
"""What ``--tune`` knows: the module and the name of a threshold, and values to try."""


def scenes(pack: Pack, count: int, frames: int, seed: int) -> list[Scene]:
    """``count`` scenes of four people, with each number of cameras in turn."""
    return [
        synthetic.scene(pack, cameras=CAMERAS[i % len(CAMERAS)], frames=frames, seed=seed + i) for i in range(count)
    ]  # fmt: skip


def find(scene: Scene) -> Found:
    """Everybody in a scene, before any prior."""
    return scene, pipeline.people(scene.cameras, SceneRecording(scene), scene.fps)[0]


def figures(people: list[list[tuple[int, np.ndarray]]], all_scenes: list[Scene]) -> dict[str, float]:
    """Mean accuracy over scenes."""
    rows = [asdict(accuracy(p, s)) for p, s in zip(people, all_scenes, strict=True)]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def cleaned(found: list[Found], priors: Priors) -> list[list[Person]]:
    """Everybody of every scene, whole."""
    return [[clean.clean(first, p, scene.fps, priors) for first, p in people] for scene, people in found]


def stages(found: list[Found], priors: Priors) -> dict[str, dict[str, float]]:
    """Figures captured, completed, refined."""
    everything = [scene for scene, _ in found]
    whole = cleaned(found, replace(priors, refinement=None))

    def positions(people: list[list[Person]]) -> list[list[tuple[int, np.ndarray]]]:
        return [[(p.first, p.positions) for p in scene] for scene in people]

    captured = [[(first, p.positions) for first, p in people] for _, people in found]
    final = [
        [(p.first, clean.refined(p.positions, scene.fps, priors)) for p in people]
        for people, scene in zip(whole, everything, strict=True)
    ]
    return {
        "captured": figures(captured, everything),
        "completed": figures(positions(whole), everything),
        "refined": figures(final, everything),
    }


def tune(name: str, all_scenes: list[Scene]) -> dict[str, dict[str, float]]:
    """Figures after completion for other values of one threshold."""
    module, constant, values = THRESHOLDS[name]
    chosen = getattr(module, constant)
    rows = {}
    for value in values:
        setattr(module, constant, value)
        label = f"{constant} {value:g}" + (" (chosen)" if value == chosen else "")
        rows[label] = stages([find(scene) for scene in all_scenes], Priors(refinement=None))["completed"]
    setattr(module, constant, chosen)
    return rows


def best_filter(kind: str, error: Callable[[Priors], float]) -> tuple[str, dict[str, float]]:
    """The setting of a kind of filter with the smallest error (mm), as a row."""
    tried = [(error(Priors(refinement=baselines.Filter(kind, s, s))), s) for s in baselines.grid(kind)]
    value, settings = min(tried, key=lambda item: item[0])
    return f"{kind} {settings}", {"mpjpe_mm": value}


def filters(found: list[Found]) -> dict[str, dict[str, float]]:
    """The best setting of every kind of filter: on captured people, and on the truth with noise of 5 and 10 cm."""
    everything = [scene for scene, _ in found]
    whole = cleaned(found, Priors(refinement=None))
    fps = everything[0].fps
    truth = np.concatenate([points(scene.truth) for scene in everything])
    rng = np.random.default_rng(0)
    noisy = {f"noise {100 * n:g} cm": truth + n * rng.standard_normal(truth.shape) for n in (0.05, 0.10)}

    def on_captured(priors: Priors) -> float:
        refined = [[(p.first, clean.refined(p.positions, fps, priors)) for p in people] for people in whole]
        return figures(refined, everything)["mpjpe_mm"]

    def on_noise(name: str) -> Callable[[Priors], float]:
        def error(priors: Priors) -> float:
            out = [clean.refined(person, fps, priors) for person in noisy[name]]
            return float(1000 * np.linalg.norm(np.stack(out) - truth, axis=-1).mean())

        return error

    rows = {}
    for kind in baselines.FILTERS:
        for name, error in {"captured": on_captured, **{n: on_noise(n) for n in noisy}}.items():
            label, row = best_filter(kind, error)
            rows[f"{name}, {label}"] = row
    return rows


def armatures(found: list[Found], priors: Priors) -> dict[str, dict[str, float]]:
    """Limb joints of armatures as imported, after `refine`, and after `refine` that is told the capture's confidence.

    Millimetres and millimetres per frame²; made_up_mm: joints that the capture had hidden. Ghosts are left out.
    """
    limbs = [name for name in CAPTURE15.names if name in INDEX and name != "head"]
    points_of, joints_of = [CAPTURE15.names.index(n) for n in limbs], [INDEX[n] for n in limbs]

    def limb_joints(motion: Motion) -> np.ndarray:
        arrays = (motion.rotations, motion.root, motion.skeleton.offsets)
        return kinematics.positions(*(a.astype(np.float64) for a in arrays))[:, joints_of]

    errors: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for (scene, _), people in zip(found, cleaned(found, priors), strict=True):
        for person in people:
            motion = bones.armature(person, scene.fps)
            there = points(scene.truth)[:, person.first : person.first + len(person), points_of]
            far = np.linalg.norm(there - person.positions[:, points_of], axis=-1).mean(axis=(1, 2))
            if far.min() > pipeline.SAME_PERSON:
                continue
            truth = there[far.argmin()]
            told = {
                "armature": motion,
                "refined": refine(motion),
                "refined, confidence told": refine(motion, captured=bones.confidence(person)),
            }
            for name, result in told.items():
                off = limb_joints(result) - truth
                hidden = ~person.visible[:, points_of]
                lengths = (np.linalg.norm(x, axis=-1) for x in (off, off[hidden], np.diff(off, 2, axis=0)))
                errors.setdefault(name, []).append(tuple(lengths))
    columns = ("mpjpe_mm", "made_up_mm", "accel_mm")
    return {
        name: {
            column: 1000 * float(np.concatenate([row[i].ravel() for row in rows]).mean())
            for i, column in enumerate(columns)
        }
        for name, rows in errors.items()
    }


def speed(scene: Scene, priors: Priors) -> dict[str, float]:
    """Frames for each second of processor time, all cores' together, without reading files."""
    begun = time.process_time()
    found = find(scene)
    middle = time.process_time()
    cleaned([found], priors)
    frames, end = scene.truth.shape[1], time.process_time()
    return {"captured": frames / (middle - begun), "captured_and_cleaned": frames / (end - begun)}


def show(rows: dict[str, dict[str, float]]) -> None:
    """A Markdown table."""
    columns = list(next(iter(rows.values())))
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[c]:.2f}" for c in columns) + " |")


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pack of motions")
    parser.add_argument("--scenes", type=int, default=8, help="number of scenes (%(default)s)")
    parser.add_argument("--frames", type=int, default=125, help="frames of each, 25 a second (%(default)s)")
    parser.add_argument("--seed", type=int, default=100, help="of the first scene (%(default)s)")
    parser.add_argument("--completion", help="position prior; default: interpolation")
    parser.add_argument("--refinement", default="filter", help="position prior, or filter (default)")
    parser.add_argument("--steps", type=int, default=clean.STEPS, help="sampling steps of the priors (%(default)s)")
    parser.add_argument("--tune", choices=list(THRESHOLDS), help="try other values of a threshold")
    parser.add_argument("--filters", action="store_true", help="find the best filter")
    parser.add_argument("--armatures", action="store_true", help="refine armatures, with and without confidence")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    priors = Priors(args.completion, FILTER if args.refinement == "filter" else args.refinement, args.steps)
    try:
        everything = scenes(Pack.load(args.data), args.scenes, args.frames, args.seed)
        rates = {}
        if args.tune:
            rows = tune(args.tune, everything)
        else:
            found = [find(scene) for scene in everything]
            kind = filters if args.filters else partial(armatures if args.armatures else stages, priors=priors)
            rows = kind(found)
            rates = {} if args.filters or args.armatures else speed(everything[1], priors)
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    conditions = {
        "scenes": args.scenes, "frames": args.frames, "cameras": CAMERAS, "people": 4, "seed": args.seed,
        "data": args.data.name, "completion": args.completion or "interpolation", "refinement": args.refinement,
        "machine": machine(), "date": date.today().isoformat(),
    }  # fmt: skip
    if args.json:
        json.dump({**conditions, "rows": rows, "frames_per_second": rates}, sys.stdout)
        sys.stdout.write("\n")
        return 0
    show(rows)
    if rates:
        print(f"\n4 people, 5 cameras, frames for a second of one core: {rates['captured']:.0f} captured, ", end="")
        print(f"{rates['captured_and_cleaned']:.0f} captured and cleaned")
    print("\n" + " · ".join(f"{key} {value}" for key, value in conditions.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
