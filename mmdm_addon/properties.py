"""What Blender keeps for this extension: options in the scene, takes on the armature, progress in the window manager.

Annotations stay real objects here (no postponed evaluation), because Blender reads them.
"""

from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from . import problems
from .engine_link import MotionError
from .rig import stored

SOURCE_FPS = "mmdm_source_fps"
"""The custom property of an armature that `rig.read` looks for."""

KEEP_ITEMS = (
    ("KEYS", "Keep Keys", "Isolated keys inside the gap are hit exactly; runs of neighbouring keys are replaced"),
    ("NONE", "Replace Keys", "Every key inside the gap is replaced"),
)
DENSITY_ITEMS = (
    ("MATCH", "Match", "Keys on every frame where the action is baked, few Bézier keys where it is keyed by hand"),
    ("ALL", "Every Frame", "A key on every frame"),
    ("STEP", "Every n-th", "A key on every n-th frame"),
)
ORDER_ITEMS = (
    ("FRAME", "By Frame", "The earliest problem first"),
    ("SEVERITY", "By Severity", "The worst problem first"),
)


def fill_options() -> dict[str, Any]:
    """The options that the panel and `mmdm.fill_gap` share, as property definitions."""
    return {
        "keep": EnumProperty(name="Keys Inside", description="What happens to keys inside the gap", items=KEEP_ITEMS),
        "takes": IntProperty(
            name="Takes", description="How many different results to make; switch between them below",
            default=1, min=1, max=16,
        ),
        "seed": IntProperty(
            name="Seed", description="The same seed gives the same takes; it matters from the second take on",
            default=0, min=0,
        ),
        "label": StringProperty(
            name="Label",
            description="What is done in the gap, in a word or two, like walk, jump, boxing; empty = unsaid"
        ),
        "density": EnumProperty(name="Density", description="Where keys are written", items=DENSITY_ITEMS),
        "step": IntProperty(name="Step", description="Frames from key to key", default=2, min=1, max=120),
        "tolerance": FloatProperty(
            name="Tolerance", description="How many degrees the curves of reduced keys may stray from the result",
            default=0.2, min=0.01, max=10, precision=2,
        ),
        "extend": BoolProperty(
            name="Extend", description="Allow a gap with poses on one side only, beyond the end of the animation"
        ),
    }  # fmt: skip


def frame_options(
    first: str, last: str, *, kept: bool = False, otherwise: str = "from the selection"
) -> dict[str, Any]:
    """The range of an operator. first, last: what its ends are. kept: they stay. otherwise: what 0 and 0 stand for."""
    name = "Kept Frame" if kept else "Frame"
    return {
        "frame_start": IntProperty(name=f"First {name}", description=f"{first}; 0 and 0: {otherwise}", default=0),
        "frame_end": IntProperty(name=f"Last {name}", description=f"{last}; 0 and 0: {otherwise}", default=0),
    }


def lock_feet_option() -> Any:
    """Shared by all operators that write legs."""
    return BoolProperty(name="Lock Feet", description="Keep planted feet where they stand", default=True)


def strength_option() -> Any:
    """Of `mmdm.refine_jitter` and its panel."""
    return FloatProperty(
        name="Strength", description="0 changes nothing, 1 takes all of the shake out",
        default=1, min=0, max=1, subtype="FACTOR",
    )  # fmt: skip


class MMDM_PG_options(bpy.types.PropertyGroup):
    """The panel's options, kept in the scene."""

    __annotations__ = {
        **fill_options(),
        "lock_feet": lock_feet_option(),
        "strength": strength_option(),
        "problem_order": EnumProperty(name="Order", description="What stands first in the list", items=ORDER_ITEMS),
    }


class MMDM_PG_take(bpy.types.PropertyGroup):
    """An action that the panel can switch to."""

    action: PointerProperty(type=bpy.types.Action, override={"LIBRARY_OVERRIDABLE"})
    slot: IntProperty(description="Handle of the action's slot; 0 before Blender 4.4", override={"LIBRARY_OVERRIDABLE"})
    strip: StringProperty(
        description="The NLA strip that it was made for in tweak mode; empty for the armature's own action",
        override={"LIBRARY_OVERRIDABLE"},
    )
    source: BoolProperty(description="What was there before, not a result", override={"LIBRARY_OVERRIDABLE"})
    fake_user: BoolProperty(description="Whether a source had a fake user of its own", override={"LIBRARY_OVERRIDABLE"})
    detail: StringProperty(description="What was done, and the largest change", override={"LIBRARY_OVERRIDABLE"})


def _source_fps(self: bpy.types.PropertyGroup) -> float:
    value = stored.load(self.id_data, SOURCE_FPS)
    return float(value) if isinstance(value, int | float) else 0.0


def _set_source_fps(self: bpy.types.PropertyGroup, value: float) -> None:
    stored.store(self.id_data, SOURCE_FPS, float(value) if value > 0 else None)


class MMDM_PG_problem(bpy.types.PropertyGroup):
    """Something in a take that cannot be trusted."""

    role: StringProperty(description="Whose problem it is, as left_knee", override={"LIBRARY_OVERRIDABLE"})
    bone: StringProperty(description="The first bone of that role", override={"LIBRARY_OVERRIDABLE"})
    kind: StringProperty(description="pop, jitter, frozen, slide or penetration", override={"LIBRARY_OVERRIDABLE"})
    start: IntProperty(description="Its first scene frame", override={"LIBRARY_OVERRIDABLE"})
    end: IntProperty(description="Its last scene frame", override={"LIBRARY_OVERRIDABLE"})
    severity: FloatProperty(description="0 is nothing, 0.5 is plain to see", min=0, max=1, subtype="FACTOR",
                            override={"LIBRARY_OVERRIDABLE"})  # fmt: skip


def _show_problem(self: bpy.types.PropertyGroup, context: bpy.types.Context) -> None:
    if not 0 <= self.problem_index < len(self.problems):
        return
    try:
        problems.show(context, self.id_data, self.problems[self.problem_index])
    except MotionError as error:
        status = context.window_manager.mmdm
        status.message, status.failed = str(error), True


class MMDM_PG_armature(bpy.types.PropertyGroup):
    """What belongs to one armature object."""

    takes: CollectionProperty(type=MMDM_PG_take, override={"LIBRARY_OVERRIDABLE", "USE_INSERTION"})
    problems: CollectionProperty(type=MMDM_PG_problem, override={"LIBRARY_OVERRIDABLE", "USE_INSERTION"})
    problems_state: StringProperty(
        description="Of the keys in which the problems were found; empty before", override={"LIBRARY_OVERRIDABLE"}
    )
    problem_index: IntProperty(
        name="Problem", description="Go to its first frame and select its bone", default=-1, min=-1,
        update=_show_problem, override={"LIBRARY_OVERRIDABLE"},
    )  # fmt: skip
    source_fps: FloatProperty(
        name="Source Frame Rate",
        description="Frames per second at which the take was recorded where the scene has another rate; 0 = as it",
        min=0,
        max=1000,
        get=_source_fps,
        set=_set_source_fps,
    )


class MMDM_PG_status(bpy.types.PropertyGroup):
    """What the running job shows; never saved."""

    running: BoolProperty(options={"SKIP_SAVE"})
    progress: FloatProperty(min=0, max=1, subtype="FACTOR", options={"SKIP_SAVE"})
    text: StringProperty(options={"SKIP_SAVE"})
    failed: BoolProperty(description="Whether that sentence is about an error", options={"SKIP_SAVE"})
    message: StringProperty(description="The sentence with which the last job ended", options={"SKIP_SAVE"})


CLASSES = (MMDM_PG_options, MMDM_PG_take, MMDM_PG_problem, MMDM_PG_armature, MMDM_PG_status)


def register() -> None:
    """Hang the groups onto Blender's types; the classes are registered before."""
    bpy.types.Scene.mmdm = PointerProperty(type=MMDM_PG_options)
    bpy.types.Object.mmdm = PointerProperty(type=MMDM_PG_armature, override={"LIBRARY_OVERRIDABLE"})
    # on the object itself: Blender 5.2 loses a property group of an override that the linked rig has not set
    bpy.types.Object.mmdm_own = StringProperty(
        description="What rig.stored keeps on a library override", override={"LIBRARY_OVERRIDABLE"}, options={"HIDDEN"}
    )
    bpy.types.WindowManager.mmdm = PointerProperty(type=MMDM_PG_status)


def unregister() -> None:
    """Take them off again."""
    del bpy.types.WindowManager.mmdm
    del bpy.types.Object.mmdm_own
    del bpy.types.Object.mmdm
    del bpy.types.Scene.mmdm
