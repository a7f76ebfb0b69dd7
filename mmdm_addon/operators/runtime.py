"""Install, test and remove the engine's Python, and read what it wrote.

In the window all of it runs beside the user, looked after by a timer; from scripts the operators wait.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import EnumProperty, StringProperty

from .. import jobs, runtime, runtime_install, runtime_locks, runtime_probe
from ..engine_client import Call, CallCancelledError
from ..engine_link import MotionError

LOG_NAME = "MMDM engine log"
TICK = 0.2
_LOG_TAIL = 400

_test: Call | None = None


def testing() -> Call | None:
    """The test that the window waits for."""
    return _test


def _busy() -> str:
    """Why the engine must be left alone now, for a greyed-out button."""
    if jobs.running() is not None:
        return "The engine is at work; wait for it or cancel it"
    if runtime.installation() is not None:
        return "The engine is being installed; wait for it or cancel it"
    return "The engine is being tested; wait for it or cancel it" if _test is not None else ""


def _in_window() -> bool:
    return not bpy.app.background  # there timers never fire


def chosen_build(operator_build: str = "AUTO") -> str:
    """The build to install: the operator's, else the preference, else the first that this machine has."""
    build = operator_build
    if build == "AUTO":
        build = getattr(runtime.preferences(), "build", "") or next(iter(runtime_locks.available()), "cpu")
    return build.lower()


def chosen_index(operator_index: str = "") -> str:
    """The package index: the operator's, else the preference."""
    return operator_index or getattr(runtime.preferences(), "package_index", "").strip()


def _tell(kind: str, text: str) -> None:
    """Into the panel and the preferences, where no operator is left that could report."""
    status = bpy.context.window_manager.mmdm
    status.message, status.failed = text, kind == "ERROR"


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()


def _watch(look: Callable[[], tuple[str, str] | None]) -> None:
    """Look now and then until there is an outcome (kind, sentence), and show that; goes on when a file is opened."""

    def tick() -> float | None:
        if not hasattr(bpy.types.WindowManager, "mmdm"):
            return None  # the extension was disabled
        outcome = look()
        if outcome is not None:
            _tell(*outcome)
        _redraw()
        return None if outcome is not None else TICK

    bpy.app.timers.register(tick, first_interval=TICK, persistent=True)


class _Concluding:
    """Mix-in: the operator reports an outcome, in the panel as well."""

    if TYPE_CHECKING:  # what bpy.types.Operator brings
        report: Any

    def conclude(self, outcome: tuple[str, str]) -> set[str]:
        """Report; FINISHED unless it is an error or was cancelled."""
        _tell(*outcome)
        self.report({"ERROR" if outcome[0] == "ERROR" else "INFO"}, outcome[1])
        return {"FINISHED"} if outcome[0] == "INFO" else {"CANCELLED"}


def _installed() -> tuple[str, str]:
    """The outcome of an installation that has ended."""
    under_way = runtime.installation()
    if under_way is None:  # the extension was disabled and enabled meanwhile
        return "CANCELLED", runtime_install.CANCELLED
    try:
        return "INFO", runtime.end_installation()
    except MotionError as error:
        return "CANCELLED" if under_way.cancelled else "ERROR", str(error)


def _look_at_installation() -> tuple[str, str] | None:
    under_way = runtime.installation()
    if under_way is not None and not under_way.ended:
        return None
    if under_way is not None and under_way.built and jobs.running() is not None:
        return None  # that job may run from the environment that is to be replaced
    return _installed()


class MMDM_OT_runtime_install(_Concluding, bpy.types.Operator):
    """Download the engine's Python packages into a folder of this extension"""

    bl_idname = "mmdm.runtime_install"
    bl_label = "Install Engine"

    __annotations__ = {
        "build": EnumProperty(
            name="Build",
            description="What the engine computes with",
            items=(
                ("AUTO", "From Preferences", "The build that is chosen in the preferences"),
                ("CPU", "CPU", "The processor"),
                ("CUDA", "CUDA", "An NVIDIA card"),
                ("MPS", "MPS", "Apple's graphics processor"),
            ),
        ),
        "package_index": StringProperty(
            name="Package Index",
            description="Address of an index, or a folder of packages; empty for the preference",
        ),
    }

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        problem = _busy() or (runtime.offline(chosen_index()) if _in_window() else "")  # a script may name a folder
        if problem:
            cls.poll_message_set(problem)
        return not problem

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """Blender's hook: what would be done here."""
        try:
            lock = runtime_locks.find(chosen_build(properties.build))
        except MotionError as error:
            return str(error).rstrip(".")
        return (
            f"Download {lock.size / 1e6:,.0f} MB of pinned packages ({runtime_locks.BUILDS[lock.build]}) into "
            f"{runtime.managed_folder()}. Nothing else on this computer is changed"
        )

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From scripts and in the background: wait, and say in the terminal what is done."""
        try:
            begun = self._begin()
        except MotionError as error:
            return self.conclude(("ERROR", str(error)))
        begun.wait(lambda i: print(f"MMDM engine: {i.progress:4.0%} {i.text}", flush=True))
        return self.conclude(_installed())

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """In the window: begin, and let the timer do the rest."""
        if not _in_window():
            return self.execute(context)
        try:
            self._begin()
        except MotionError as error:
            return self.conclude(("ERROR", str(error)))
        _watch(_look_at_installation)
        return {"FINISHED"}

    def _begin(self) -> runtime_install.Installation:
        return runtime.begin_installation(chosen_build(self.build), chosen_index(self.package_index))


class MMDM_OT_runtime_cancel(bpy.types.Operator):
    """Stop installing or testing the engine; an engine that was there before stays"""

    bl_idname = "mmdm.runtime_cancel"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        return runtime.installation() is not None or _test is not None

    def execute(self, context: bpy.types.Context) -> set[str]:
        """The timer notices."""
        under_way = runtime.installation()
        if under_way is not None:
            under_way.cancel()
        if _test is not None:
            _test.cancel()
        return {"FINISHED"}


class MMDM_OT_runtime_remove(_Concluding, bpy.types.Operator):
    """Delete the engine's Python packages that this extension has installed"""

    bl_idname = "mmdm.runtime_remove"
    bl_label = "Remove Engine"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        problem = _busy() or ("" if runtime.managed_folder().exists() else "No engine is installed by this extension")
        if problem:
            cls.poll_message_set(problem)
        return not problem

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask first: it would have to be downloaded again."""
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """The worker ends, too."""
        try:
            runtime.remove_managed()
        except MotionError as error:
            return self.conclude(("ERROR", str(error)))
        return self.conclude(("INFO", "The engine was removed."))


class MMDM_OT_runtime_test(_Concluding, bpy.types.Operator):
    """Start the engine and let it fill a gap of 30 frames in a made-up walk; your file is not touched"""

    bl_idname = "mmdm.runtime_test"
    bl_label = "Test Engine"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        problem = _busy()
        if problem:
            cls.poll_message_set(problem)
        return not problem

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From scripts: wait for the answer."""
        started = time.monotonic()
        try:
            call = runtime.client().submit(*runtime_probe.request())
        except MotionError as error:
            return self.conclude(("ERROR", str(error)))
        call.wait()
        return self.conclude(_verdict(call, started))

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """In the window: the first start takes seconds, in which Blender stays usable."""
        global _test
        if not _in_window():
            return self.execute(context)
        started = time.monotonic()
        try:
            _test = call = runtime.client().submit(*runtime_probe.request())
        except MotionError as error:
            return self.conclude(("ERROR", str(error)))

        def look() -> tuple[str, str] | None:
            global _test
            if not call.poll():
                return None
            _test = None
            return _verdict(call, started)

        _watch(look)
        return {"FINISHED"}


def _verdict(call: Call, started: float) -> tuple[str, str]:
    """What a test has shown."""
    total = time.monotonic() - started
    try:
        header, arrays = call.result()
        runtime_probe.judge(arrays)
    except CallCancelledError:
        return "CANCELLED", "The test was cancelled."
    except MotionError as error:
        return "ERROR", str(error)
    hello = call.client.hello or {}
    return "INFO", (
        f"The engine works: {runtime_probe.STOP - runtime_probe.START} frames filled in {header['seconds']:.1f} s on "
        f"{hello['devices'][0]} ({hello['device_names'][0]}), {total:.1f} s with its start; "
        f"Python {hello['python']}, torch {hello['torch']}."
    )


class MMDM_OT_runtime_log(bpy.types.Operator):
    """Put the last lines of the engine's and of its installation's log into a text of this file"""

    bl_idname = "mmdm.runtime_log"
    bl_label = "Show Log"

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Into the text editor, where it can be copied."""
        client = runtime.current()
        text = bpy.data.texts.get(LOG_NAME) or bpy.data.texts.new(LOG_NAME)
        lines = client.log if client is not None else []
        installation = runtime.installation_log(_LOG_TAIL)
        if installation:
            lines = [*lines, "", "Installation:", *installation]
        text.from_string("\n".join([runtime.status(), "", *lines]))
        self.report({"INFO"}, f"The log is in the text '{LOG_NAME}' of the Text Editor.")
        return {"FINISHED"}


CLASSES = (
    MMDM_OT_runtime_install,
    MMDM_OT_runtime_cancel,
    MMDM_OT_runtime_remove,
    MMDM_OT_runtime_test,
    MMDM_OT_runtime_log,
)
