"""report.json for programs and report.html for people, both from the records on disk. docs/batch.md has the schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import bpy

from . import page
from .arguments import Settings
from .ledger import PRIVATE, Ledger, whole
from .listing import Item

SCHEMA = "mmdm.batch/1"
DOCUMENT, PAGE = "report.json", "report.html"


def records(items: Sequence[Item], ledger: Ledger) -> list[dict[str, Any]]:
    """What is known of every file."""
    return [ledger.record(item) or _left(item) for item in items]


def count(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many files are done, failed and left."""
    return {status: sum(r["status"] == status for r in records) for status in ("done", "failed", "left")}


def write(settings: Settings, items: Sequence[Item], ledger: Ledger, begun: float, ended: float) -> None:
    """Write both. begun, ended: of the run, as `time.time` says it. Raises `OSError` for want of room."""
    found = records(items, ledger)
    document = {
        "schema": SCHEMA,
        "blender": bpy.app.version_string,
        "begun": datetime.fromtimestamp(begun, UTC).isoformat(timespec="seconds"),
        "seconds": round(ended - begun, 3),
        "settings": settings.work,
        "counts": count(found),
        "files": [_public(record) for record in found],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)
    for name, content in ((DOCUMENT, text), (PAGE, page.html(document))):
        with whole(settings.out / name) as partial:
            partial.write_text(content, "utf-8")


def _left(item: Item) -> dict[str, Any]:
    return {
        "name": item.name, "source": str(item.source), "result": None, "bytes": 0, "status": "left", "takes": [],
        "notes": [], "sentence": "Not done yet; go on with --resume.", "seconds": {"total": 0.0, "engine": 0.0},
    }  # fmt: skip


def _public(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in PRIVATE}


def sentence(takes: Sequence[Mapping[str, Any]]) -> str:
    """What was done to a file, for the terminal."""
    words = []
    found = [take["problems"] for take in takes if "problems" in take]
    if found:
        before, after = (sum(problems[key] for problems in found) for key in ("before", "after"))
        words.append(f"{before} {'problem' if before == 1 else 'problems'}, {after} left")
    filled = sum(len(take["filled"]) for take in takes)
    if filled:
        words.append(f"{filled} {'gap' if filled == 1 else 'gaps'} filled")
    completed = sum(len(take["completed"]) for take in takes)
    if completed:
        words.append(f"{completed} lost {'limb' if completed == 1 else 'limbs'} made up")
    degrees = max(take["largest"]["degrees"] for take in takes)
    centimetres = max(take["largest"]["centimetres"] for take in takes)
    words.append(f"largest change {degrees:.1f}° and {centimetres:.1f} cm")
    return ", ".join(words)
