"""What Blender and the engine agree on: the motion, its skeleton, rest alignment, and the worker's wire format.

Needs NumPy only, so that it can be imported inside any Blender.
"""

from .errors import MotionError
from .motion import Motion, Skeleton
from .skeleton import CANONICAL_DIRECTIONS, JOINTS, MAIN_CHILD, MIRROR, PARENTS

__all__ = ["CANONICAL_DIRECTIONS", "JOINTS", "MAIN_CHILD", "MIRROR", "PARENTS", "Motion", "MotionError", "Skeleton"]
