"""Filled gaps to look at: strips of poses and curves, truth beside interpolation and ours.

    python benchmarks/pictures.py --data val.npz --out pictures [--gap 30] [--count 12] [--prior FILE] [--json]

One window each of ``--count`` kinds of movement, the one in which most moves. A score cannot see popping knees, sliding
or floating feet, or a frozen middle; these pictures can. Prints what is drawn where, worst first, with each
window's errors and how far planted feet slide.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from demo.figures import GENERATED, METHODS, angle_from_rest, plt, strip  # noqa: E402
from mmdm_engine import Motion, MotionError, metrics  # noqa: E402
from mmdm_engine import rotations as rot  # noqa: E402
from mmdm_engine.contract.skeleton import INDEX  # noqa: E402
from mmdm_engine.evaluate import FILLERS, Window, cut  # noqa: E402
from mmdm_engine.evaluate.windows import CONTEXT, hide  # noqa: E402
from mmdm_engine.kinematics import joint_positions  # noqa: E402
from mmdm_engine.pack import Pack  # noqa: E402
from mmdm_engine.priors.inbetween import fill_gap  # noqa: E402

POSES = 9
CURVES = ("left_knee", "right_elbow")
FEET = [INDEX["left_foot"], INDEX["right_foot"]]


def liveliest(windows: list[Window], count: int) -> list[Window]:
    """Of each kind of movement the window in which the pose changes most, from the commonest kind on."""
    best: dict[str, tuple[float, Window]] = {}
    common: dict[str, int] = {}
    for window in windows:
        q = window.motion.rotations.astype(np.float64)
        moved = float(rot.angle(q[:-1], q[1:]).sum())
        common[window.category] = common.get(window.category, 0) + 1
        if moved > best.get(window.category, (-1.0, window))[0]:
            best[window.category] = (moved, window)
    kinds = sorted(best, key=lambda kind: -common[kind])[:count]
    return [best[kind][1] for kind in kinds]


def slide_mm(motion: Motion, truth: Motion, inside: slice) -> float:
    """Mean path per frame, along the floor, of feet that stand still in the truth; NaN where none does."""
    own, true = joint_positions(motion)[:, FEET], joint_positions(truth)[:, FEET]
    speed = np.linalg.norm(np.diff(true, axis=0), axis=-1) * truth.fps
    planted = (speed < 0.15 * truth.skeleton.leg_length)[inside]
    steps = np.linalg.norm(np.diff(own[..., [0, 2]], axis=0), axis=-1)[inside]
    return float(1000 * steps[planted].mean()) if planted.any() else float("nan")


def filled(window: Window, start: int, stop: int, prior: str | None) -> dict[str, Motion]:
    """The window's gap filled by interpolation and by the prior."""
    hidden = hide(window.motion, start, stop)
    ours = fill_gap(hidden, start, stop, prior=prior, device="cpu")[0]
    return {"interpolation": FILLERS["interpolation"]([hidden], start, stop, [])[0], "ours": ours}


def draw(path: Path, window: Window, fills: dict[str, Motion], start: int, stop: int) -> None:
    """Three strips of poses, two bends, and the height of both feet."""
    truth = window.motion
    frames = np.unique(np.linspace(start - 2, stop + 1, POSES).round().astype(int))
    kept = {int(f) for f in frames if not start <= f < stop}
    figure = plt.figure(figsize=(11, 10), layout="constrained")
    grid = figure.add_gridspec(4, 3, height_ratios=[1, 1, 1, 0.9])
    for row, (name, motion) in enumerate({"truth": truth, **fills}.items()):
        behind = None if motion is truth else truth
        strip(figure.add_subplot(grid[row, :]), f"{window.category}: {name}", motion, behind, frames, kept, 0)
    for column, joint in enumerate(CURVES):
        axis = figure.add_subplot(grid[3, column])
        for name, motion in {"truth": truth, **fills}.items():
            axis.plot(angle_from_rest(motion, joint), color=METHODS[name], label=name, linewidth=1.5)
        axis.set_title(f"{joint.replace('_', ' ')}, degrees", fontsize=9, loc="left")
    axis = figure.add_subplot(grid[3, 2])
    for name, motion in {"truth": truth, **fills}.items():
        heights = joint_positions(motion)[:, FEET, 1]
        axis.plot(heights[:, 0], color=METHODS[name], linewidth=1.5, label=name)
        axis.plot(heights[:, 1], color=METHODS[name], linewidth=1.5, linestyle=":")
    axis.set_title("height of left and (dotted) right foot, metres", fontsize=9, loc="left")
    for axis in figure.axes[3:]:
        axis.axvspan(start - 0.5, stop - 0.5, color=GENERATED, linewidth=0)
        axis.margins(x=0)
        axis.tick_params(labelsize=7)
    figure.axes[3].legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PACK.npz")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--gap", type=int, default=30, help="frames to fill (default %(default)s)")
    parser.add_argument("--fps", type=float, default=30.0, help="default %(default)g")
    parser.add_argument("--count", type=int, default=12, help="how many pictures (default %(default)s)")
    parser.add_argument("--prior", help="another in-betweening prior, by name or path")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    try:
        if args.gap < 2 or args.count < 1:
            raise MotionError("Give a --gap of at least two frames and a --count of at least one.")
        context = max(3, round(CONTEXT * args.fps))
        start, stop = context, context + args.gap
        windows = liveliest(cut(Pack.load(args.data), args.fps, args.gap + 2 * context, 400), args.count)
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MotionError(f"{args.out} cannot be made ({error.strerror}); choose another folder.") from error
        lines: list[dict[str, Any]] = []
        for window in windows:
            fills = filled(window, start, stop, args.prior)
            path = args.out / f"{''.join(c if c.isalnum() else '_' for c in window.category)}_{args.gap}.png"
            draw(path, window, fills, start, stop)
            inside = slice(start, stop)
            line: dict[str, Any] = {"kind": window.category, "picture": str(path)}
            for name, motion in {"truth": window.motion, **fills}.items():
                line[f"{name}_slide_mm"] = slide_mm(motion, window.motion, inside)
                if name != "truth":
                    places = [joint_positions(m)[None, inside] for m in (motion, window.motion)]
                    line[f"{name}_mpjpe_mm"] = metrics.mpjpe(*places).value
            lines.append(line)
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines.sort(key=lambda line: -line["ours_mpjpe_mm"] / line["interpolation_mpjpe_mm"])
    if args.json:
        print(json.dumps(lines))
        return 0
    for line in lines:
        ratio = line["ours_mpjpe_mm"] / line["interpolation_mpjpe_mm"]
        print(
            f"{line['picture']}: {line['ours_mpjpe_mm']:.0f} mm, {ratio:.2f} of interpolation; planted feet slide "
            f"{line['ours_slide_mm']:.1f} mm a frame (truth {line['truth_slide_mm']:.1f}, interpolation "
            f"{line['interpolation_slide_mm']:.1f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
