"""The commands: ``bpy.ops.mmdm.*``."""

from . import bone_map, fill_gap, import_motion, job, refine_jitter, runtime, takes

CLASSES = (
    *fill_gap.CLASSES,
    *refine_jitter.CLASSES,
    *takes.CLASSES,
    *bone_map.CLASSES,
    *import_motion.CLASSES,
    *job.CLASSES,
    *runtime.CLASSES,
)
