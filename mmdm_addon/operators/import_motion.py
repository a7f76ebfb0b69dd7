"""Import: what text-to-motion tools write, as an armature with an action.

Annotations stay real objects here, because Blender reads them.
"""

from pathlib import Path

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from .. import jobs
from ..engine_link import Motion, MotionError, exchange, pack
from ..properties import SOURCE_FPS
from ..rig.build import build

TIMING_ITEMS = (
    ("FILE", "Frame by Frame", "One frame of the file is one frame of the scene; the armature remembers its own rate"),
    ("SCENE", "Scene Rate", "Resample to the scene's frame rate, so that it plays at its own speed"),
    ("SET", "Set Scene Rate", "Frame by frame, and the scene gets the file's frame rate"),
)


class MMDM_OT_import_motion(bpy.types.Operator, ImportHelper):
    """Make an armature of a HumanML3D or joint position file, as text-to-motion tools write them"""

    bl_idname = "mmdm.import_motion"
    bl_label = "Import HumanML3D Motion"
    bl_options = {"REGISTER", "UNDO", "PRESET"}
    filename_ext = ".npy"

    filter_glob: StringProperty(default="*.npy", options={"HIDDEN"})
    fps: FloatProperty(
        name="Frame Rate",
        description="Frames per second of the file, which does not say so itself",
        default=20,
        min=1,
        max=1000,
    )
    timing: EnumProperty(name="Timing", description="What happens to the frame rate", items=TIMING_ITEMS)
    frame_start: IntProperty(name="Start Frame", description="Where the first frame of the file goes", default=1)
    index: IntProperty(
        name="Index", description="Which motion of a batch, counted from 0; -1: the only one", default=-1, min=-1
    )
    frames: IntProperty(
        name="Frames", description="Take so many from the start, the rest being padding; 0: all", default=0, min=0
    )
    scale: FloatProperty(
        name="Scale", description="Metres per unit of a file of joint positions", default=1, min=1e-6, max=1e6
    )
    mean: StringProperty(
        name="Mean", description="File of the 263 means that normalised features were made with", subtype="FILE_PATH"
    )
    std: StringProperty(name="Std", description="File of the 263 standard deviations", subtype="FILE_PATH")  # fmt: skip

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        if jobs.running() is not None:
            cls.poll_message_set("The engine is at work; wait for it or cancel it")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Read first, so that a bad file changes nothing."""
        try:
            motion = self._read(context)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if context.object is not None and context.object.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")
        armature = build(context, motion, Path(self.filepath).stem, self.frame_start)
        render = context.scene.render
        if self.timing == "SET":
            render.fps = max(1, round(motion.fps))
            render.fps_base = render.fps / motion.fps
        elif abs(render.fps / render.fps_base / motion.fps - 1) > 1e-6:
            armature[SOURCE_FPS] = motion.fps
        self.report(
            {"INFO"},
            f"{armature.name}: {len(motion)} frames at {motion.fps:g} fps, legs {motion.skeleton.leg_length:.2f} m.",
        )
        return {"FINISHED"}

    def _read(self, context: bpy.types.Context) -> Motion:
        motion = exchange.load(
            bpy.path.abspath(self.filepath),
            fps=self.fps,
            index=None if self.index < 0 else self.index,
            frames=self.frames or None,
            mean=bpy.path.abspath(self.mean) if self.mean else None,
            std=bpy.path.abspath(self.std) if self.std else None,
            scale=self.scale,
        )
        render = context.scene.render
        return pack.resample(motion, render.fps / render.fps_base) if self.timing == "SCENE" else motion


CLASSES = (MMDM_OT_import_motion,)
