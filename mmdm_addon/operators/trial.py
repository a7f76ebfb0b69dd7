"""The expected error of Fill Gap before anything is written, and the memory of it for the panel.

Annotations stay real objects here, because Blender reads them.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from bpy.props import IntProperty

from .. import jobs, timeline
from ..engine_link import MotionError, protocol
from ..properties import fill_options
from ..rig.read import frame_rate
from ..rig.write import check
from . import reading
from .fill_gap import hidden, planned

REACH = 15.0
"""Seconds on each side of the gap in which the engine looks for good motion to try itself out on."""
_REMEMBERED = 64

_sentences: OrderedDict[Hashable, str] = OrderedDict()


@dataclass(frozen=True)
class Subject:
    """What is being estimated.

    question: the plan and the state of the keys. note: which of several gaps it is, for the end of the sentence.
    """

    question: Hashable
    note: str


def question(
    context: bpy.types.Context, armature: bpy.types.Object, about: reading.Subject, plan: timeline.FillPlan
) -> Hashable:
    """What an estimate holds for: the keys, the bones, the plan, the rate. Another armature or a moved key differs."""
    keep = tuple(sorted(plan.keep.items()))
    rate = frame_rate(context, armature)
    return armature.session_uid, about.keys.fingerprint, about.bones, plan.gaps, keep, rate


def remembered(asked: Hashable) -> str:
    """The sentence of an estimate that was made for this before; empty without one."""
    return _sentences.get(asked, "")


def _remember(asked: Hashable, sentence: str) -> None:
    _sentences[asked] = sentence
    _sentences.move_to_end(asked)
    while len(_sentences) > _REMEMBERED:
        _sentences.popitem(last=False)


class MMDM_OT_trial(jobs.EngineOperator, bpy.types.Operator):
    """Expect Fill Gap's error."""

    bl_idname = "mmdm.trial"
    bl_label = "Estimate Error"
    bl_description = (
        "Try Fill Gap out on good motion nearby and say what error to expect, beside Bézier curves. Nothing is written"
    )
    title = "Estimate Error"
    panel_options = ("keep", "extend")

    __annotations__ = {
        "frame_start": IntProperty(
            name="First Kept Frame", description="The pose before the gap; 0 and 0: from the selection", default=0
        ),
        "frame_end": IntProperty(
            name="Last Kept Frame", description="The pose after the gap; 0 and 0: from the selection", default=0
        ),
        "keep": fill_options()["keep"],
        "extend": fill_options()["extend"],
    }

    def prepare(self, context: bpy.types.Context, armature: bpy.types.Object) -> jobs.Request:
        """Find the longest gap and read far around it."""
        about = reading.subject(armature)
        check(context, armature, about.roles, set(about.bones))
        plan = planned(
            context,
            about,
            keep=self.keep,
            extend=self.extend,
            frame_start=self.frame_start,
            frame_end=self.frame_end,
        )
        gap = max(plan.gaps, key=lambda each: len(each.frames))
        take = reading.read_around(
            context,
            armature,
            about,
            gap.frames[0] if gap.open_start else gap.start,
            gap.frames[-1] if gap.open_end else gap.end,
            seconds=REACH,
        )
        mask, inside = hidden(timeline.FillPlan((gap,), plan.keep), about, take.frames)
        rows = np.flatnonzero((mask & inside[:, None]).any(axis=1))
        if not len(rows):
            raise MotionError("Every frame of the gap has a key that is kept; choose Replace Keys or a longer gap.")
        others = np.isin(take.frames, np.concatenate([each.frames for each in plan.gaps]))
        bad = (mask.any(axis=1) | others) & ~inside  # neither context nor good motion to try it out on
        motion = take.motion.with_frames(
            np.where(bad[:, None, None], np.nan, take.motion.rotations).astype(np.float32),
            np.where(bad[:, None], np.nan, take.motion.root).astype(np.float32),
        )
        params = {"fps": motion.fps, "start": int(rows[0]), "stop": int(rows[-1]) + 1}
        arrays = protocol.motion_arrays(motion) | {"keep": ~mask, "joints": about.joints}
        note = f" in {timeline.FillPlan((gap,)).spans}, the longest of {len(plan.gaps)} gaps"
        notes = Subject(question(context, armature, about, plan), note if len(plan.gaps) > 1 else "")
        return jobs.Request(jobs.Target.of(armature, about.keys), "trial", params, arrays, notes)

    def receive(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        request: jobs.Request,
        header: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
    ) -> str:
        """Keep the sentence for the panel."""
        about: Subject = request.notes
        text = str(header["sentence"])
        sentence = f"{text[0].upper()}{text[1:]}{about.note}"
        _remember(about.question, sentence)
        return sentence + "."


CLASSES = (MMDM_OT_trial,)
