"""The commands: ``bpy.ops.mmdm.*``."""

from . import bone_map, fill_gap, job, refine_jitter, runtime, takes

CLASSES = (
    *fill_gap.CLASSES,
    *refine_jitter.CLASSES,
    *takes.CLASSES,
    *bone_map.CLASSES,
    *job.CLASSES,
    *runtime.CLASSES,
)
