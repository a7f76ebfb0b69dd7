"""The command line: ``python -m mmdm_engine COMMAND …``.

Fill, refine and complete live here; a long command is a module with ``add_arguments(parser)`` and
``run(args) -> int``, imported only when it is asked for, so that help costs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from .contract import JOINTS, Motion, MotionError
from .cores import spare_the_cores
from .exchange import add_export_arguments, add_import_arguments, run_export, run_import
from .priors.selection import PARTS

PROGRAM = "python -m mmdm_engine"


@dataclass(frozen=True)
class Command:
    """One word of the command line.

    example: its arguments in use, unless the module shows its own. module: where ``add_arguments`` and ``run`` are;
    own: the pair itself.
    """

    summary: str
    example: str = ""
    module: str = ""
    own: tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]] | None = None

    def parts(self) -> tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]:
        """(add_arguments, run)."""
        if self.own:
            return self.own
        module = import_module(self.module, __package__)
        return module.add_arguments, module.run


@contextmanager
def progress_bar(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for the usual ``progress(done, of)``; shows nothing where nobody watches."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _frames(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"frame numbers with commas were expected, like 45,50, not {text}") from None


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, metavar="IN.bvh")
    parser.add_argument("output", type=Path, metavar="OUT.bvh")
    parser.add_argument("--joints", type=_names, help=f"only these, with commas: {', '.join([*PARTS, *JOINTS])}")
    parser.add_argument("--scale", type=float, help="metres per unit of the file (default: inferred, and printed)")
    parser.add_argument("--prior", help="name or path of a prior (default: the shipped one)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    parser.add_argument("--no-foot-lock", action="store_true", help="leave standing feet as the model puts them")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {"joints": args.joints, "lock_feet": not args.no_foot_lock, "prior": args.prior, "device": args.device}


def _load(args: argparse.Namespace) -> Motion:
    from . import load_bvh

    if args.scale is not None and not args.scale > 0:
        raise MotionError(f"--scale must be a positive number of metres, not {args.scale:g}.")
    return load_bvh(args.input, scale=args.scale)


def _save(motion: Motion, path: Path, like: Path, style: Literal["fill", "refine"]) -> None:
    from . import save_bvh

    save_bvh(motion, path, like=like, style=style)


def _finish(args: argparse.Namespace, motion: Motion, report: dict[str, Any], sentence: str) -> int:
    report |= {"input": str(args.input), "frames": len(motion), "fps": motion.fps}
    report["leg_length_m"] = round(motion.skeleton.leg_length, 4)
    if args.json:
        json.dump(report, sys.stdout)
        sys.stdout.write("\n")
    else:
        scale = f"{motion.skeleton.leg_length:.2f} m legs, {len(motion)} frames at {motion.fps:g} fps"
        print(f"{sentence} ({scale}; {report['seconds']:.1f} s)")
    return 0


def add_fill_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``fill``'s arguments."""
    _common(parser)
    parser.add_argument("--start", type=int, required=True, help="the first frame to make up, counted from 0")
    parser.add_argument("--stop", type=int, required=True, help="the first good frame after it")
    parser.add_argument("--keep", type=_frames, help="frames inside that are kept exactly, with commas")
    parser.add_argument("--takes", type=int, default=1, help="how many different ones to write (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the takes after the first (default 0)")
    parser.add_argument("--label", default="", help="what is done, in a word: walk, dance …")
    parser.add_argument("--one-sided", action="store_true", help="allow a gap that reaches an end of the take")
    parser.add_argument(
        "--trial", action="store_true", help="try it out on this take first, say what error to expect, blend if it pays"
    )


def run_fill(args: argparse.Namespace) -> int:
    """Fill the gap and write OUT.bvh, further takes as OUT_2.bvh and so on."""
    from . import fill_gap

    if args.takes < 1:
        raise MotionError(f"--takes must be at least 1, not {args.takes}.")
    motion, options = _load(args), _options(args)
    lock_feet = options.pop("lock_feet")
    asked = {**options, "keep": args.keep, "label": args.label}
    begun = time.perf_counter()
    with progress_bar("Filling", args.json) as progress:
        takes = fill_gap(
            motion, args.start, args.stop, takes=args.takes, seed=args.seed, one_sided=args.one_sided,
            lock_feet=lock_feet and not args.trial, progress=progress, **asked,
        )  # fmt: skip
    found = None
    if args.trial:
        from . import blended, trial

        found = trial(motion, args.start, args.stop, **asked)
        takes = [blended(take, found, lock_feet=lock_feet) for take in takes]
    seconds = time.perf_counter() - begun
    paths = [args.output.with_stem(f"{args.output.stem}_{i + 1}") if i else args.output for i in range(len(takes))]
    for take, path in zip(takes, paths, strict=True):
        _save(take, path, args.input, "fill")
    report = {"takes": [str(p) for p in paths], "start": args.start, "stop": args.stop, "seconds": seconds}
    report["kept"] = args.keep or []
    sentence = f"Frames {args.start} to {args.stop - 1} filled in {', '.join(map(str, paths))}"
    if found:
        report["trial"] = found.report()
        sentence += f"; {found.sentence}"
    return _finish(args, motion, report, sentence)


def add_refine_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``refine``'s arguments."""
    _common(parser)
    parser.add_argument("--start", type=int, default=0, help="the first frame to clean, counted from 0 (default 0)")
    parser.add_argument("--stop", type=int, help="the first frame that is left alone again (default: the end)")
    parser.add_argument(
        "--strength", type=float, default=1.0, help="0 changes nothing, 1 (default) is the whole effect"
    )


def run_refine(args: argparse.Namespace) -> int:
    """Remove jitter and write OUT.bvh."""
    import numpy as np

    from . import kinematics, refine

    motion = _load(args)
    begun = time.perf_counter()
    with progress_bar("Refining", args.json) as progress:
        clean = refine(motion, args.start, args.stop, strength=args.strength, progress=progress, **_options(args))
    seconds = time.perf_counter() - begun
    _save(clean, args.output, args.input, "refine")
    before, after = (kinematics.positions(m.rotations, m.root, m.skeleton.offsets) for m in (motion, clean))
    moved = float(1000 * np.linalg.norm(after - before, axis=-1).mean())
    report = {"output": str(args.output), "strength": args.strength, "seconds": seconds, "mean_change_mm": moved}
    return _finish(args, motion, report, f"Refined in {args.output}, joints moved by {moved:.1f} mm on average")


def add_complete_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``complete``'s arguments."""
    _common(parser)
    parser.add_argument("--start", type=int, default=0, help="the first frame to make up, counted from 0 (default 0)")
    parser.add_argument("--stop", type=int, help="the first good frame after it (default: the end)")
    parser.add_argument("--label", default="", help="what is done, in a word: walk, dance …")


def run_complete(args: argparse.Namespace) -> int:
    """Make up the chosen joints and write OUT.bvh."""
    import numpy as np

    from . import complete
    from .priors.selection import joint_columns

    if not args.joints:
        raise MotionError("Say which joints are to be made up, like --joints left_arm.")
    columns = joint_columns(args.joints)[:22]
    motion = _load(args)
    stop = len(motion) if args.stop is None else args.stop
    if not 0 <= args.start < stop <= len(motion):
        raise MotionError(
            f"The range from {args.start} to {stop} does not lie inside the take's {len(motion)} frames; "
            "choose a range inside it."
        )
    mask = np.zeros((len(motion), 22), bool)
    mask[args.start : stop] = columns
    options = {**_options(args), "label": args.label}
    del options["joints"]
    begun = time.perf_counter()
    with progress_bar("Completing", args.json) as progress:
        whole = complete(motion, mask, progress=progress, **options)
    seconds = time.perf_counter() - begun
    _save(whole, args.output, args.input, "fill")
    names = [JOINTS[j] for j in np.flatnonzero(columns)]
    report = {"output": str(args.output), "start": args.start, "stop": stop, "joints": names, "seconds": seconds}
    sentence = f"{', '.join(names)} made up in frames {args.start} to {stop - 1} of {args.output}"
    return _finish(args, whole, report, sentence)


COMMANDS: dict[str, Command] = {
    "fill": Command(
        "make up the frames of a gap in a BVH take",
        "take.bvh filled.bvh --start 30 --stop 60 --keep 45",
        own=(add_fill_arguments, run_fill),
    ),
    "refine": Command(
        "remove jitter from a BVH take", "take.bvh clean.bvh --strength 0.8", own=(add_refine_arguments, run_refine)
    ),
    "complete": Command(
        "make up joints of a BVH take from the rest of the body",
        "take.bvh whole.bvh --joints left_arm --start 30 --stop 90",
        own=(add_complete_arguments, run_complete),
    ),
    "detect": Command("list the problems of a BVH take", "take.bvh --json", module=".quality"),
    "import": Command(
        "make a BVH file of a .npy motion, such as text-to-motion tools write",
        "motion.npy motion.bvh --fps 20",
        own=(add_import_arguments, run_import),
    ),
    "export": Command(
        "make a .npy file of a BVH take: HumanML3D features, joint tokens or joint positions",
        "take.bvh take.npy --form features",
        own=(add_export_arguments, run_export),
    ),
    "capture": Command("make people of the 2-D detections of several cameras", module=".capture.command"),
    "evaluate": Command("measure a prior beside the baselines on a pack", module=".evaluate"),
    "train": Command("train a prior on a pack", module=".training.command"),
    "pack": Command("make a pack from a folder of BVH takes", "takes/ takes.npz", module=".pack"),
    "worker": Command("serve the engine to Blender over standard input and output", "--threads 2", module=".worker"),
}


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"usage: {PROGRAM} COMMAND …", "", "Clean-up of character animation by masked motion diffusion.", ""]
    lines += [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", f"{PROGRAM} COMMAND --help explains one of them."])


def _fail(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. Failures are one sentence on standard error, never a traceback."""
    spare_the_cores()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        from . import __version__

        print(__version__)
        return 0
    name = words[0]
    if name not in COMMANDS:
        _fail(f"there is no command {name}; there are {', '.join(COMMANDS)}.")
        return 2
    command = COMMANDS[name]
    try:
        add_arguments, run = command.parts()
        parser = argparse.ArgumentParser(
            prog=f"{PROGRAM} {name}",
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"example:\n  {PROGRAM} {name} {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(parser)
        return run(parser.parse_args(words[1:]))
    except MotionError as error:
        return _fail(str(error))
    except ImportError as error:
        return _fail(f"{name} needs a package that is not installed ({error}); run pip install -e . first.")
    except OSError as error:
        what = error.filename or "A file"
        return _fail(f"{what} cannot be used ({error.strerror or error}); check the path and its rights.")
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("MMDM_TRACEBACK"):
            raise
        what = " ".join(str(error).split())[:200]
        _fail(
            f"{name} met a fault in this program ({type(error).__name__}: {what}); "
            "please report it, with what it prints when the environment variable MMDM_TRACEBACK is 1."
        )
        return 70
