"""One way for every operator to ask the engine: blocking from scripts, with a timer in the window.

An operator prepares a `Request`, the worker computes, and one place, `EngineOperator._finish`, resolves the armature
again and applies the answer. Nothing is changed in the file before that, so a cancel leaves nothing behind.
"""

import contextlib
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import bpy
import numpy as np

from . import compat, nla, runtime, timeline
from .engine_client import Call, CallCancelledError
from .engine_link import MotionError

TIMER = 0.1
_AREAS = {"VIEW_3D", "DOPESHEET_EDITOR", "GRAPH_EDITOR"}


class Place(Protocol):
    """Where an answer will go."""

    def find(self) -> bpy.types.ID | None:
        """What was asked about; None when it is gone and nobody wants the answer any more."""

    def require(self, context: bpy.types.Context) -> bpy.types.ID:
        """The same. Raises `MotionError` when it is gone."""

    def resolve(self, context: bpy.types.Context) -> bpy.types.ID:
        """The same. Raises `MotionError` when the answer no longer fits."""


@dataclass(frozen=True)
class Target:
    """An armature and its action by what survives undo: names and session ids.

    strip: name of the NLA strip in tweak mode, empty for none. shift: `nla.shift`. fingerprint: of the keys as they
    were read.
    """

    name: str
    armature_id: int
    action_id: int
    slot: int
    strip: str
    shift: float
    fingerprint: int

    @classmethod
    def of(cls, armature: bpy.types.Object, keys: timeline.PoseKeys) -> "Target":
        """Remember an armature with an action."""
        action, slot = armature.animation_data.action, compat.assigned_slot(armature)
        return cls(
            armature.name,
            armature.session_uid,
            action.session_uid,
            slot.handle if slot else 0,
            nla.home(armature),
            nla.shift(armature),
            keys.fingerprint,
        )

    def find(self) -> bpy.types.Object | None:
        """The armature, if it is still in the file."""
        armature = bpy.data.objects.get(self.name)
        if armature is None or armature.session_uid != self.armature_id:
            armature = next((o for o in bpy.data.objects if o.session_uid == self.armature_id), None)
        return armature

    def require(self, context: bpy.types.Context) -> bpy.types.Object:
        """The armature, if it is still in the scene. Raises `MotionError` when it is not."""
        armature = self.find()
        if armature is None or armature.name not in context.view_layer.objects:
            raise MotionError(f"The armature '{self.name}' is gone, so the result was dropped; nothing was changed.")
        return armature

    def resolve(self, context: bpy.types.Context) -> bpy.types.Object:
        """The armature, unchanged since it was read. Raises `MotionError` when the answer no longer fits."""
        armature = self.require(context)
        data = armature.animation_data
        slot = compat.assigned_slot(armature)
        if (
            data is None
            or data.action is None
            or data.action.session_uid != self.action_id
            or (slot.handle if slot else 0) != self.slot
            or (nla.home(armature), nla.shift(armature)) != (self.strip, self.shift)
            or timeline.pose_keys(armature).fingerprint != self.fingerprint
        ):
            raise MotionError(
                f"The keys of '{self.name}' changed while the engine worked, so the result was dropped; run it again."
            )
        return armature


@dataclass(frozen=True)
class Request:
    """What to ask the engine, and what the operator needs to apply the answer (no Blender data in it)."""

    target: Place
    method: str
    params: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    notes: Any = field(default=None, repr=False)


@dataclass
class Job:
    """A request under way."""

    title: str
    request: Request
    call: Call

    @property
    def status(self) -> str:
        """For the status bar and the panel."""
        if self.call.cancelling:
            return f"{self.title}: cancelling"
        if not self.call.of:
            hello = self.call.client.hello
            return f"{self.title}: {'waiting for the engine' if hello else 'starting the engine'}"
        left = self.call.seconds_left
        return f"{self.title}: {self.call.fraction:.0%}" + (f", {left:.0f} s left" if left is not None else "")


_running: Job | None = None


def running() -> Job | None:
    """The job whose answer the window waits for."""
    return _running


def cancel_running() -> None:
    """Ask the running job to stop; its operator notices at its next tick."""
    if _running is not None:
        _running.call.cancel()


def active_armature(context: bpy.types.Context) -> bpy.types.Object | None:
    """The armature that operators act on."""
    layer = context.view_layer
    active = layer.objects.active if layer else None
    return active if active is not None and active.type == "ARMATURE" else None


def require_armature(context: bpy.types.Context) -> bpy.types.Object:
    """The active armature, where a poll has made sure that there is one."""
    armature = active_armature(context)
    assert armature is not None
    return armature


def selected_bones(armature: bpy.types.Object) -> list[str]:
    """Names of the selected, visible pose bones."""
    return [b.name for b in armature.pose.bones if compat.is_selected(b) and not compat.is_hidden(b)]


def unready(context: bpy.types.Context, *, bones: bool = True) -> str:
    """Why no job can start now, in words for a greyed-out button; empty when one can.

    bones: the job is about the selected bones, so some must be.
    """
    armature = active_armature(context)
    if _running is not None:
        return f"{_running.title} is running; wait for it or cancel it"
    if armature is None:
        return "No armature is active; click the rig first"
    if armature.mode == "EDIT":
        return "The armature is in Edit Mode; switch to Pose Mode"
    data = armature.animation_data
    if data is None or data.action is None:
        return "The armature has no action; set a few key poses first"
    if problem := nla.obstacle(armature):
        return problem
    if compat.has_slots() and compat.assigned_slot(armature) is None:
        return "The armature's action has no slot assigned; choose one in the Action editor"
    if bones and not compat.any_selected(armature):
        return "No bone is selected; select the bones to write in Pose Mode"
    return runtime.missing().rstrip(".")


class EngineOperator:
    """Mix-in: subclasses give ``title``, ``prepare`` and ``apply``; see the module's text.

    panel_options: names of properties that, run from the window, default to the panel's. needs_bones: it is about the
    selected bones. own_panel: its own panel shows the answer, so that the first one need not.
    """

    title = ""
    panel_options: tuple[str, ...] = ()
    needs_bones = True
    own_panel = False
    if TYPE_CHECKING:  # what bpy.types.Operator brings
        poll_message_set: Any
        properties: Any
        report: Any

    def subject(self, context: bpy.types.Context) -> bpy.types.ID:
        """What `prepare` is to read."""
        return require_armature(context)

    def prepare(self, context: bpy.types.Context, armature: bpy.types.Object) -> Request:
        """Read what the engine needs. Raises `MotionError`."""
        raise NotImplementedError

    def apply(
        self, context: bpy.types.Context, armature: bpy.types.Object, request: Request, arrays: dict[str, np.ndarray]
    ) -> str:
        """Write the answer; the sentence for the user. Raises `MotionError` having changed nothing."""
        raise NotImplementedError

    def receive(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        request: Request,
        header: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
    ) -> str:
        """`apply`, for those to whom the answer's header says something as well."""
        return self.apply(context, armature, request, arrays)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook: greyed out, with the reason, while nothing can be done."""
        problem = unready(context, bones=cls.needs_bones)
        if problem:
            cls.poll_message_set(problem)
        return not problem

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Blender's hook: from scripts and in the background, wait for the answer."""
        with self._words() as outcome:
            job = self._begin(context)
            context.window_manager.progress_begin(0, 1)
            try:  # the window manager is asked for anew: a file that is opened meanwhile brings its own
                job.call.wait(lambda call: context.window_manager.progress_update(call.fraction))
            finally:
                context.window_manager.progress_end()
            outcome.add(self._finish(context, job))
        return set(outcome) or {"CANCELLED"}

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Blender's hook: in the window, keep it usable while the engine works."""
        global _running
        options = context.scene.mmdm
        for name in self.panel_options:
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(options, name))
        if not self._has_window(context):
            return self.execute(context)
        with self._words() as outcome:
            self._job = _running = self._begin(context)
            self._timer = context.window_manager.event_timer_add(TIMER, window=context.window)
            context.window_manager.modal_handler_add(self)
            self._show(context)
            outcome.add("RUNNING_MODAL")
        return set(outcome) or {"CANCELLED"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Blender's hook: look after the job ten times a second; only Esc is ours, all else is the user's."""
        job = self._job
        if event.type == "ESC" and event.value == "PRESS":
            job.call.cancel()
            self._show(context)
            return {"RUNNING_MODAL"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        if not job.call.finished and job.request.target.find() is None:
            job.call.cancel()
        if not job.call.poll():
            self._show(context)
            return {"PASS_THROUGH"}
        self._release(context)
        with self._words() as outcome:
            outcome.add(self._finish(context, job))
        return set(outcome) or {"CANCELLED"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender's hook: the window closes or another file is loaded."""
        self._job.call.cancel()
        self._release(context)

    def _has_window(self, context: bpy.types.Context) -> bool:
        return not bpy.app.background and context.window is not None

    def _begin(self, context: bpy.types.Context) -> Job:
        request = self.prepare(context, self.subject(context))
        call = runtime.client().submit(request.method, dict(request.params), dict(request.arrays))
        return Job(self.title, request, call)

    def _finish(self, context: bpy.types.Context, job: Job) -> str:
        """The one place where an answer becomes a change of the file."""
        job.request.target.require(context)  # the reason why a job was cancelled from here
        header, arrays = job.call.result()
        armature = job.request.target.resolve(context)
        self._say("INFO", self.receive(context, armature, job.request, header, arrays))
        if self.own_panel:
            bpy.context.window_manager.mmdm.message = ""
        return "FINISHED"

    @contextlib.contextmanager
    def _words(self) -> Any:
        """Turn what goes wrong into a report; the set that it yields stays empty then."""
        outcome: set[str] = set()
        try:
            yield outcome
        except CallCancelledError as error:
            self._say("INFO", str(error))
        except MotionError as error:
            self._say("ERROR", str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._say(
                "ERROR",
                f"{self.title} met an unexpected problem ({type(error).__name__}: {error}); "
                "please report it with the text in the system console.",
            )

    def _say(self, kind: str, text: str) -> None:
        status = bpy.context.window_manager.mmdm
        status.message, status.failed = text, kind == "ERROR"
        self.report({kind}, text)

    def _show(self, context: bpy.types.Context) -> None:
        status, job = context.window_manager.mmdm, self._job
        text = job.status
        if status.running and status.text == text and status.progress == job.call.fraction:
            return
        status.running, status.text, status.progress = True, text, job.call.fraction
        if context.workspace is not None:
            context.workspace.status_text_set(f"MMDM  {text}   |   Esc: cancel")
        _redraw(context.window_manager.windows)

    def _release(self, context: bpy.types.Context) -> None:
        global _running
        _running = None
        manager = bpy.context.window_manager
        if self._timer is not None:
            manager.event_timer_remove(self._timer)
            self._timer = None
        status = manager.mmdm
        status.running, status.progress, status.text = False, 0, ""
        for workspace in bpy.data.workspaces:
            workspace.status_text_set(None)
        _redraw(manager.windows)


def _redraw(windows: Iterable[bpy.types.Window]) -> None:
    for window in windows:
        for area in window.screen.areas:
            if area.type in _AREAS:
                area.tag_redraw()
