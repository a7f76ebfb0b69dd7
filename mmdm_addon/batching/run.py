"""A whole run: list the files, do each, keep a record of each, report."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

import bpy

from .. import registration, runtime
from ..engine_link import MotionError
from . import cleaning, crew, exporting, listing, report, takes
from .arguments import Settings, parse
from .engine import Engine, Stopped
from .ledger import Ledger
from .listing import Item
from .progress import Progress, spoken

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
"""Exit statuses."""
WAIT = 0.5
"""Seconds between two looks at files that other processes have claimed."""


def main(argv: Sequence[str], program: str = "python -m mmdm_addon.batch") -> int:
    """Run the batch; the exit status."""
    try:
        settings = parse(argv, program)
    except SystemExit as leave:  # argparse has said why
        return int(leave.code or 0)
    _asked_to_stop.clear()
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _run(settings)
    except (Stopped, KeyboardInterrupt):
        if not settings.member:
            print("Stopped; what is done stays. Go on with --resume.", file=sys.stderr, flush=True)
        return STOPPED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # Blender's own handler cannot be put back from Python


_asked_to_stop = threading.Event()


def _stop(*_: object) -> None:
    _asked_to_stop.set()  # inside an operator, Blender turns what is raised next into a failure of that operator
    raise KeyboardInterrupt


def _refuse(sentence: object) -> int:
    print(sentence, file=sys.stderr, flush=True)
    return USAGE


def _run(settings: Settings) -> int:
    strange = [path.name for path in listing.unreadable(settings)]
    kinds = ", ".join(listing.KINDS)
    if strange:
        return _refuse(f"{', '.join(strange)}: not one of {kinds}; convert the files or leave them out.")
    items = listing.items(settings)
    if not items:
        return _refuse(f"There is nothing to do: no file {settings.only or 'in the inputs'} is one of {kinds}.")
    ledger = Ledger(settings)
    if settings.report:
        return _report(settings, items, ledger)
    items = listing.share(items, settings)
    if not items:
        print("This part of the list is empty.", file=sys.stderr, flush=True)
        return DONE
    if settings.dry_run:
        return _rehearse(settings, items, ledger)
    if ledger.exists() and not (settings.resume or settings.member or settings.part):
        return _refuse(f"{settings.out} holds a run already; add --resume to go on with it, or choose another --out.")
    progress = Progress(len(items), quiet=settings.member)
    try:
        _prepare(items)
        ledger.create()
    except MotionError as error:
        return _refuse(error)
    except OSError as error:
        return _refuse(f"{settings.out} cannot be written ({error.strerror}); choose another --out.")
    if settings.member:
        return _join(items, ledger, settings, progress)
    return _lead(items, ledger, settings, progress)


def _prepare(items: list[Item]) -> None:
    if not hasattr(bpy.types.Scene, "mmdm"):
        registration.register()
    for kind in sorted({item.kind for item in items}):
        exporting.require_exporter(kind)
    runtime.find()


def _rehearse(settings: Settings, items: list[Item], ledger: Ledger) -> int:
    for item in items:
        record = ledger.record(item) if settings.resume else None
        done = "done already" if record and record["status"] == "done" else ", ".join(settings.do)
        print(f"{item.source} -> {ledger.results / item.result}  ({done})", flush=True)
    return DONE


def _join(items: list[Item], ledger: Ledger, settings: Settings, progress: Progress) -> int:
    """Take part in a run that another process leads; that one says what keeps the engine from starting."""
    leader = os.getppid()  # before the engine takes its time to start, meanwhile that one may be killed
    engine = Engine(progress.step)
    try:
        engine.start(settings.do)
    except MotionError:
        return crew.NO_ENGINE
    _work_off(items, ledger, settings, engine, progress, leader)
    return DONE


def _lead(items: list[Item], ledger: Ledger, settings: Settings, progress: Progress) -> int:
    ledger.sweep()
    for item in items:
        record = ledger.record(item)
        if record is None or record["status"] != "done":
            ledger.forget(item)
    finished = sum(ledger.record(item) is not None for item in items)
    left = len(items) - finished
    engine = None
    about = f"--jobs {settings.jobs}"
    if left and not settings.part and (settings.jobs == 1 or left == 1):
        engine = Engine(progress.step)  # else there is a crew, each with an engine of its own
        try:
            about = engine.start(settings.do)
        except MotionError as error:
            return _refuse(error)
    progress.say(f"{len(items)} files, {', '.join(settings.do)}, {about}")
    if finished:
        progress.skip(finished)
        progress.say(f"{finished} files are done already")
    begun = time.time()
    try:
        if engine:
            _work_off(items, ledger, settings, engine, progress)
        elif left:
            crew.Crew(items, ledger, settings, progress).work()
    except crew.NoEngineError:
        return _refuse(_why_none(settings, progress))
    finally:
        counts = report.count(report.records(items, ledger))
        unwritten = "" if settings.part else _written(settings, items, ledger, begun, time.time())
    if unwritten:
        progress.say(unwritten)
        return FAILED
    progress.say(_summary(counts, f" in {spoken(time.time() - begun)}", settings))
    return FAILED if counts["left"] or (counts["failed"] and not settings.part) else DONE


def _why_none(settings: Settings, progress: Progress) -> str:
    """The sentence on why a member of the crew had no engine, found by starting one here."""
    try:
        Engine(progress.step).start(settings.do)
    except MotionError as error:
        return str(error)
    return "One engine starts here, but not several at once; run again with --resume and fewer --jobs."


def _report(settings: Settings, items: list[Item], ledger: Ledger) -> int:
    """The report of what others have done so far. Bad files are its business; an error is what nobody has done."""
    if not ledger.exists():
        return _refuse(f"{settings.out} holds no run; name the folder of one for --out.")
    unwritten = _written(settings, items, ledger, *ledger.span(items))
    if unwritten:
        return _refuse(unwritten)
    counts = report.count(report.records(items, ledger))
    print(_summary(counts, "", settings), file=sys.stderr, flush=True)
    return FAILED if counts["left"] else DONE


def _written(settings: Settings, items: list[Item], ledger: Ledger, begun: float, ended: float) -> str:
    """Write the report; the sentence on why it could not be, empty where all is well."""
    try:
        report.write(settings, items, ledger, begun, ended)
    except OSError as error:
        return (
            f"The report could not be written ({error.strerror}); the results are in {ledger.results}. "
            "Make room and run again with --report."
        )
    return ""


def _summary(counts: dict[str, int], took: str, settings: Settings) -> str:
    others = [f"{counts[status]} {words}" for status, words in _WORDS.items() if counts[status]]
    where = "" if settings.part else f"; see {settings.out / report.PAGE}"
    return ", ".join([f"{counts['done']} of {sum(counts.values())} files done{took}", *others]) + where


_WORDS = {"failed": "failed", "left": "left to do"}


def _work_off(
    items: list[Item], ledger: Ledger, settings: Settings, engine: Engine, progress: Progress, leader: int | None = None
) -> None:
    """Do whatever nobody else does, until nothing is left. leader: the process without which this one ends."""
    left = [item for item in items if ledger.record(item) is None]
    while left:
        waiting = []
        for item in left:
            if leader is not None and os.getppid() != leader:
                return  # it was killed; what is left is for --resume
            with ledger.claimed(item) as ours:
                if not ours:
                    waiting.append(item)
                elif ledger.record(item) is None:  # nobody finished it between the look and the claim
                    progress.begin(item.name)
                    record = _one(item, ledger, settings, engine)
                    _keep(item, ledger, record)
                    progress.end(item.name, record["sentence"])
        left = [item for item in waiting if ledger.record(item) is None]
        if len(left) and len(left) == len(waiting):
            if settings.member:
                return  # those who hold them will do them
            time.sleep(WAIT)


def _keep(item: Item, ledger: Ledger, record: dict[str, Any]) -> None:
    try:
        ledger.store(item, record)
    except OSError as error:
        record["status"] = "failed"
        record["sentence"] = f"No record could be kept ({error.strerror}); make room and run again with --resume."


def _one(item: Item, ledger: Ledger, settings: Settings, engine: Engine) -> dict[str, Any]:
    """One file from its opening to its result; the record of it."""
    begun = time.perf_counter()
    record: dict[str, Any] = {
        "name": item.name, "source": str(item.source), "result": None, "bytes": 0, "status": "failed", "takes": [],
        "notes": [], "sentence": "",
    }  # fmt: skip
    try:
        opened = takes.open_file(item.source)
        record["notes"] = opened.notes
        record["takes"] = _takes(opened, settings, engine, record["notes"])
        record["bytes"] = exporting.export(opened, ledger.results / item.result)
        record["result"] = f"results/{item.result}"
        record["status"] = "done"
        record["sentence"] = report.sentence(record["takes"])
    except MotionError as error:
        record["sentence"] = str(error)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        record["sentence"] = f"An unexpected problem ({type(error).__name__}: {error}); please report it."
    finally:
        takes.empty()
    if _asked_to_stop.is_set():
        raise KeyboardInterrupt
    seconds = time.perf_counter() - begun
    engine_seconds = sum(take["engine_seconds"] for take in record["takes"])
    record["seconds"] = {"total": round(seconds, 3), "engine": round(engine_seconds, 3)}
    return record


def _takes(opened: takes.Opened, settings: Settings, engine: Engine, notes: list[str]) -> list[dict[str, Any]]:
    done, strangers = [], []
    for armature in opened.armatures:
        try:
            done.append(cleaning.clean(bpy.context, armature, settings, engine))
        except cleaning.NotOursError as error:
            strangers.append(str(error))
    if not done:
        raise MotionError(strangers[0])
    notes += [f"{sentence} It was left alone." for sentence in strangers]
    return done
