"""The expected error of Fill Gap before anything is written.

Annotations stay real objects here, because Blender reads them.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from .. import jobs, timeline
from ..engine_link import protocol
from ..properties import fill_options, frame_options
from . import estimates, reading
from .fill_gap import chosen, wanted


@dataclass(frozen=True)
class Subject:
    """What is being estimated.

    question: the plan and the state of the keys. note: which of several gaps it is, for the end of the sentence.
    """

    question: Hashable
    note: str


class MMDM_OT_trial(jobs.EngineOperator, bpy.types.Operator):
    """Expect Fill Gap's error."""

    bl_idname = "mmdm.trial"
    bl_label = "Estimate Error"
    bl_description = (
        "Try Fill Gap out on good motion nearby and say what error to expect, beside Bézier curves. Of several gaps "
        "the longest is tried. Nothing is written"
    )
    title = "Estimate Error"
    panel_options = ("keep", "extend")
    own_panel = True

    __annotations__ = {
        **frame_options("The pose before the gap", "The pose after the gap", kept=True),
        "keep": fill_options()["keep"],
        "extend": fill_options()["extend"],
    }

    def prepare(self, context: bpy.types.Context, armature: bpy.types.Object) -> jobs.Request:
        """Find the longest gap and read far around it."""
        about, plan = chosen(context, armature, self)
        tried = timeline.FillPlan((max(plan.gaps, key=lambda gap: len(gap.frames)),), plan.keep)
        take = reading.read_around(context, armature, about, *tried.extent, seconds=reading.REACH)
        mask, inside = wanted(tried, about, take.frames)
        rows = np.flatnonzero((mask & inside[:, None]).any(axis=1))
        others = np.isin(take.frames, np.concatenate([each.frames for each in plan.gaps]))
        bad = (mask.any(axis=1) | others) & ~inside  # neither context nor good motion to try it out on
        motion = take.motion.with_frames(
            np.where(bad[:, None, None], np.nan, take.motion.rotations).astype(np.float32),
            np.where(bad[:, None], np.nan, take.motion.root).astype(np.float32),
        )
        params = {"fps": motion.fps, "start": int(rows[0]), "stop": int(rows[-1]) + 1}
        arrays = protocol.motion_arrays(motion) | {"keep": ~mask, "joints": about.joints}
        note = f" in {tried.spans}, the longest of {len(plan.gaps)} gaps"
        notes = Subject(estimates.question(context, armature, about, plan), note if len(plan.gaps) > 1 else "")
        return jobs.Request(jobs.Target.of(armature, about.keys), "trial", params, arrays, notes)

    def receive(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        request: jobs.Request,
        header: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
    ) -> str:
        """Keep it for the panel and for Fill Gap."""
        about: Subject = request.notes
        text = str(header["sentence"])
        sentence = f"{text[0].upper()}{text[1:]}{about.note}"
        estimate = estimates.Estimate(sentence, float(header["blend"]), str(header["towards"]))
        estimates.remember(about.question, estimate)
        return sentence + "."


CLASSES = (MMDM_OT_trial,)
