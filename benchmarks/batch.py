"""What a batch costs beyond the engine's own time, and whether its memory stays flat.

    python benchmarks/batch.py [--json] [--takes 10] [--frames 1000] [--jobs 1] [--format bvh]

Needs the ``bpy`` package, Linux's /proc, and a Python with torch for the engine (``MMDM_PYTHON``, else the one that
runs this). The takes are the demo clip walked to and fro with 2° of jitter on every channel of rotation.

engine alone   the requests of the run (detect, refine, detect for each take) sent to one warm worker that has the
               machine to itself
batch          the same takes through ``mmdm_addon/batch.py``, by the clock from the command to its end, start of
               Blender and of the engine included; ``work`` is the same without the two
waited         what the run's own jobs waited for their engines, one after the other; more than the engine alone where
               jobs share cores with each other, or the machine with others
processor      seconds of processor time a take; other people's load on the machine does not count in these
memory         of every process of the run after each take; ``growth`` compares the last quarter with the second
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from engine import Worker  # noqa: E402

from mmdm_engine import bvh, load_bvh  # noqa: E402
from mmdm_engine.evaluate import machine  # noqa: E402

BAR = 0.2
"""What a batch may add, as a share of the engine's own time."""
LOOK = 0.02
"""Seconds between two looks at a run."""
JITTER = 2.0
"""Degrees."""


def make(folder: Path, takes: int, frames: int) -> None:
    """Write the takes."""
    clip = bvh.read(ROOT / "demo" / "walk_turn_wave.bvh")
    last = len(clip.values) - 1
    turns = [c for j in range(len(clip.channels)) for c, _ in clip.columns(j, "rotation")]
    for i in range(takes):
        there_and_back = np.abs((np.arange(frames) + 17 * i) % (2 * last) - last)
        values = clip.values[there_and_back].copy()
        values[:, turns] += np.random.default_rng(i).normal(scale=JITTER, size=(frames, len(turns)))
        (folder / f"take{i:04}.bvh").write_text(replace(clip, values=values).text(), "utf-8")


def alone(folder: Path) -> dict[str, float]:
    """Seconds of the engine for all takes, by the clock and of processor time."""
    worker = Worker(threads=0)
    motions = [load_bvh(path) for path in sorted(folder.iterdir())]
    try:
        for method in ("detect", "refine"):
            worker.ask(method, motions[0].slice(0, 60), start=0, stop=60)
        used = processor(worker.process.pid)
        seconds = sum(
            worker.ask(method, motion, start=0, stop=len(motion))
            for motion in motions
            for method in ("detect", "refine", "detect")
        )
        return {"seconds": seconds, "processor": processor(worker.process.pid) - used}
    finally:
        worker.close()


def processor(process: int) -> float:
    """Seconds of processor time that a process has used, with what it waited for of its children."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")


def tree(root: int) -> dict[int, str]:
    """The process and all below it → what it is."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it ended between the two looks
            continue
    found, edge = {root: ""}, [root]
    while edge:
        edge = [child for child, parent in parents.items() if parent in edge]
        found |= dict.fromkeys(edge, "")
    for process in list(found):
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            del found[process]
            continue
        found[process] = "leader" if process == root else "engine" if b"batch.py" not in words else "Blender"
    return found


def resident(process: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def watched(folder: Path, out: Path, jobs: int, form: str) -> dict[str, Any]:
    """One run of the batch, with what its processes used."""
    script = str(ROOT / "mmdm_addon" / "batch.py")
    words = [sys.executable, script, str(folder), "--out", str(out), "--do", "detect,refine", "--jobs", str(jobs)]
    environment = {"MMDM_PYTHON": sys.executable, **os.environ}
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        run = subprocess.Popen([*words, "--format", form], env=environment, stdout=said, stderr=said)
        memory: dict[str, list[float]] = defaultdict(list)
        used: dict[int, tuple[str, float]] = {}
        records = 0
        while run.poll() is None:
            time.sleep(LOOK)
            now = sum(path.suffix == ".json" for path in (out / "ledger").glob("*")) if out.is_dir() else 0
            for process, kind in tree(run.pid).items() if now > records else ():
                try:
                    memory[f"{kind} {process}"].append(resident(process))
                    used[process] = (kind, processor(process))
                except (OSError, ValueError):
                    continue
            records = now
        seconds = time.perf_counter() - begun
        if run.returncode:
            said.seek(0)
            raise SystemExit(f"error: the batch ended with {run.returncode}:\n{said.read().decode()[-2000:]}")
    kinds = {kind for kind, _ in used.values()}
    return {
        "seconds": seconds,
        "processor": {kind: sum(s for k, s in used.values() if k == kind) for kind in sorted(kinds)},
        "memory_mib": {name: [round(x, 1) for x in row] for name, row in memory.items()},
    }


def growth(row: list[float]) -> float:
    """MiB between the second quarter of the run and the last; the first quarter is warming up."""
    quarter = max(1, len(row) // 4)
    return statistics.mean(row[-quarter:]) - statistics.mean(row[quarter : 2 * quarter])


def measure(takes: int, frames: int, jobs: int, form: str) -> dict[str, Any]:
    """All figures; seconds and MiB."""
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place, "takes"), Path(place, "out")
        folder.mkdir()
        make(folder, takes, frames)
        engine = alone(folder)
        batch = watched(folder, out, jobs, form)
        document = json.loads((out / "report.json").read_text("utf-8"))
    work = document["seconds"]
    waited = sum(file["seconds"]["engine"] for file in document["files"])
    return {
        "takes": takes,
        "frames": frames,
        "jobs": jobs,
        "format": form,
        "engine_alone_seconds": engine["seconds"],
        "engine_alone_processor": engine["processor"],
        "batch_seconds": batch["seconds"],
        "work_seconds": work,
        "added": batch["seconds"] / engine["seconds"] - 1,
        "added_without_start": work / engine["seconds"] - 1,
        "bar": BAR,
        "frames_per_second": takes * frames / batch["seconds"],
        "engine_waited": waited,
        "added_to_waited": work / waited - 1,
        "processor": batch["processor"],
        "memory_mib": batch["memory_mib"],
        "memory_growth_mib": {name: growth(row) for name, row in batch["memory_mib"].items() if len(row) > 3},
        "machine": machine(),
        "date": date.today().isoformat(),
    }


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--takes", type=int, default=10, help="how many (default %(default)s)")
    parser.add_argument("--frames", type=int, default=1000, help="of each take (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="Blender processes (default %(default)s)")
    parser.add_argument("--format", default="bvh", help="of the results (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    found = measure(max(1, args.takes), max(60, args.frames), max(1, args.jobs), args.format)
    if args.json:
        json.dump(found, sys.stdout)
        sys.stdout.write("\n")
        return 0
    each = {name: found[name] / found["takes"] for name in found if name.endswith(("_seconds", "_processor"))}
    print(
        f"{found['takes']} takes of {found['frames']} frames, jobs {found['jobs']}, {found['machine']}, {found['date']}"
    )
    rows = [
        ("engine alone", each["engine_alone_seconds"], ""),
        ("batch, all of it", each["batch_seconds"], f"{found['added']:+.0%} (bar {BAR:+.0%})"),
        ("batch without start", each["work_seconds"], f"{found['added_without_start']:+.0%}"),
        (
            "waited for engines",
            found["engine_waited"] / found["takes"],
            f"{found['added_to_waited']:+.0%} without start",
        ),
        ("processor, engine alone", each["engine_alone_processor"], ""),
    ]
    rows += [(f"processor, {kind}", seconds / found["takes"], "") for kind, seconds in found["processor"].items()]
    for title, seconds, words in rows:
        print(f"{title:24s} {seconds:7.3f} s a take  {words}")
    print(f"{found['frames_per_second']:.0f} frames per second")
    for name, row in found["memory_mib"].items():
        print(f"memory of {name} after each take, MiB: {' '.join(f'{x:.0f}' for x in row)}")
        print(f"    growth {found['memory_growth_mib'].get(name, 0):+.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
