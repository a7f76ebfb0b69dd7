"""BVH files in and out.

`load` and `save` speak in motions; `parse`, `Bvh.local`, `Bvh.with_local` and `Bvh.text` are the file itself: any
channel order per joint, joints with three, six or other counts of channels, end sites, any line ends and spacing.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import rotations as rot
from .contract import Motion, MotionError
from .retarget import Hierarchy, Retargeter, Style, canonical_hierarchy, differences, find_roles, leg_length

log = logging.getLogger(__name__)

AXES = "XYZ"
_CHANNEL = re.compile(r"^([XYZ])(position|rotation)$", re.I)
UNITS: dict[str, float] = {
    "metres": 1.0, "centimetres": 0.01, "inches": 0.0254, "CMU units": 0.0254 / 0.45, "millimetres": 0.001,
    "feet": 0.3048, "decimetres": 0.1,
}  # fmt: skip
TYPICAL_LEG = 0.82
"""Thigh plus shin of an adult, metres: what an unknown unit is measured by."""


@dataclass(frozen=True, eq=False)
class Bvh:
    """A BVH file as it is written.

    hierarchy: names, parents, OFFSETs in the file's unit, end sites. channels: per joint the channel names, such as
    ``("Xposition", …)``. values: (T, K) float64, degrees and file units. frame_time: seconds. header: the file's text
    up to the MOTION line, kept so that writing changes nothing there. frame_time_text: as it stood in the file.
    """

    hierarchy: Hierarchy
    channels: tuple[tuple[str, ...], ...]
    values: np.ndarray
    frame_time: float
    header: str
    frame_time_text: str
    newline: str = "\n"

    @property
    def fps(self) -> float:
        """Frames per second; a whole number where the printed digits of the frame time allow it."""
        whole = round(1 / self.frame_time)
        digits = re.sub(r"[eE].*", "", self.frame_time_text).partition(".")[2]
        exponent = re.search(r"[eE]([+-]?\d+)$", self.frame_time_text)
        last_digit = 10.0 ** (int(exponent.group(1) if exponent else 0) - len(digits))
        if whole > 0 and abs(1 / whole - self.frame_time) <= last_digit:
            return float(whole)
        return 1 / self.frame_time

    def columns(self, joint: int, kind: str) -> list[tuple[int, int]]:
        """(column of ``values``, axis) of a joint's position or rotation channels, in file order."""
        start = sum(len(names) for names in self.channels[:joint])
        return [
            (start + i, AXES.index(name[0].upper()))
            for i, name in enumerate(self.channels[joint])
            if name[1:].lower() == kind
        ]

    def local(self) -> tuple[np.ndarray, np.ndarray]:
        """Local rotations (T, J, 4) and positions in the parent's frame (T, J, 3), file units, float64."""
        frames, joints = len(self.values), len(self.channels)
        moves = np.broadcast_to(self.hierarchy.offsets, (frames, joints, 3)).astype(np.float64)
        local = np.zeros((frames, joints, 4))
        local[..., 0] = 1
        for j in range(joints):
            for column, axis in self.columns(j, "position"):
                moves[:, j, axis] = self.values[:, column]
            order = self.columns(j, "rotation")
            if order:
                local[:, j] = from_euler(np.radians(self.values[:, [c for c, _ in order]]), [a for _, a in order])
        return local, moves

    def movable(self) -> np.ndarray:
        """(J,) bool: joints with all three position channels."""
        return np.array([len(self.columns(j, "position")) == 3 for j in range(len(self.channels))])

    def with_local(self, local: np.ndarray, moves: np.ndarray) -> Bvh:
        """The same file with other rotations and positions; values whose joint did not change keep their bits.

        New angles take the turn nearest to the frame before, so that channels stay continuous.
        """
        old_local, old_moves = self.local()
        values = self.values.copy()
        for j in range(len(self.channels)):
            for column, axis in self.columns(j, "position"):
                frames = moves[:, j, axis] != old_moves[:, j, axis]
                values[frames, column] = np.round(moves[frames, j, axis], 9)
            frames = np.flatnonzero((local[:, j] != old_local[:, j]).any(axis=-1))
            order = self.columns(j, "rotation")
            if order and len(frames):
                columns = [c for c, _ in order]
                wanted = to_euler(local[frames, j], [a for _, a in order])
                values[:, columns] = _continue(values[:, columns], frames, wanted, len(order) == 3)
        return replace(self, values=values)

    def text(self) -> str:
        """The file's text."""
        lines = [self.header.rstrip("\r\n"), f"Frames: {len(self.values)}", f"Frame Time: {self.frame_time_text}"]
        lines += [" ".join(map(_number, row)) for row in self.values.tolist()]
        return self.newline.join(lines) + self.newline


def _number(value: float) -> str:
    return repr(value) if value % 1 or abs(value) >= 1e15 else str(int(value))


def from_euler(angles: np.ndarray, order: list[int]) -> np.ndarray:
    """Angles (T, n) in radians about axes ``order``, the first outermost as BVH lists them → (T, 4)."""
    q = np.broadcast_to(np.array(rot.IDENTITY), (len(angles), 4))
    for i, axis in enumerate(order):
        single = np.zeros((len(angles), 4))
        single[:, 0], single[:, 1 + axis] = np.cos(angles[:, i] / 2), np.sin(angles[:, i] / 2)
        q = rot.multiply(q, single)
    return q


def to_euler(q: np.ndarray, order: list[int]) -> np.ndarray:
    """(T, 4) → angles (T, n) in radians about axes ``order``, outermost first.

    The inverse of `from_euler` for three different axes. With fewer, the turns that the joint cannot make are lost;
    with a repeated axis the angles are found about the three different ones and repeats stay zero.
    """
    distinct = list(dict.fromkeys(order))
    i, j, k = [*distinct, *[a for a in range(3) if a not in distinct]]
    parity = 1.0 if (j - i) % 3 == 1 else -1.0
    m = rot.to_matrix(rot.normalize(q))
    middle = np.arctan2(parity * m[:, i, k], np.hypot(m[:, j, k], m[:, k, k]))
    first = np.arctan2(-parity * m[:, j, k], m[:, k, k])
    # the inner angle from what is left after the outer one, which stays exact at gimbal lock
    rest = np.cos(first)[:, None] * m[:, j] + parity * np.sin(first)[:, None] * m[:, k]
    last = np.arctan2(parity * rest[:, i], rest[:, j])
    found = dict(zip((i, j, k), (first, middle, last), strict=True))
    angles = np.zeros((len(q), len(order)))
    for axis in distinct:
        angles[:, order.index(axis)] = found[axis]
    return angles


def _continue(values: np.ndarray, frames: np.ndarray, wanted: np.ndarray, full: bool) -> np.ndarray:
    """Columns (T, n) in degrees with ``wanted`` radians put into ``frames``, each nearest to the frame before.

    full: the three angles have a twin solution (outer + 180°, 180° − middle, inner + 180°).
    """
    options = np.degrees(wanted)[None]
    if full:
        options = np.concatenate([options, options * (1, -1, 1) + 180.0])
    before = values[np.maximum(frames - 1, 0)]
    begins = np.diff(frames, prepend=-2) > 1  # where the frame before keeps its value
    first = _apart(options, before).argmin(axis=0)
    # whole turns do not count, so that the twin to take depends on the twin taken before and on nothing else
    following = _apart(options[None, :, 1:], options[:, None, :-1]).argmin(axis=1)
    twin = np.empty(len(frames), np.intp)
    for n in range(len(frames)):
        twin[n] = first[n] if begins[n] else following[twin[n - 1], n - 1]
    angles = options[twin, np.arange(len(frames))]
    before[1:][~begins[1:]] = angles[:-1][~begins[1:]]
    turns = np.round((before - angles) / 360.0)
    summed = np.cumsum(turns, axis=0)
    begun = np.maximum.accumulate(np.where(begins, np.arange(len(frames)), 0))
    values = values.copy()
    values[frames] = np.round(angles + 360.0 * (summed - (summed - turns)[begun]), 9)
    return values


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(…, n) degrees → (…): how far two sets of angles are apart, whole turns left out."""
    difference = a - b
    return np.abs(difference - 360.0 * np.round(difference / 360.0)).sum(axis=-1)


class _Reader:
    """The header's words with their line numbers."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.words = [
            (m.group(), n) for n, line in enumerate(text.split("\n"), 1) for m in re.finditer(r"[{}]|[^\s{}]+", line)
        ]
        self.at = 0

    def fail(self, what: str, line: int | None = None) -> MotionError:
        if line is None:
            line = self.words[min(self.at, len(self.words) - 1)][1] if self.words else 1
        return MotionError(f"{self.path}, line {line}: {what}")

    def next(self, wanted: str) -> str:
        if self.at >= len(self.words):
            raise self.fail(f"the file ends where {wanted} should stand; it is cut short, export it again.")
        self.at += 1
        return self.words[self.at - 1][0]

    def peek(self) -> str:
        return self.words[self.at][0].upper() if self.at < len(self.words) else ""

    def expect(self, word: str) -> None:
        if self.next(word).upper() != word:
            self.at -= 1
            raise self.fail(f"{word} was expected, not {self.words[self.at][0][:40]}; this is not a sound BVH file.")

    def name(self) -> str:
        words = []
        while self.peek() not in ("{", ""):
            words.append(self.next("{"))
        if not words:
            raise self.fail("a joint has no name.")
        return " ".join(words)

    def number(self) -> float:
        word = self.next("a number")
        try:
            value = float(word)
        except ValueError:
            value = np.nan
        if not np.isfinite(value) or "_" in word:
            self.at -= 1
            raise self.fail(f"{word[:40]} is not a finite number; repair or export the file again.")
        return value


def parse(text: str, path: str = "BVH text") -> Bvh:
    """Read a file's text. Raises `MotionError` that names file and line on anything that is not sound BVH."""
    newline = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    split = re.search(r"^[ \t]*MOTION\b", text, re.M | re.I)
    reader = _Reader(path, text[: split.start()] if split else text)
    reader.expect("HIERARCHY")
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    tips: list[list[float]] = []
    channels: list[tuple[str, ...]] = []
    open_joints: list[int] = []
    while reader.at < len(reader.words):
        word = reader.next("JOINT").upper()
        if word == "}" and open_joints:
            open_joints.pop()
        elif word in ("ROOT", "JOINT") and (word == "ROOT") == (not open_joints):
            names.append(reader.name())
            parents.append(open_joints[-1] if open_joints else -1)
            open_joints.append(len(names) - 1)
            reader.expect("{")
            reader.expect("OFFSET")
            offsets.append([reader.number() for _ in range(3)])
            tips.append([np.nan] * 3)
            channels.append(_channel_names(reader))
        elif word == "END" and open_joints:
            reader.name()
            reader.expect("{")
            reader.expect("OFFSET")
            tips[open_joints[-1]] = [reader.number() for _ in range(3)]
            reader.expect("}")
        else:
            reader.at -= 1
            raise reader.fail(f"{word[:40]} is not expected here; this is not a sound BVH file.")
    if split is None or open_joints or not names:
        raise reader.fail("the file ends inside its HIERARCHY; it is cut short, export it again.")
    hierarchy = Hierarchy(tuple(names), tuple(parents), np.array(offsets), np.array(tips))
    header = text[: split.end()]
    frames, frame_time_text, body, line = _motion_header(text, split.end(), path)
    values = _values(body, frames, sum(map(len, channels)), path, line)
    return Bvh(
        hierarchy,
        tuple(channels),
        values,
        float(frame_time_text),
        header.replace("\n", newline),
        frame_time_text,
        newline,
    )


def _channel_names(reader: _Reader) -> tuple[str, ...]:
    if reader.peek() != "CHANNELS":
        return ()
    reader.expect("CHANNELS")
    count = reader.number()
    if not 0 <= count <= 12 or count % 1:
        reader.at -= 1
        raise reader.fail(f"CHANNELS {count:g} is not a count of channels.")
    found = []
    for _ in range(int(count)):
        word = reader.next("a channel name")
        if not _CHANNEL.match(word):
            reader.at -= 1
            raise reader.fail(f"{word[:40]} is not a channel; Xposition to Zrotation are.")
        found.append(word)
    return tuple(found)


def _motion_header(text: str, at: int, path: str) -> tuple[int, str, str, int]:
    """Frame count, frame time as written, the text of the frames, and the line it begins on."""
    line = text.count("\n", 0, at) + 1
    match = re.match(r"\s*Frames\s*:\s*(\S+)\s*Frame\s+Time\s*:\s*(\S+)[ \t]*", text[at:], re.I)
    if match is None:
        raise MotionError(
            f"{path}, line {line}: Frames and Frame Time are missing after MOTION; "
            "the file is cut short, export it again."
        )
    count, seconds = match.groups()
    try:
        ok = int(count) > 0 and np.isfinite(float(seconds)) and float(seconds) > 0
    except ValueError:
        ok = False
    if not ok:
        raise MotionError(
            f"{path}, line {line}: Frames {count[:20]} with Frame Time {seconds[:20]} hold no motion; "
            "both must be positive numbers."
        )
    end = at + match.end()
    return int(count), seconds, text[end:], text.count("\n", 0, end) + 1


def _values(body: str, frames: int, width: int, path: str, first_line: int) -> np.ndarray:
    rows = [(n, line.split()) for n, line in enumerate(body.split("\n"), first_line) if line.strip()]
    for n, words in rows[:frames]:
        if len(words) != width:
            last = n == rows[-1][0] and len(words) < width
            raise MotionError(
                f"{path}, line {n}: {len(words)} numbers where the joints have {width} channels"
                + ("; the file is cut short, export it again." if last else "; export the file again.")
            )
    if len(rows) < frames:
        n = rows[-1][0] if rows else first_line
        raise MotionError(
            f"{path}, line {n}: the file ends after {len(rows)} of {frames} frames; it is cut short, export it again."
        )
    if len(rows) > frames:
        raise MotionError(
            f"{path}, line {rows[frames][0]}: more frames follow than the {frames} that were announced; "
            "correct the line Frames."
        )
    try:
        values = np.array([list(map(float, words)) for _, words in rows]).reshape(frames, width)
    except ValueError:
        values = np.full((frames, width), np.nan)
    if not np.isfinite(values).all():
        for n, words in rows:
            for word in words:
                if not _is_finite(word):
                    raise MotionError(
                        f"{path}, line {n}: {word[:40]} is not a finite number; delete or repair that key."
                    )
    return values


def _is_finite(word: str) -> bool:
    try:
        return bool(np.isfinite(np.array([word]).astype(np.float64)[0]))
    except ValueError:
        return False


def read(path: str | Path) -> Bvh:
    """Parse a BVH file. Raises `MotionError` with file and line."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise MotionError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    return parse(data.decode("utf-8", errors="surrogateescape"), str(path))


def infer_scale(hierarchy: Hierarchy) -> tuple[float, str]:
    """Metres per file unit and the unit's name, from the length of the legs.

    A leg that fits no known unit within a factor of 1.4 is scaled to an adult's.
    """
    leg = leg_length(hierarchy, find_roles(hierarchy))
    if not leg > 0:
        raise MotionError("This skeleton has legs of length zero; check the hip, knee and ankle joints.")
    unit = min(UNITS, key=lambda name: abs(np.log(UNITS[name] * leg / TYPICAL_LEG)))
    # decimetres and feet are rare: they must fit better than a common unit does badly
    common = min(list(UNITS)[:5], key=lambda name: abs(np.log(UNITS[name] * leg / TYPICAL_LEG)))
    if abs(np.log(UNITS[common] * leg / TYPICAL_LEG)) < np.log(1.7):
        unit = common
    if abs(np.log(UNITS[unit] * leg / TYPICAL_LEG)) < np.log(1.7):
        return UNITS[unit], unit
    return float(f"{TYPICAL_LEG / leg:.6g}"), "an unknown unit"


def load(path: str | Path, scale: float | None = None) -> Motion:
    """A BVH take as a motion in metres.

    scale: metres per file unit; None = inferred from the length of the legs and logged. Raises `MotionError`.
    """
    bvh = read(path)
    try:
        if scale is None:
            scale, unit = infer_scale(bvh.hierarchy)
            known = unit in UNITS
            log.log(
                logging.INFO if known else logging.WARNING,
                "%s is read as %s: 1 unit = %g m%s.", path, unit, scale, "" if known else "; give scale to change it",
            )  # fmt: skip
        local, moves = bvh.local()
        return Retargeter.make(bvh.hierarchy, _valid(scale), local).read(local, moves, bvh.fps)
    except MotionError as error:
        raise MotionError(f"{path}: {error}") from error


def _valid(scale: float) -> float:
    if not (np.isfinite(scale) and scale > 0):
        raise MotionError(f"The scale must be a positive number of metres per unit, not {scale}.")
    return float(scale)


def save(motion: Motion, path: str | Path, like: str | Path | None = None, *, style: Style = "fill") -> None:
    """Write a motion as BVH.

    like: None for SMPL joint names, metres and the canonical T-pose; else a BVH file whose hierarchy, channel order,
    frame time and untouched joints are kept: only joints and frames that differ from what `load` reads there change.
    style: how chains with more joints than roles follow a change, see `Retargeter.write`. Raises `MotionError`.
    """
    motion.require_finite()
    text = (_canonical(motion) if like is None else _onto(motion, read(like), style)).text()
    try:
        Path(path).write_bytes(text.encode("utf-8", errors="surrogateescape"))
    except OSError as error:
        raise MotionError(f"{path} cannot be written ({error.strerror}); choose another folder.") from error


def _canonical(motion: Motion) -> Bvh:
    hierarchy = canonical_hierarchy(motion)
    rotation = ("Zrotation", "Yrotation", "Xrotation")
    channels = tuple(
        (("Xposition", "Yposition", "Zposition") if parent < 0 else ()) + rotation for parent in hierarchy.parents
    )
    bvh = Bvh(
        hierarchy, channels, np.zeros((len(motion), sum(map(len, channels)))), 1 / motion.fps,
        header_text(hierarchy, channels), repr(1 / motion.fps),
    )  # fmt: skip
    retargeter = Retargeter.make(hierarchy, 1.0, bvh.local()[0])
    return _written(motion, bvh, retargeter, np.ones((len(motion), 23), bool), "fill")


def _onto(motion: Motion, bvh: Bvh, style: Style) -> Bvh:
    local, moves = bvh.local()
    retargeter = Retargeter.make(bvh.hierarchy, _scale_of(motion, bvh.hierarchy, local), local)
    changed = np.ones((len(motion), 23), bool)
    if len(motion) == len(bvh.values):
        changed = differences(motion, retargeter.read(local, moves, bvh.fps))
    else:  # another length: joints without a role hold the pose of the nearest frame
        bvh = replace(bvh, values=bvh.values[np.minimum(np.arange(len(motion)), len(bvh.values) - 1)])
    if motion.fps != bvh.fps:
        bvh = replace(bvh, frame_time=1 / motion.fps, frame_time_text=repr(1 / motion.fps))
    return _written(motion, bvh, retargeter, changed, style)


def _written(motion: Motion, bvh: Bvh, retargeter: Retargeter, changed: np.ndarray, style: Style) -> Bvh:
    return bvh.with_local(*retargeter.write(motion, *bvh.local(), changed, movable=bvh.movable(), style=style))


def _scale_of(motion: Motion, hierarchy: Hierarchy, local: np.ndarray) -> float:
    """The scale at which this file has the motion's leg length, without the rounding of float32."""
    inferred, _ = infer_scale(hierarchy)
    leg = Retargeter.make(hierarchy, 1.0, local).alignment.skeleton.leg_length
    measured = motion.skeleton.leg_length / leg
    return inferred if abs(measured / inferred - 1) < 1e-6 else float(f"{measured:.6g}")


def header_text(hierarchy: Hierarchy, channels: tuple[tuple[str, ...], ...]) -> str:
    """The text up to and with the MOTION line. channels: per joint, as `Bvh` has them."""
    lines = ["HIERARCHY"]

    def write(joint: int, depth: int) -> None:
        pad = "  " * depth
        lines.append(f"{pad}{'JOINT' if depth else 'ROOT'} {hierarchy.names[joint]}")
        lines.append(pad + "{")
        lines.append(f"{pad}  OFFSET {' '.join(_number(round(x, 9)) for x in hierarchy.offsets[joint].tolist())}")
        lines.append(f"{pad}  CHANNELS {len(channels[joint])} {' '.join(channels[joint])}")
        for child, parent in enumerate(hierarchy.parents):
            if parent == joint:
                write(child, depth + 1)
        if np.isfinite(hierarchy.tips[joint]).all():
            tip = " ".join(_number(round(x, 9)) for x in hierarchy.tips[joint].tolist())
            lines.extend([f"{pad}  End Site", pad + "  {", f"{pad}    OFFSET {tip}", pad + "  }"])
        lines.append(pad + "}")

    write(0, 0)
    lines.append("MOTION")
    return "\n".join(lines)
