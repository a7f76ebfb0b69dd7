"""The report as one HTML page that needs nothing else: text, tables, and drawings as inline SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from .progress import spoken

_WIDE, _HIGH = 640, 130
_BOX = 150
"""Pixels of a curve and of a picture."""
_LISTED = 60
"""Problems that are listed for a take; the rest is in report.json."""
_FEW = 3
"""So many files are shown with everything at once; of more, one opens what one wants to see."""

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; --before: #c8643c; --after: #1f6f8b; --bad: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --before: #f0916a; --after: #6cc3df; --bad: #ff8272; } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
td.n, th.n { text-align: right; white-space: nowrap }
details { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .9rem; margin: .6rem 0 }
summary { cursor: pointer; font-weight: 600 } .failed { color: var(--bad) } .soft { opacity: .7 }
figure { display: inline-block; margin: .4rem .8rem .4rem 0 } figcaption { font-size: .85rem; opacity: .8 }
svg { max-width: 100%; background: var(--soft); border-radius: 4px } svg text { font-size: 11px; fill: currentColor }
.before { stroke: var(--before) } .after { stroke: var(--after) } .before, .after { fill: none; stroke-linejoin: round }
.key b { border-bottom: 3px solid } .key b.b { border-color: var(--before) } .key b.a { border-color: var(--after) }
.scroll { overflow-x: auto } .drawings { display: flex; flex-wrap: wrap; gap: 0 1rem }
.drawings > :first-child { flex: 0 1 41rem } .drawings > :last-child { flex: 1 1 10rem }
.filled { fill: var(--after); opacity: .13 } details details { border: 0; padding: 0 }
details details > summary { font-weight: normal }
"""


def html(document: Mapping[str, Any]) -> str:
    """The whole page."""
    counts, files = document["counts"], document["files"]
    takes = [take for file in files for take in file["takes"]]
    problems = [take["problems"] for take in takes if "problems" in take]
    summary = [f"{counts['done']} of {len(files)} files done"]
    if counts["failed"]:
        summary.append(f"<span class=failed>{counts['failed']} failed</span>")
    if counts["left"]:
        summary.append(f"{counts['left']} not done yet")
    summary.append(f"{sum(take['frames'] for take in takes)} frames")
    if problems:
        summary.append(f"{sum(p['before'] for p in problems)} problems found, {sum(p['after'] for p in problems)} left")
    summary.append(spoken(document["seconds"]))
    steps = ", ".join(document["settings"]["do"])
    begun = datetime.fromisoformat(document["begun"])
    return (
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>MMDM batch: {counts['done']} of {len(files)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Motion clean-up</h1><p>{' · '.join(summary)}<br>"
        f"<span class=soft>{begun:%Y-%m-%d %H:%M} UTC, Blender {escape(document['blender'])}, {escape(steps)}</span>"
        "</p>"
        f"{_overview(files)}"
        "<p class=key>In the drawings: <b class=b>before</b>, <b class=a>after</b>; what was made up is shaded.</p>"
        f"{''.join(_file(i, file, len(files) <= _FEW) for i, file in enumerate(files))}</body></html>\n"
    )


def _overview(files: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for i, file in enumerate(files):
        takes = file["takes"]
        found = [take["problems"] for take in takes if "problems" in take]
        numbers = [
            str(sum(take["frames"] for take in takes)) if takes else "",
            f"{sum(p['before'] for p in found)} → {sum(p['after'] for p in found)}" if found else "",
            f"{max(take['largest']['degrees'] for take in takes):.1f}°" if takes else "",
            f"{max(take['largest']['centimetres'] for take in takes):.1f} cm" if takes else "",
            f"{file['seconds']['total']:.1f} s",
        ]
        status = escape(file["status"])
        cells = [f"<td class=n>{number}</td>" for number in numbers]
        if not takes:
            cells[:-1] = [f"<td colspan={len(numbers) - 1} class=soft>{escape(file['sentence'])}</td>"]
        rows.append(
            f"<tr><td><a href='#f{i}'>{escape(file['name'])}</a></td><td class={status}>{status}</td>"
            f"{''.join(cells)}</tr>"
        )
    heads = ("Frames", "Problems", "Largest turn", "Largest move", "Time")
    return (
        "<div class=scroll><table><tr><th>File</th><th>Status</th>"
        + "".join(f"<th class=n>{head}</th>" for head in heads)
        + f"</tr>{''.join(rows)}</table></div>"
    )


def _file(index: int, file: Mapping[str, Any], opened: bool) -> str:
    shown = " open" if opened or file["status"] == "failed" else ""
    parts = [f"<p class={escape(file['status'])}>{escape(file['sentence'])}</p>"]
    parts += [f"<p class=soft>{escape(note)}</p>" for note in file["notes"]]
    if file["result"]:
        parts.append(f"<p>Result: <a href='{escape(file['result'], quote=True)}'>{escape(file['result'])}</a></p>")
    parts += [_take(take) for take in file["takes"]]
    # the link's target is inside, because a browser opens what it jumps into
    return f"<details{shown}><summary>{escape(file['name'])}</summary><div id=f{index}>{''.join(parts)}</div></details>"


def _take(take: Mapping[str, Any]) -> str:
    largest = take["largest"]
    parts = [
        f"<h3>{escape(take['armature'])}</h3><p>{take['frames']} frames at {take['fps']:g} fps, "
        f"{take['changed_frames']} changed; largest turn {largest['degrees']:.1f}° "
        f"({_joint(largest['degrees_joint'])}, frame {largest['degrees_frame']:g}), largest move "
        f"{largest['centimetres']:.1f} cm ({_joint(largest['centimetres_joint'])}, frame "
        f"{largest['centimetres_frame']:g}); engine {take['engine_seconds']:.1f} s</p>"
    ]
    done = [f"Filled {_span(gap)} ({escape(gap['why'])})" for gap in take["filled"]]
    done += [f"Made up the {escape(limb['limb'])} in {_span(limb)}" for limb in take["completed"]]
    parts += [f"<p>{text}</p>" for text in done] + [f"<p class=soft>{escape(note)}</p>" for note in take["notes"]]
    curves = "".join(_curve(curve, [*take["filled"], *take["completed"]]) for curve in take["curves"])
    pictures = "".join(_picture(picture) for picture in take["pictures"])
    parts.append(f"<div class=drawings><div>{curves}</div><div>{pictures}</div></div>")
    if take.get("problems", {}).get("list"):
        parts.append(_problems(take["problems"]["list"]))
    return "".join(parts)


def _span(item: Mapping[str, Any]) -> str:
    return f"{item['start']}-{item['end']}" if item["start"] != item["end"] else f"{item['start']}"


def _joint(name: str) -> str:
    return escape(name.replace("_", " "))


def _kinds(problems: Sequence[Mapping[str, Any]]) -> str:
    """Per kind: how many there were, how many of these are gone, how many are new."""
    words = []
    for kind in dict.fromkeys(p["kind"] for p in problems):
        count = Counter(_state(p) for p in problems if p["kind"] == kind)
        words.append(f"{escape(kind)}: {', '.join(f'{n} {state}' for state, n in count.items())}")
    return "; ".join(words)


def _state(problem: Mapping[str, Any]) -> str:
    return "gone" if problem["fixed"] else "new" if problem["new"] else "still there"


def _problems(problems: Sequence[Mapping[str, Any]]) -> str:
    worst = sorted(problems, key=lambda p: -p["severity"])[:_LISTED]
    rows = "".join(
        f"<tr><td>{escape(p['kind'])}</td><td>{escape(p['bone'] or p['joint'])}</td><td>{_span(p)}</td>"
        f"<td class=n>{p['severity']:.2f}</td><td>{_state(p)}</td></tr>"
        for p in worst
    )
    more = (
        f"<p class=soft>{len(problems) - len(worst)} milder ones are in report.json.</p>"
        if len(problems) > len(worst)
        else ""
    )
    heads = "<tr><th>Problem</th><th>Bone</th><th>Frames</th><th class=n>Severity</th><th>Afterwards</th></tr>"
    listed = f"<div class=scroll><table>{heads}{rows}</table></div>{more}"
    return f"<details><summary>Problems: {_kinds(problems)}</summary>{listed}</details>"


def _curve(curve: Mapping[str, Any], made_up: Sequence[Mapping[str, Any]]) -> str:
    """Before and after over the frames, with the range of values at the side and what was made up shaded."""
    frames, series = curve["frames"], (curve["before"], curve["after"])
    low, high = min(map(min, series)), max(map(max, series))
    across = (_WIDE - 60) / max(frames[-1] - frames[0], 1e-9)
    upwards = (_HIGH - 30) / max(high - low, 1e-9)

    def points(values: Sequence[float]) -> str:
        return " ".join(
            f"{50 + (f - frames[0]) * across:.1f},{_HIGH - 20 - (v - low) * upwards:.1f}"
            for f, v in zip(frames, values, strict=True)
        )

    shades = "".join(
        f"<rect class=filled x='{50 + (s['start'] - frames[0]) * across:.1f}' y=4 height={_HIGH - 20} "
        f"width='{max(1.0, (s['end'] - s['start']) * across):.1f}'/>"
        for s in made_up
    )
    return (
        f"<figure><svg width={_WIDE} height={_HIGH} viewBox='0 0 {_WIDE} {_HIGH}' role=img "
        f"aria-label='{_joint(curve['joint'])} before and after'>{shades}"
        f"<text x=4 y=16>{high:.0f}°</text><text x=4 y={_HIGH - 22}>{low:.0f}°</text>"
        f"<text x=50 y={_HIGH - 5}>{frames[0]:g}</text>"
        f"<text x={_WIDE - 10} y={_HIGH - 5} text-anchor=end>{frames[-1]:g}</text>"
        f"<polyline class=before stroke-width=1.2 points='{points(series[0])}'/>"
        f"<polyline class=after stroke-width=1.6 points='{points(series[1])}'/></svg>"
        f"<figcaption>{_joint(curve['joint'])}: degrees over frames</figcaption></figure>"
    )


def _picture(picture: Mapping[str, Any]) -> str:
    """Two stick figures, one over the other."""
    everything = [*picture["before"], *picture["after"]]
    xs = [x for line in everything for x in line[::2]]
    ys = [y for line in everything for y in line[1::2]]
    size = max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
    scale = (_BOX - 16) / size
    left, top = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2

    def path(lines: Sequence[Sequence[float]]) -> str:
        middle = _BOX / 2
        return "".join(
            f"M{middle + (a - left) * scale:.1f} {middle - (b - top) * scale:.1f}"
            f"L{middle + (c - left) * scale:.1f} {middle - (d - top) * scale:.1f}"
            for a, b, c, d in lines
        )

    return (
        f"<figure><svg width={_BOX} height={_BOX} viewBox='0 0 {_BOX} {_BOX}' role=img "
        f"aria-label='pose at frame {picture['frame']:g}'>"
        f"<path class=before stroke-width=2 stroke-linecap=round d='{path(picture['before'])}'/>"
        f"<path class=after stroke-width=2 stroke-linecap=round d='{path(picture['after'])}'/></svg>"
        f"<figcaption>frame {picture['frame']:g}: {picture['centimetres']:.1f} cm</figcaption></figure>"
    )
