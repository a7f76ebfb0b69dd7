"""One F-curve's keyframes as NumPy columns: load, split, replace, store, without disturbing what lies outside.

Blender moves automatic handles whenever a neighbour changes. So border keys get theirs frozen, and after the curve has
been rebuilt every handle outside is put back to its old bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import bpy
import numpy as np

from .. import compat

SAME_TIME = 0.01
"""Keys closer than this many frames are at the same time: Blender's own threshold."""

_FIELDS: dict[str, tuple[type, int]] = {
    "co": (np.float32, 2), "handle_left": (np.float32, 2), "handle_right": (np.float32, 2),
    "handle_left_type": (np.int32, 1), "handle_right_type": (np.int32, 1), "interpolation": (np.int32, 1),
    "easing": (np.int32, 1), "type": (np.int32, 1), "back": (np.float32, 1), "amplitude": (np.float32, 1),
    "period": (np.float32, 1), "select_control_point": (bool, 1), "select_left_handle": (bool, 1),
    "select_right_handle": (bool, 1),
}  # fmt: skip

INTERPOLATION = compat.key_enum("interpolation")
HANDLE = compat.key_enum("handle_left_type")
GENERATED = compat.key_enum("type")["GENERATED"]
_AUTOMATIC = (HANDLE["AUTO"], HANDLE["AUTO_CLAMPED"])


class Track:
    """An F-curve that is only read, its keys copied once."""

    def __init__(self, curve: bpy.types.FCurve) -> None:
        self.curve = curve

    @cached_property
    def co(self) -> np.ndarray:
        """(N, 2) frames and values, float32."""
        co = np.empty((len(self.curve.keyframe_points), 2), np.float32)
        self.curve.keyframe_points.foreach_get("co", co.reshape(-1))
        return co

    @cached_property
    def modified(self) -> bool:
        """Whether modifiers change the curve."""
        return any(not m.mute for m in self.curve.modifiers)

    @cached_property
    def _distinct(self) -> bool:
        return bool((np.diff(self.co[:, 0]) > SAME_TIME).all())

    @cached_property
    def finite(self) -> np.ndarray:
        """(N,) bool, which keys are numbers."""
        return np.isfinite(self.co).all(axis=-1)

    def evaluate(self, frames: np.ndarray) -> np.ndarray:
        """(T,) frames → (T,) values, float64. Frames with a key take its value, the others go through Blender.

        On and beside a key that is not a number, the value lies on the straight line between the nearest that are.
        """
        frames = np.asarray(frames, np.float64)
        values = np.empty(len(frames))
        asked = np.ones(len(frames), bool)
        if not self.modified and self._distinct:
            at = np.clip(np.searchsorted(self.co[:, 0], frames), 0, len(self.co) - 1)
            on_key = self.co[at, 0] == frames.astype(np.float32)
            values[on_key] = self.co[at[on_key], 1]
            asked = ~on_key
        if asked.any():
            call = self.curve.evaluate
            values[asked] = [call(frame) for frame in frames[asked].tolist()]
        if not self.finite.all() and self.finite.any():
            right = np.searchsorted(self.co[:, 0], frames)
            around = [np.clip(right + step, 0, len(self.co) - 1) for step in (-1, 0)]
            broken = ~(self.finite[around[0]] & self.finite[around[1]])
            whole = self.co[self.finite].astype(np.float64)
            values[broken] = np.interp(frames[broken], whole[:, 0], whole[:, 1])
        return values


@dataclass(eq=False)
class Keys:
    """Keyframes in order of time: one row of every column per key."""

    columns: dict[str, np.ndarray]
    fresh: np.ndarray
    """(N,) bool: rows whose handles are ours, so nobody's old bits."""

    @classmethod
    def load(cls, curve: bpy.types.FCurve | None) -> Keys:
        """Copy a curve's keys; none for a curve that does not exist."""
        count = len(curve.keyframe_points) if curve is not None else 0
        columns = {}
        for name, (kind, width) in _FIELDS.items():
            column: np.ndarray = np.zeros(count * width, kind)
            if curve is not None:
                curve.keyframe_points.foreach_get(name, column)
            columns[name] = column.reshape(count, 2) if width == 2 else column
        for side in ("handle_left", "handle_right"):  # automatic handles beside a key that is not a number
            broken = ~np.isfinite(columns[side]).all(axis=-1)
            columns[side][broken] = columns["co"][broken]
        order = np.argsort(columns["co"][:, 0], kind="stable")
        return cls({name: column[order] for name, column in columns.items()}, np.zeros(count, bool))

    def __len__(self) -> int:
        return len(self.fresh)

    @property
    def times(self) -> np.ndarray:
        """(N,) frames, float64."""
        return self.columns["co"][:, 0].astype(np.float64)

    def find(self, time: float) -> int | None:
        """The row of the key at a time."""
        if not len(self):
            return None
        row = int(np.argmin(np.abs(self.times - time)))
        return row if abs(self.times[row] - time) < SAME_TIME else None

    def add(self, times: np.ndarray, values: np.ndarray, interpolation: str) -> np.ndarray:
        """Insert generated keys with automatic handles; returns their rows."""
        count = len(times)
        rows: dict[str, np.ndarray] = {
            name: np.zeros((count, *self.columns[name].shape[1:]), kind) for name, (kind, _) in _FIELDS.items()
        }
        rows["co"] = np.stack([times, values], axis=-1).astype(np.float32)
        rows["handle_left"] = rows["co"] - np.array([1 / 3, 0], np.float32)
        rows["handle_right"] = rows["co"] + np.array([1 / 3, 0], np.float32)
        rows["handle_left_type"][:] = rows["handle_right_type"][:] = HANDLE["AUTO_CLAMPED"]
        rows["interpolation"][:] = INTERPOLATION[interpolation]
        rows["type"][:] = GENERATED
        rows["back"][:], rows["amplitude"][:], rows["period"][:] = 1.70158, 0.8, 4.1  # Blender's defaults
        joined = {name: np.concatenate([self.columns[name], rows[name]]) for name in _FIELDS}
        order = np.argsort(joined["co"][:, 0], kind="stable")
        self.columns = {name: column[order] for name, column in joined.items()}
        self.fresh = np.concatenate([self.fresh, np.ones(count, bool)])[order]
        return np.flatnonzero(order >= len(order) - count)

    def remove(self, rows: np.ndarray) -> None:
        """Delete the rows where the (N,) mask is True."""
        self.columns = {name: column[~rows] for name, column in self.columns.items()}
        self.fresh = self.fresh[~rows]

    def freeze(self, row: int) -> None:
        """Make a key's automatic handles free ones at the same place; aligned ones too, as they follow each other."""
        movable = (*_AUTOMATIC, HANDLE["ALIGNED"])
        for side in ("handle_left_type", "handle_right_type"):
            if self.columns[side][row] in movable:
                self.columns[side][row] = HANDLE["FREE"]

    def pin(self, time: float, value_at: Callable[[np.ndarray], np.ndarray]) -> None:
        """Freeze the key at a border; where there is none, insert one without changing the curve.

        value_at: the curve's values at (N,) times.
        """
        if self.find(time) is None:
            self._split(time, value_at)
        row = self.find(time)
        assert row is not None
        self.freeze(row)

    def _split(self, time: float, value_at: Callable[[np.ndarray], np.ndarray]) -> None:
        right = int(np.searchsorted(self.times, time))
        if right in (0, len(self)):
            self._extend(time, float(value_at(np.array([time]))[0]), right)
            return
        kind = self.columns["interpolation"][right - 1]
        if kind == INTERPOLATION["BEZIER"]:
            self._split_bezier(right - 1, right, time)
            return
        times, name = np.array([time]), "CONSTANT" if kind == INTERPOLATION["CONSTANT"] else "LINEAR"
        if kind not in (INTERPOLATION["LINEAR"], INTERPOLATION["CONSTANT"]):
            # an easing curve has no exact half, so its shape is kept at whole frames
            first, last = self.times[right - 1], self.times[right]
            whole = np.arange(np.floor(first) + 1, last)
            times = np.union1d(whole[(whole > first + SAME_TIME) & (whole < last - SAME_TIME)], [time])
        self.add(times, value_at(times), name)

    def _split_bezier(self, left: int, right: int, time: float) -> None:
        """Cut a segment in two by de Casteljau's construction; the curve stays the same."""
        a, d = (self.columns["co"][row].astype(np.float64) for row in (left, right))
        b = self.columns["handle_right"][left].astype(np.float64)
        c = self.columns["handle_left"][right].astype(np.float64)
        reach, width = abs(b[0] - a[0]) + abs(d[0] - c[0]), d[0] - a[0]
        if reach > width:  # Blender shortens handles that overlap
            b, c = a + (b - a) * width / reach, d + (c - d) * width / reach
        low, high = 0.0, 1.0
        for _ in range(60):
            u = (low + high) / 2
            x = (1 - u) ** 3 * a[0] + 3 * u * (1 - u) ** 2 * b[0] + 3 * u**2 * (1 - u) * c[0] + u**3 * d[0]
            low, high = (u, high) if x < time else (low, u)
        ab, bc, cd = a + (b - a) * u, b + (c - b) * u, c + (d - c) * u
        abc, bcd = ab + (bc - ab) * u, bc + (cd - bc) * u
        middle = abc + (bcd - abc) * u
        self.freeze(left)
        self.freeze(right)
        self.columns["handle_right"][left], self.columns["handle_left"][right] = ab, cd
        self._own(left, "handle_right_type")
        self._own(right, "handle_left_type")
        row = int(self.add(np.array([time]), middle[1:], "BEZIER")[0])
        self.columns["handle_left"][row], self.columns["handle_right"][row] = abc, bcd
        self._own(row, "handle_left_type")
        self._own(row, "handle_right_type")

    def _own(self, row: int, side: str) -> None:
        self.columns[side][row] = HANDLE["FREE"]

    def _extend(self, time: float, value: float, after: int) -> None:
        """A key before the first or after the last one, on the extrapolated line."""
        row = int(self.add(np.array([time]), np.array([value]), "LINEAR")[0])
        if len(self) > 1:
            near = row + 1 if after == 0 else row - 1
            self.freeze(near)
            if after > 0 and self.columns["interpolation"][near] == INTERPOLATION["BEZIER"]:
                step = (self.columns["co"][row] - self.columns["co"][near]) / 3
                self.columns["handle_right"][near] = self.columns["co"][near] + step
                self.columns["handle_left"][row] = self.columns["co"][row] - step
                self._own(near, "handle_right_type")

    def shape(self, rows: np.ndarray, slope: np.ndarray) -> None:
        """Give a run of neighbouring rows the handles of a cubic with these slopes (N,), on the inner sides only.

        Between two rows both handles are a third of the way along.
        """
        for n in range(len(rows) - 1):
            a, b = rows[n], rows[n + 1]
            width = (self.times[b] - self.times[a]) / 3
            self.columns["handle_right"][a] = self.columns["co"][a] + np.array([width, width * slope[n]], np.float32)
            self.columns["handle_left"][b] = self.columns["co"][b] - np.array([width, width * slope[n + 1]], np.float32)
        for n, row in enumerate(rows):
            inner = 0 < n < len(rows) - 1
            if self.columns["type"][row] == GENERATED and inner and self.fresh[row]:
                self.columns["handle_left_type"][row] = self.columns["handle_right_type"][row] = HANDLE["ALIGNED"]
                continue
            if n > 0:
                self._own(row, "handle_left_type")
            if n < len(rows) - 1:
                self._own(row, "handle_right_type")

    def lean(self, border: int, inner: int) -> None:
        """Point a border key's inner handle at its new neighbour, so that the old one does not bulge."""
        side = "handle_right" if inner > border else "handle_left"
        if self.columns[f"{side}_type"][border] == HANDLE["FREE"]:
            start, end = self.columns["co"][border], self.columns["co"][inner]
            self.columns[side][border] = start + (end - start) / 3

    def store(self, curve: bpy.types.FCurve) -> None:
        """Replace the curve's keys by these."""
        points = curve.keyframe_points
        points.clear()
        points.add(len(self))
        for name in _FIELDS:
            points.foreach_set(name, self.columns[name].reshape(-1))
        curve.update()
        old = ~self.fresh
        moved = False
        for name in ("handle_left", "handle_right"):
            now = np.empty((len(self), 2), np.float32)
            points.foreach_get(name, now.reshape(-1))
            if (now[old] != self.columns[name][old]).any():
                now[old] = self.columns[name][old]
                points.foreach_set(name, now.reshape(-1))
                moved = True
        if moved:
            curve.id_data.update_tag()
