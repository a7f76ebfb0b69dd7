"""Estimates of Fill Gap's error, remembered for as long as they hold: the panel shows them, Fill Gap acts on them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import bpy

from .. import timeline
from ..rig.read import frame_rate
from . import reading

REMEMBERED = 64


@dataclass(frozen=True)
class Estimate:
    """What a trial said.

    sentence: for the panel. share, towards: how much of which curve makes the result better here; 0 = none of it.
    """

    sentence: str
    share: float = 0.0
    towards: str = ""


_estimates: OrderedDict[Hashable, Estimate] = OrderedDict()


def question(
    context: bpy.types.Context, armature: bpy.types.Object, about: reading.Subject, plan: timeline.FillPlan
) -> Hashable:
    """What an estimate holds for: the keys, the bones, the plan, the rate. Another armature or a moved key differs."""
    keep = tuple(sorted(plan.keep.items()))
    rate = frame_rate(context, armature)
    return armature.session_uid, about.keys.fingerprint, about.bones, plan.gaps, keep, rate


def recall(asked: Hashable) -> Estimate | None:
    """The estimate that was made of this, if there is one."""
    return _estimates.get(asked)


def remember(asked: Hashable, estimate: Estimate) -> None:
    """Keep an estimate; the oldest of many is forgotten."""
    _estimates[asked] = estimate
    _estimates.move_to_end(asked)
    while len(_estimates) > REMEMBERED:
        _estimates.popitem(last=False)
