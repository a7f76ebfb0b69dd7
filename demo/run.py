"""The demo: Fill Gap and Refine Jitter on a take in headless Blender, compared with what was there before.

    scripts/demo [--input FILE.bvh|.fbx|.glb] [--out DIR] [--gap FRAMES] [--start FRAME]

Runs in a Python with the ``bpy`` wheel. The engine computes in its worker process, as it does for the extension.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the add-on runs from the checkout
os.environ.setdefault("MMDM_PYTHON", sys.executable)

import bpy  # noqa: E402
import figures  # noqa: E402
import numpy as np  # noqa: E402

import mmdm_addon  # noqa: E402
from mmdm_addon import compat  # noqa: E402
from mmdm_addon.rig.read import read  # noqa: E402
from mmdm_addon.rig.write import write  # noqa: E402
from mmdm_engine import Motion, MotionError, bvh, evaluate  # noqa: E402
from mmdm_engine.kinematics import joint_positions  # noqa: E402
from mmdm_engine.metrics import Score  # noqa: E402

CLIP = HERE / "walk_turn_wave.bvh"
MARGIN = 15
"""Frames that stay on each side of the gap, at least."""


def import_take(path: Path) -> bpy.types.Object:
    """The armature with the most bones that the file brings, in a scene at the file's frame rate."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    kind = path.suffix.lower()
    if not path.is_file():
        raise MotionError(f"There is no file {path}; check the path.")
    if kind == ".bvh":
        scale, _ = bvh.infer_scale(bvh.read(path).hierarchy)
        bpy.ops.import_anim.bvh(
            filepath=str(path), global_scale=scale, update_scene_fps=True, update_scene_duration=True
        )
    elif kind == ".fbx":
        bpy.ops.import_scene.fbx(filepath=str(path))
    elif kind in (".glb", ".gltf"):
        bpy.ops.import_scene.gltf(filepath=str(path))
    else:
        raise MotionError(f"{path.name} is not a .bvh, .fbx, .glb or .gltf file; convert it to one of these.")
    armatures = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    if not armatures:
        raise MotionError(f"{path.name} holds no armature; choose a file with a character.")
    armature = max(armatures, key=lambda o: len(o.data.bones))
    if not compat.action_animates(armature):
        raise MotionError(f"The armature in {path.name} has no animation; choose a file with a take.")
    bpy.context.view_layer.objects.active = armature
    for bone in armature.pose.bones:
        compat.select(bone, True)
    return armature


def in_metres(armature: bpy.types.Object, frames: np.ndarray) -> Motion:
    """The take as read; a file in wrong units gets a scene scale, a power of ten, that makes a human of its figure."""
    motion = read(bpy.context, armature, frames).motion
    power = round(np.log10(0.82 / motion.skeleton.leg_length))
    if power:
        bpy.context.scene.unit_settings.scale_length *= 10.0**power
        say(f"legs of {motion.skeleton.leg_length:.3g} m: the scene's unit scale is multiplied by {10.0**power:g}")
        motion = read(bpy.context, armature, frames).motion
    return motion


def liveliest(motion: Motion, length: int) -> int:
    """Where a gap of this length hides the most movement; the margin stays on both sides."""
    last = len(motion) - MARGIN - length
    if last < MARGIN:
        raise MotionError(
            f"The take has {len(motion)} frames, too few for a gap of {length} with {MARGIN} on each side; "
            "choose a longer take or a smaller --gap."
        )
    steps = np.linalg.norm(np.diff(joint_positions(motion), axis=0), axis=-1).mean(axis=1)
    inside = np.convolve(steps, np.ones(length), mode="valid")
    return MARGIN + int(inside[MARGIN : last + 1].argmax())


def copied(armature: bpy.types.Object, name: str) -> None:
    """Assign a copy of the armature's action."""
    armature.animation_data.action.use_fake_user = True
    action, slot = compat.copy_action(armature.animation_data.action, compat.assigned_slot(armature), name)
    compat.assign(armature, action, slot)


def delete_keys(armature: bpy.types.Object, first: float, last: float) -> int:
    """Delete every key strictly between two frames; how many."""
    deleted = 0
    for curve in compat.curves(armature.animation_data.action, compat.assigned_slot(armature)):
        points = curve.keyframe_points
        inside = [p for p in points if first + 1e-3 < p.co.x < last - 1e-3]
        deleted += len(inside)
        for point in reversed(inside):
            points.remove(point, fast=True)
        curve.update()
    return deleted


def operate(name: str, **settings: float) -> float:
    """Run one of the add-on's operators; the seconds it took."""
    begun = time.perf_counter()
    try:
        outcome = getattr(bpy.ops.mmdm, name)(**settings)
    except RuntimeError as error:  # how Blender passes on an operator's error
        raise MotionError(str(error).removeprefix("Error: ").strip()) from None
    if outcome != {"FINISHED"}:
        raise MotionError(f"mmdm.{name} did not finish: {bpy.context.window_manager.mmdm.message}")
    return time.perf_counter() - begun


def export(armature: bpy.types.Object, path: Path, frames: np.ndarray) -> None:
    """The armature's present motion by Blender's own BVH exporter."""
    bpy.ops.export_anim.bvh(filepath=str(path), frame_start=int(frames[0]), frame_end=int(frames[-1]))
    say(f"wrote {path}")


def say(text: str = "") -> None:
    """Print at once, in order with what Blender prints."""
    print(text, flush=True)


def table(title: str, rows: Mapping[str, Mapping[str, Score]]) -> None:
    """MPJPE and angles of every method."""
    say(f"\n{title}")
    say(f"  {'':26}{'MPJPE, mm':>12}{'angle, °':>12}{'leaf angle, °':>15}")
    for name, scores in rows.items():
        values = [scores[k].value for k in ("mpjpe_mm", "angle_deg", "leaf_angle_deg")]
        say(f"  {name:26}{values[0]:12.1f}{values[1]:12.2f}{values[2]:15.2f}")


def fill_part(armature: bpy.types.Object, truth: Motion, frames: np.ndarray, gap: tuple[int, int]) -> dict[str, Motion]:
    """Delete the gap's keys and fill them; every method's motion."""
    start, stop = gap
    borders = float(frames[start - 1]), float(frames[stop])
    copied(armature, "with a hole")
    deleted = delete_keys(armature, *borders)
    say(f"deleted {deleted} keys strictly between frames {borders[0]:g} and {borders[1]:g}")
    seconds = operate("fill_gap", frame_start=round(borders[0]), frame_end=round(borders[1]))
    say(f"mmdm.fill_gap: {seconds:.1f} s, the start of the engine included")
    ours = read(bpy.context, armature, frames).motion
    window = slice(start - MARGIN, stop + MARGIN)
    fills: dict[str, Motion] = {}
    for name, method in (("interpolation", "interpolation"), ("Bézier", "bezier")):
        hole = truth.slice(window.start, window.stop)
        filled = evaluate.FILLERS[method]([hole], start=MARGIN, stop=MARGIN + stop - start, keep=[])[0]
        rotations, root = truth.rotations.copy(), truth.root.copy()
        rotations[window], root[window] = filled.rotations, filled.root
        fills[name] = truth.with_frames(rotations, root)
    return {**fills, "ours": ours}


def refine_part(armature: bpy.types.Object, truth: Motion, frames: np.ndarray, seed: int) -> tuple[Motion, Motion]:
    """Shake the take and refine it: (with jitter, refined)."""
    take = read(bpy.context, armature, frames)
    noisy = evaluate.add_noise(truth, seed)
    write(
        bpy.context, armature, take, noisy, changed=np.ones((len(frames), 23), bool), bones=None, name="with jitter",
        start=frames[0], end=frames[-1], style="REFINE",
    )  # fmt: skip
    noisy = read(bpy.context, armature, frames).motion
    seconds = operate("refine_jitter", frame_start=round(frames[0]), frame_end=round(frames[-1]))
    say(f"mmdm.refine_jitter: {seconds:.1f} s for {len(frames)} frames, {len(frames) / seconds:.0f} frames/s")
    return noisy, read(bpy.context, armature, frames).motion


def demonstrate(args: argparse.Namespace) -> None:
    """The whole demo."""
    args.out.mkdir(parents=True, exist_ok=True)
    armature = import_take(args.input)
    source, slot = armature.animation_data.action, compat.assigned_slot(armature)
    first, last = (round(f) for f in source.frame_range)
    frames = np.arange(first, last + 1, dtype=float)
    truth = in_metres(armature, frames)
    say(f"{args.input.name}: {len(frames)} frames at {truth.fps:g} fps, {len(armature.data.bones)} bones")

    start = liveliest(truth, args.gap) if args.start is None else args.start - first
    stop = start + args.gap
    if start < MARGIN or stop > len(truth) - MARGIN:
        raise MotionError(f"The gap must leave {MARGIN} frames on each side; choose another --start or --gap.")
    fills = fill_part(armature, truth, frames, (start, stop))
    stem = args.out / args.input.stem
    export(armature, stem.with_name(f"{stem.name}_filled.bvh"), frames)
    filled, filled_slot = armature.animation_data.action, compat.assigned_slot(armature)

    compat.assign(armature, source, slot)
    noisy, refined = refine_part(armature, truth, frames, args.seed)
    export(armature, stem.with_name(f"{stem.name}_refined.bvh"), frames)
    compat.assign(armature, filled, filled_slot)

    near = slice(start - MARGIN, stop + MARGIN)
    holes = {
        name: evaluate.gap_figures(
            [truth.slice(near.start, near.stop)], [motion.slice(near.start, near.stop)], MARGIN, MARGIN + args.gap,
            evaluate.LAFAN1_DEVIATION,
        )
        for name, motion in fills.items()
    }  # fmt: skip
    table(f"Fill Gap, {args.gap} frames: error in the gap", holes)
    filters = {f"{f.kind} filter": f([noisy])[0] for f in evaluate.TUNED}
    figures_of = {name: evaluate.clean_figures([truth], [motion]) for name, motion in filters.items()}
    best = min(filters, key=lambda name: figures_of[name]["mpjpe_mm"].value)
    shaken = {
        "with jitter": evaluate.clean_figures([truth], [noisy]), best: figures_of[best],
        "ours": evaluate.clean_figures([truth], [refined]),
    }  # fmt: skip
    table("Refine Jitter, 5° a joint and axis, 2 cm root: error beside the best of four tuned filters", shaken)

    picture = stem.with_name(f"{stem.name}_before_after.png")
    errors = [f"{holes[m]['mpjpe_mm'].value:.0f} mm, {holes[m]['angle_deg'].value:.1f}°" for m in ("Bézier", "ours")]
    figures.before_and_after(
        picture, truth, (start, stop), fills, noisy, {best: filters[best], "refined": refined}, errors, first
    )
    say(f"\nwrote {picture}")
    blend = stem.with_suffix(".blend")
    for action in bpy.data.actions:
        action.use_fake_user = True
    bpy.context.preferences.filepaths.save_version = 0
    bpy.ops.wm.save_as_mainfile(filepath=str(blend.resolve()), check_existing=False)
    say(f"wrote {blend} with {len(bpy.data.actions)} actions")
    if args.input == CLIP:
        say("The bundled clip was in-betweened by the same prior from key poses of our own: its figures illustrate.")
    else:
        say("One take illustrates.")
    say("To measure: python -m mmdm_engine evaluate inbetween --data PACK.npz (and evaluate refine)")


def main() -> int:
    """Exit status; failures are one sentence."""
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Fill Gap and Refine Jitter on one take.")
    parser.add_argument("--input", type=Path, default=CLIP, help="BVH, FBX or glTF take (default: the bundled clip)")
    parser.add_argument(
        "--out", type=Path, default=Path("output/demo"), help="folder for results (default: %(default)s)"
    )
    parser.add_argument("--gap", type=int, default=30, help="frames to delete and fill again (default: %(default)s)")
    parser.add_argument("--start", type=int, help="first of these frames (default: where the take moves most)")
    parser.add_argument("--seed", type=int, default=0, help="of the jitter (default: %(default)s)")
    args = parser.parse_args()
    mmdm_addon.register()
    try:
        demonstrate(args)
    except MotionError as error:
        say(f"error: {error}")
        return 1
    finally:
        mmdm_addon.unregister()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without Blender's own clean-up, which crashes at interpreter exit in some versions
