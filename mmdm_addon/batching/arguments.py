"""What the user asked for on the command line."""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

STEPS = ("detect", "fill", "complete", "refine")
"""In the order in which they are done."""
USUAL = ("detect", "fill", "refine")
FORMATS = ("bvh", "fbx", "glb", "blend")
USUAL_JOBS = min(4, os.cpu_count() or 1)
"""Blender and the engine take turns in one job, so that two cores want two; each job takes about 700 MB."""


@dataclass(frozen=True)
class Settings:
    """One run.

    inputs: files and folders. do: of `STEPS`. format: "" = as each source. only: glob over the names of files, "" =
    all. part: (i, n) = every n-th file from the i-th; other processes, maybe elsewhere, do the others. report:
    do nothing but write the report. member: this process is one of several that share a run which another one leads.
    """

    inputs: tuple[Path, ...]
    out: Path
    do: tuple[str, ...] = USUAL
    format: str = ""
    jobs: int = USUAL_JOBS
    resume: bool = False
    dry_run: bool = False
    only: str = ""
    part: tuple[int, int] | None = None
    report: bool = False
    strength: float = 1.0
    lock_feet: bool = True
    member: bool = False

    @property
    def work(self) -> dict[str, object]:
        """What decides how results look, for the record."""
        return {
            name: value for name, value in asdict(self).items() if name in ("do", "format", "strength", "lock_feet")
        }

    @property
    def fingerprint(self) -> str:
        """Changes when results would look different."""
        return f"{zlib.crc32(json.dumps(self.work).encode()):08x}"

    def argv(self) -> list[str]:
        """The command line of a further process that shares this run."""
        words = [*map(str, self.inputs), "--out", str(self.out), "--do", ",".join(self.do)]
        words += ["--strength", repr(self.strength), "--member"]
        if self.format:
            words += ["--format", self.format]
        if self.only:
            words += ["--only", self.only]
        if self.part:
            words += ["--part", f"{self.part[0]}/{self.part[1]}"]
        if not self.lock_feet:
            words.append("--no-lock-feet")
        return words


def _steps(text: str) -> tuple[str, ...]:
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in wanted if word not in STEPS]
    if unknown or not wanted:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(STEPS)}, divided by commas, not {text!r}")
    return tuple(step for step in STEPS if step in wanted)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _part(text: str) -> tuple[int, int]:
    first, _, of = text.partition("/")
    if not (first.isdecimal() and of.isdecimal() and 1 <= int(first) <= int(of)):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, as 2/10, not {text!r}")
    return int(first), int(of)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most 1, not {text!r}")
    return value


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Clean up motion files: .bvh, .fbx, .glb, .gltf, .blend, or folders of them.",
        epilog=f"example: {program} takes --out cleaned --do detect,fill,refine --jobs 2. "
        "Exit status: 0 all done, 1 some files failed, 2 wrong arguments or no engine, 130 stopped.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="file or folder; folders with all in them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run: results and report")
    parser.add_argument(
        "--do", type=_steps, default=USUAL, metavar="STEPS",
        help=f"of {','.join(STEPS)} (default: {','.join(USUAL)})",
    )  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, default="", help="of the results (default: as each source)")
    parser.add_argument("--strength", type=_share, default=1.0, metavar="S", help="of refine, 0 to 1 (default: 1)")
    parser.add_argument("--no-lock-feet", dest="lock_feet", action="store_false", help="planted feet may move")
    parser.add_argument(
        "--jobs", type=_positive, default=USUAL_JOBS, metavar="N",
        help="so many Blenders at once (default: one per core, at most 4)",
    )  # fmt: skip
    parser.add_argument(
        "--only", default="", metavar="GLOB", help="only files whose name below IN fits, as 'day1/*.bvh'"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in DIR; what is done stays")
    parser.add_argument(
        "--part", type=_part, default=None, metavar="I/N",
        help="only every N-th file from the I-th; the other parts may run at the same time, on other machines, too",
    )  # fmt: skip
    parser.add_argument(
        "--report", action="store_true", help="only write the report of the run in DIR, as far as it is"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    parser.add_argument("--member", action="store_true", help=argparse.SUPPRESS)
    return parser


def parse(argv: Sequence[str], program: str) -> Settings:
    """Read the command line. Raises `SystemExit` (2 when it is wrong, 0 for --help), as argparse does."""
    parser = _parser(program)
    found = vars(parser.parse_args(list(argv)))
    settings = Settings(**{**found, "inputs": tuple(p.absolute() for p in found["inputs"])})
    for path in settings.inputs:
        if not path.exists():
            parser.error(f"there is no file or folder {path}")
    if settings.out.exists() and not settings.out.is_dir():
        parser.error(f"{settings.out} is a file; name a folder for --out")
    return Settings(**{**vars(settings), "out": settings.out.absolute()})
