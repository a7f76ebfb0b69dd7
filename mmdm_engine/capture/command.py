"""``python -m mmdm_engine capture``: detections of several cameras → people as ``.npz`` and BVH."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import get_args

EXAMPLE = """example:
  python -m mmdm_engine capture calibration.json detections/ out/ --fps 25
  python -m mmdm_engine capture calibration/ detections/ out/ --fps 30 --scale 0.001 --up z --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``capture``."""
    from .cameras import Up

    parser.epilog = EXAMPLE
    parser.add_argument(
        "calibration", type=Path, help="JSON, Pose2Sim toml, OpenCV yml, or a folder of intri.yml and extri.yml"
    )
    parser.add_argument("detections", type=Path, help="folder with a folder or zip of OpenPose JSON for each camera")
    parser.add_argument("output", type=Path, help="folder for capture.json, person_1.npz, person_1.bvh and so on")
    parser.add_argument("--fps", type=float, required=True, help="frames a second of the cameras")
    parser.add_argument("--scale", type=float, default=1.0, help="metres per unit of the calibration (default 1)")
    parser.add_argument(
        "--up", choices=get_args(Up), default="auto", help="the calibration's vertical axis (default: the cameras' own)"
    )
    parser.add_argument(
        "--completion", help="position prior that makes up hidden joints, by name or path (default: interpolation)"
    )
    parser.add_argument(
        "--refinement", default="filter", help="position prior by name or path, filter (default) or none"
    )
    parser.add_argument("--steps", type=int, help="sampling steps of the priors")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    parser.add_argument("--no-bvh", action="store_true", help="write no armatures")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(args: argparse.Namespace) -> int:
    """Capture and write; the exit status."""
    from ..cli import progress_bar
    from . import cameras, detections, files, pipeline
    from .clean import FILTER, STEPS, Priors

    rig = cameras.load(args.calibration, scale=args.scale, up=args.up)
    recording = detections.find(args.detections, [c.name for c in rig])
    refinement = {"filter": FILTER, "none": None}.get(args.refinement, args.refinement)
    priors = Priors(args.completion, refinement, STEPS if args.steps is None else args.steps, args.device)
    begun = time.perf_counter()
    with progress_bar("Capturing", args.json) as progress:
        capture = pipeline.capture(rig, recording, args.fps, priors=priors, progress=progress)
    seconds = time.perf_counter() - begun
    about = files.save(capture, args.output, bvh=not args.no_bvh)
    if args.json:
        json.dump({**about, "output": str(args.output), "seconds": seconds}, sys.stdout)
        sys.stdout.write("\n")
        return 0
    for note in capture.notes:
        print(f"note: {note}", file=sys.stderr)
    pixels = ", ".join(f"{c.name} {px:.1f}" for c, px in zip(capture.cameras, capture.reprojection, strict=True))
    print(
        f"{len(capture.people)} people in {len(capture.frames)} frames written to {args.output} "
        f"({seconds:.1f} s; reprojection in pixels: {pixels})"
    )
    return 0
