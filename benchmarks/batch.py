"""What a batch costs beyond the engine's own time, and whether its memory stays flat.

    python benchmarks/batch.py [--json] [--takes 10] [--frames 1000] [--jobs 1] [--format bvh]

Needs the ``bpy`` package, Linux's /proc, and a Python with torch for the engine (``MMDM_PYTHON``, else the one that
runs this). The takes are the demo clip walked to and fro with 2° of jitter on every channel of rotation.

engine alone   the engine's own time: the requests of the run (detect, refine, detect for each take), one after the
               other, sent to one warm worker before the run begins
batch          the same takes through ``mmdm_addon/batch.py``, by the clock from the command to its end, all starts
               included; ``work`` is the same from the first file on, with jobs after the leader's start
free cores     the same on a machine without other load: the processor time of all processes over the cores that the
               jobs can use, against the processor time of the engine alone
waited         what the run's own jobs waited for their engines, one after the other; more than the engine alone where
               jobs share cores with each other, or the machine with others
processor      seconds of processor time a take once all have started, and of the starts
others         cores that other processes of the machine kept busy meanwhile: nothing by the clock holds where these
               and the jobs want more cores than there are
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
    """Seconds of the engine for all takes, by the clock and of processor time, and cores that others kept busy."""
    worker = Worker(threads=0)
    motions = [load_bvh(path) for path in sorted(folder.iterdir())]
    try:
        for method in ("detect", "refine"):
            worker.ask(method, motions[0].slice(0, 60), start=0, stop=60)
        used, worked = processor(worker.process.pid), busy()
        seconds = sum(
            worker.ask(method, motion, start=0, stop=len(motion))
            for motion in motions
            for method in ("detect", "refine", "detect")
        )
        used, worked = processor(worker.process.pid) - used, busy() - worked
        return {"seconds": seconds, "processor": used, "others": max(0.0, worked - used) / seconds}
    finally:
        worker.close()


def processor(process: int) -> float:
    """Seconds of processor time that a process has used itself."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")


def tree(root: int) -> dict[int, str]:
    """The process and all below it that live → what it is."""
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
            words = b""
        if not words:  # it has ended
            del found[process]
            continue
        found[process] = "leader" if process == root else "engine" if b"batch.py" not in words else "Blender"
    return found


def resident(process: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def busy() -> float:
    """Seconds that the cores of this machine have worked, for whomever."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle = int(words[3]) + int(words[4])
    return (sum(map(int, words[:8])) - idle) / os.sysconf("SC_CLK_TCK")


def watched(folder: Path, out: Path, jobs: int, form: str) -> dict[str, Any]:
    """One run of the batch, with what its processes used."""
    script = str(ROOT / "mmdm_addon" / "batch.py")
    words = [sys.executable, script, str(folder), "--out", str(out), "--do", "detect,refine", "--jobs", str(jobs)]
    environment = {"MMDM_PYTHON": sys.executable, **os.environ}
    begun, worked = time.perf_counter(), busy()
    with tempfile.TemporaryFile() as said:
        run = subprocess.Popen([*words, "--format", form], env=environment, stdout=said, stderr=said)
        memory: dict[str, list[float]] = defaultdict(list)
        used: dict[int, tuple[str, float]] = {}
        looks: list[tuple[int, dict[str, float]]] = []
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
            if now > records:
                looks.append((now, {k: sum(s for kind, s in used.values() if kind == k) for k, _ in used.values()}))
            records = now
        seconds = time.perf_counter() - begun
        if run.returncode:
            said.seek(0)
            raise SystemExit(f"error: the batch ended with {run.returncode}:\n{said.read().decode()[-2000:]}")
    used_in_all = sum(looks[-1][1].values())
    each = per_take(looks)
    return {
        "seconds": seconds,
        "processor_seconds": used_in_all,
        "processor": each,
        "processor_of_starts": used_in_all - records * sum(each.values()),
        "others": max(0.0, busy() - worked - used_in_all) / seconds,
        "memory_mib": {name: [round(x, 1) for x in row] for name, row in memory.items()},
    }


def per_take(looks: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Processor time of each kind of process a take, from what was used after so many takes; starts do not count."""
    (few, first), (many, last) = looks[len(looks) // 4], looks[-1]
    return {kind: (last[kind] - first.get(kind, 0.0)) / max(1, many - few) for kind in sorted(last)}


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
    cores = min(jobs, os.cpu_count() or 1)
    return {
        "takes": takes,
        "frames": frames,
        "jobs": jobs,
        "format": form,
        "engine_alone_seconds": engine["seconds"],
        "engine_alone_processor": engine["processor"],
        "engine_alone_others": engine["others"],
        "batch_seconds": batch["seconds"],
        "work_seconds": work,
        "added": batch["seconds"] / engine["seconds"] - 1,
        "added_without_start": work / engine["seconds"] - 1,
        "free_cores_seconds": batch["processor_seconds"] / cores,
        "added_on_free_cores": batch["processor_seconds"] / cores / engine["processor"] - 1,
        "bar": BAR,
        "frames_per_second": takes * frames / batch["seconds"],
        "engine_waited": waited,
        "added_to_waited": work / waited - 1,
        "processor": batch["processor"],
        "processor_of_starts": batch["processor_of_starts"],
        "others": batch["others"],
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
        ("engine alone", each["engine_alone_seconds"], f"others used {found['engine_alone_others']:.1f} cores"),
        ("batch, all of it", each["batch_seconds"], f"{found['added']:+.0%}, others used {found['others']:.1f} cores"),
        ("batch without start", each["work_seconds"], f"{found['added_without_start']:+.0%}"),
        ("batch on free cores", each["free_cores_seconds"], f"{found['added_on_free_cores']:+.0%} (bar {BAR:+.0%})"),
        (
            "waited for engines",
            found["engine_waited"] / found["takes"],
            f"{found['added_to_waited']:+.0%} without start",
        ),
        ("processor, engine alone", each["engine_alone_processor"], ""),
    ]
    rows += [(f"processor, {kind}", seconds, "") for kind, seconds in found["processor"].items()]
    for title, seconds, words in rows:
        print(f"{title:24s} {seconds:7.3f} s a take  {words}")
    print(f"processor of all starts {found['processor_of_starts']:.1f} s")
    print(f"{found['frames_per_second']:.0f} frames per second")
    for name, row in found["memory_mib"].items():
        print(f"memory of {name} after each take, MiB: {' '.join(f'{x:.0f}' for x in row)}")
        print(f"    growth {found['memory_growth_mib'].get(name, 0):+.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
