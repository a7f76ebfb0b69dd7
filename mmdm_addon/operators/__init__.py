"""The commands: ``bpy.ops.mmdm.*``."""

from . import (
    bone_map,
    complete_bones,
    detect_problems,
    fill_gap,
    import_capture,
    import_motion,
    job,
    limbs_to_fk,
    refine_jitter,
    runtime,
    takes,
    trial,
)

CLASSES = (
    *fill_gap.CLASSES,
    *trial.CLASSES,
    *refine_jitter.CLASSES,
    *complete_bones.CLASSES,
    *detect_problems.CLASSES,
    *takes.CLASSES,
    *bone_map.CLASSES,
    *limbs_to_fk.CLASSES,
    *import_motion.CLASSES,
    *import_capture.CLASSES,
    *job.CLASSES,
    *runtime.CLASSES,
)
