"""Detect Problems: list what cannot be trusted in a take, and hand it to the tools that mend it.

Annotations stay real objects here, because Blender reads them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.props import EnumProperty, IntProperty

from .. import jobs, problems, timeline
from ..engine_link import JOINTS, MotionError, chains, protocol
from ..rig import confidence, roles
from ..rig.read import read
from ..rig.roles import RoleMap
from . import reading

UNSEEN_SECONDS = 0.2
"""What a capture did not see for less time lies between two places that it did see."""


@dataclass(frozen=True, eq=False)
class Search:
    """What `receive` needs: whose bones, which scene frames, which of these are poses, (T,) bool, and what a capture
    did not see, as the engine tells of problems."""

    roles: RoleMap
    frames: np.ndarray
    poses: np.ndarray
    unseen: list[dict[str, Any]]


def unseen(sure: np.ndarray | None, fps: float) -> list[dict[str, Any]]:
    """Problems of a capture's confidence (T, 22); the longer nothing was seen, the more severe."""
    if sure is None:
        return []
    return [
        {"kind": "unseen", "joint": joint, "start": a, "stop": b, "severity": (b - a) / (b - a + fps / 2)}
        for joint, column in zip(JOINTS, sure.T, strict=True)
        for a, b in chains.runs(column < confidence.UNSEEN)
        if b - a >= UNSEEN_SECONDS * fps
    ]


class MMDM_OT_detect_problems(jobs.EngineOperator, bpy.types.Operator):
    """Look for faults."""

    bl_idname = "mmdm.detect_problems"
    bl_label = "Detect Problems"
    bl_description = (
        "List pops, jitter, frozen runs, sliding and sunken feet, and what a capture did not see, of the preview range "
        "or of everything. Nothing is written"
    )
    bl_options = {"UNDO"}
    title = "Detect Problems"
    needs_bones = False

    def prepare(self, context: bpy.types.Context, armature: bpy.types.Object) -> jobs.Request:
        """Read the whole body over the range."""
        found = roles.detect(armature)
        found.require()
        keys = timeline.pose_keys(armature)
        first, last = timeline.plan_range(keys.bones, (), preview=reading.preview_range(context))
        frames = np.arange(math.ceil(first - timeline.SAME), math.floor(last + timeline.SAME) + 1, dtype=np.float64)
        take = read(context, armature, frames, roles=found)
        poses = timeline.trusted(timeline.columns(keys.bones.values()), frames)
        return jobs.Request(
            jobs.Target.of(armature, keys),
            "detect",
            {"fps": take.motion.fps},
            protocol.motion_arrays(take.motion),
            Search(found, frames, poses, unseen(confidence.read(armature, found, frames), take.motion.fps)),
        )

    def receive(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        request: jobs.Request,
        header: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
    ) -> str:
        """Put the problems onto the armature."""
        search: Search = request.notes
        listed = armature.mmdm.problems
        listed.clear()
        for problem in sorted([*header["problems"], *search.unseen], key=lambda p: int(p["start"])):
            start, stop = int(problem["start"]), int(problem["stop"])
            if search.poses[start:stop].mean() < 0.5:
                continue  # a curve between two keys is not the take's fault
            entry = listed.add()
            entry.role, entry.kind, entry.severity = problem["joint"], problem["kind"], float(problem["severity"])
            chain = search.roles.chains.get(entry.role) or search.roles.read.get(entry.role) or ("",)
            entry.bone = entry.name = chain[0]
            entry.start, entry.end = int(search.frames[start]), int(search.frames[stop - 1])
        armature.mmdm.problems_state = problems.state(armature)
        armature.mmdm.problem_index = -1
        return self._sentence(armature, search)

    @staticmethod
    def _sentence(armature: bpy.types.Object, search: Search) -> str:
        listed = armature.mmdm.problems
        span = f"{search.frames[0]:g}-{search.frames[-1]:g}"
        sparse = "" if search.poses.all() else " Frames between keys that are far apart were not judged."
        if not len(listed):
            return f"No problems found in {span}.{sparse}"
        counts = {kind: sum(p.kind == kind for p in listed) for kind in problems.KINDS}
        words = ", ".join(f"{count} × {problems.KINDS[kind][0].lower()}" for kind, count in counts.items() if count)
        noun = "problem" if len(listed) == 1 else "problems"
        return f"{len(listed)} {noun} in {span}: {words}.{sparse}"


FIXES = (
    ("ALL", "Refine All", "Refine every bone of the list, from the first problem to the last"),
    ("REFINE", "Refine", "Refine the chosen problem's frames"),
    ("FILL", "Fill", "Replace the chosen problem's frames by motion that fits both sides"),
)


class MMDM_OT_problem_fix(bpy.types.Operator):
    """Mend what is listed."""

    bl_idname = "mmdm.problem_fix"
    bl_label = "Mend Problem"
    bl_description = "Select the bones of the problem and refine or fill its frames. The result is a new action"
    if TYPE_CHECKING:  # what bpy.types.Operator brings
        poll_message_set: Any
        report: Any

    __annotations__ = {
        "method": EnumProperty(name="Method", description="What to do", items=FIXES),
        "index": IntProperty(
            name="Problem", description="Its place in the list, counted from 0; -1: the chosen one", default=-1, min=-1
        ),
    }

    @classmethod
    def description(cls, _context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """Blender's hook: each button says what it does."""
        return next(text for name, _, text in FIXES if name == properties.method) + ". The result is a new action"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        problem = jobs.unready(context, bones=False)
        if not problem and not len(jobs.require_armature(context).mmdm.problems):
            problem = "No problems are listed; press Detect Problems first"
        if problem:
            cls.poll_message_set(problem)
        return not problem

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Blender's hook: from scripts, wait."""
        return self._mend(context, "EXEC_DEFAULT")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Blender's hook: in the window, run beside the user."""
        return self._mend(context, "INVOKE_DEFAULT")

    def _mend(self, context: bpy.types.Context, how: str) -> set[str]:
        armature = jobs.require_armature(context)
        try:
            chosen = self._chosen(armature)
            problems.select(armature, problems.bones(armature, chosen, repair=True))
            first, last = min(p.start for p in chosen), max(p.end for p in chosen)
            if self.method == "FILL":
                keyed = timeline.columns(timeline.pose_keys(armature).bones.values())
                extend = bool(first <= keyed[0] + timeline.SAME or last >= keyed[-1] - timeline.SAME)
                borders = {"frame_start": first - 1, "frame_end": last + 1, "keep": "NONE", "extend": extend}
                outcome = bpy.ops.mmdm.fill_gap(how, True, **borders)
            else:
                outcome = bpy.ops.mmdm.refine_jitter(how, True, frame_start=first, frame_end=last)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        except RuntimeError as error:  # the sentence of the tool that refused
            self.report({"ERROR"}, str(error).removeprefix("Error: ").strip())
            return {"CANCELLED"}
        return {"CANCELLED"} if outcome == {"CANCELLED"} else {"FINISHED"}

    def _chosen(self, armature: bpy.types.Object) -> list[bpy.types.PropertyGroup]:
        listed = armature.mmdm.problems
        if problems.stale(armature):
            raise MotionError("The keys have changed since the problems were found; press Detect Problems again.")
        if self.method == "ALL":
            return list(listed)
        index = self.index if self.index >= 0 else armature.mmdm.problem_index
        if not 0 <= index < len(listed):
            raise MotionError("No problem is chosen; click one in the list.")
        return [listed[index]]


CLASSES = (MMDM_OT_detect_problems, MMDM_OT_problem_fix)
