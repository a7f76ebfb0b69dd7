"""A hand on mouse and keyboard inside a running Blender (``--enable-event-simulate``), and an eye: pictures.

What takes time is a generator that yields the seconds to wait until Blender has handled it, for `in_window.drive`.
A button is found as a user finds it: the mouse goes down the region until Blender says that it lies on that button.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import bpy

Steps = Generator[float, None, None]
TICK = 0.03
ROW = 17
"""Pixels from look to look; a button is 18 to 20 high."""
ACROSS = 0.45
"""Part of the width at which buttons are looked for: in whole rows, on the first of two, on the second of three."""
TABS = 22
"""Width of the tabs at the right of a sidebar."""
NEXT_HEADER = 35
"""Pixels from the middle of a panel's last button down to the next panel's header."""

_at = [0, 0]
_found: dict[tuple[str, str], int] = {}


def window() -> bpy.types.Window:
    """The main window."""
    return bpy.context.window_manager.windows[0]


def area(kind: str) -> bpy.types.Area:
    """The first editor of a kind."""
    return next(each for each in window().screen.areas if each.type == kind)


def region(kind: str, part: str = "WINDOW") -> bpy.types.Region:
    """A part of the first editor of a kind."""
    return next(each for each in area(kind).regions if each.type == part)


def inside(kind: str, part: str = "WINDOW"):
    """For operators that ask where they are."""
    return bpy.context.temp_override(window=window(), area=area(kind), region=region(kind, part))


def centre(kind: str, part: str = "WINDOW") -> tuple[int, int]:
    """The middle of a part of an editor."""
    place = region(kind, part)
    return place.x + place.width // 2, place.y + place.height // 2


def _send(kind: str, value: str, **modifiers: bool) -> None:
    window().event_simulate(type=kind, value=value, x=_at[0], y=_at[1], **modifiers)


def move(x: float, y: float) -> Steps:
    """The mouse goes there."""
    _at[:] = int(x), int(y)
    _send("MOUSEMOVE", "NOTHING")
    yield TICK


def tap(kind: str, **modifiers: bool) -> Steps:
    """A key or a mouse button, pressed and let go."""
    _send(kind, "PRESS", **modifiers)
    yield TICK
    _send(kind, "RELEASE", **modifiers)
    yield TICK


def click(x: float, y: float) -> Steps:
    """The left button, there."""
    yield from move(x, y)
    yield from tap("LEFTMOUSE")
    yield 0.2


def drag(x: float, y: float, to_x: float, to_y: float) -> Steps:
    """The left button held from here to there."""
    yield from move(x, y)
    yield 0.1
    _send("LEFTMOUSE", "PRESS")
    yield 0.2
    for part in (0.1, 0.5, 1.0):
        yield from move(x + (to_x - x) * part, y + (to_y - y) * part)
        yield 0.2
    _send("LEFTMOUSE", "RELEASE")
    yield 0.3


def wheel_down(other: bpy.types.Window, clicks: int) -> Steps:
    """The wheel over the middle of another window."""
    for _ in range(clicks):
        other.event_simulate(type="WHEELDOWNMOUSE", value="PRESS", x=other.width // 2, y=other.height // 2)
    yield 1


def mouse() -> tuple[int, int]:
    """Where the mouse is."""
    return _at[0], _at[1]


def rest() -> Steps:
    """Leave the mouse where it is until the tooltip has come."""
    for step in (1, -1):
        yield from move(_at[0] + step, _at[1])
    yield 2.5


def _what(kind: str, part: str) -> str:
    """What lies under the mouse: the call that its button makes, or the path of its property."""
    manager = bpy.context.window_manager
    with inside(kind, part):
        for ask in (bpy.ops.ui.copy_python_command_button, bpy.ops.ui.copy_data_path_button):
            if ask.poll():
                manager.clipboard = ""
                ask()
                return manager.clipboard.removeprefix("bpy.ops.")
    return ""


def find(wanted: str, *, kind: str = "VIEW_3D", part: str = "UI") -> Steps:
    """Put the mouse on the button whose call or property begins with ``wanted``, scrolling where it is out of sight."""
    place = region(kind, part)
    x = place.x + (place.width - TABS) * ACROSS
    heights = range(place.y + place.height - 12, place.y + 12, -ROW)
    for scrolled in range(5):
        known = heights[0] if scrolled else _found.get((kind, wanted), heights[0])
        for y in sorted(heights, key=lambda y: abs(y - known)):  # things move little from one time to the next
            yield from move(x - 1, y)  # leaves one button
            yield from move(x, y)  # and enters the next
            if _what(kind, part).startswith(wanted):
                _found[kind, wanted] = y
                return
        with inside(kind, part):
            if scrolled:
                bpy.ops.view2d.scroll_down(page=True)
            elif bpy.ops.view2d.scroll_up.poll():
                bpy.ops.view2d.scroll_up(deltay=10000)
        yield 0.3
    raise AssertionError(f"no button {wanted} in {kind} {part}")


def press(wanted: str) -> Steps:
    """Find a button and click it."""
    yield from find(wanted)
    yield from tap("LEFTMOUSE")
    yield 0.1  # the operator begins after the event


def open_below(wanted: str, *, rows: int = 0) -> Steps:
    """Click the header of the panel under a button.

    rows: how many lie between.
    """
    down = 25 * rows + NEXT_HEADER
    yield from find(wanted)
    if _at[1] - down < region("VIEW_3D", "UI").y + 12:
        with inside("VIEW_3D", "UI"):
            bpy.ops.view2d.scroll_down(deltay=200)
        yield 0.3
        yield from find(wanted)
    yield from click(_at[0], _at[1] - down)
    yield 0.5


def until(holds: Callable[[], bool], what: str, seconds: float = 120) -> Steps:
    """Wait for something, but not for ever."""
    waited = 0.0
    while not holds():
        assert waited < seconds, f"waited {seconds:.0f} s: {what}"
        waited += 0.05
        yield 0.05


def box(kind: str, *parts: str) -> tuple[int, int, int, int]:
    """Left, bottom, right, top of an editor, or of what parts of it span."""
    places = [region(kind, part) for part in parts] or [area(kind)]
    return (
        min(p.x for p in places),
        min(p.y for p in places),
        max(p.x + p.width for p in places),
        max(p.y + p.height for p in places),
    )


def picture(path: Path, crop: tuple[int, int, int, int] | None = None) -> None:
    """The screen, or a part of it as `box` gives it, by ImageMagick if it is there: Blender's own may read black."""
    bpy.ops.wm.redraw_timer(type="DRAW_WIN_SWAP", iterations=1)
    if not shutil.which("import"):
        return
    words = ["import", "-window", "root", "-depth", "8"]
    if crop:
        left, bottom, right, top = crop
        words += ["-crop", f"{right - left}x{top - bottom}+{left}+{window().height - top}", "+repage"]
    subprocess.run([*words, "+dither", "-colors", "128", f"PNG8:{path}"], check=True, timeout=60)
