"""Calibrated cameras as Blender cameras: what such a camera shows is where the calibration puts it."""

from __future__ import annotations

import math

import bpy
import numpy as np
from mathutils import Matrix

from ..engine_link import Camera
from .sampling import WORLD_AXES, metres

SENSOR = 36.0
"""Millimetres; no calibration says how wide a sensor is, and only its ratio to the focal length counts."""
_TO_BLENDER = np.diag([1.0, -1.0, -1.0])
"""A calibrated camera looks along +Z with Y down, Blender's along −Z with Y up."""
_GRID = 9


def size(camera: Camera) -> tuple[int, int]:
    """Width and height in pixels; where the calibration does not say, those with the principal point in the middle."""
    if camera.size is not None:
        return camera.size
    x, y = camera.matrix[:2, 2]
    return max(1, round(2 * x)), max(1, round(2 * y))


def build(context: bpy.types.Context, camera: Camera, collection: bpy.types.Collection) -> bpy.types.Object:
    """A camera object in a collection. Its view is right when the scene renders at the camera's own `size`."""
    width, height = size(camera)
    scale = 1 / metres(context.scene)
    data = bpy.data.cameras.new(camera.name)
    data.sensor_fit, data.sensor_width = "HORIZONTAL", SENSOR
    data.lens = camera.focal * SENSOR / width
    data.shift_x = (width / 2 - camera.matrix[0, 2]) / width
    data.shift_y = (camera.matrix[1, 2] - height / 2) / width
    data.clip_start, data.clip_end, data.display_size = 0.1 * scale, 200 * scale, 0.3 * scale
    data["resolution"] = [width, height]
    data["focal_length_pixels"] = camera.matrix.diagonal()[:2].tolist()
    data["principal_point"] = camera.matrix[:2, 2].tolist()
    data["distortion"] = camera.distortion.tolist()
    made = bpy.data.objects.new(camera.name, data)
    collection.objects.link(made)
    world = np.eye(4)
    world[:3, :3] = WORLD_AXES.T @ camera.rotation.T @ _TO_BLENDER
    world[:3, 3] = scale * WORLD_AXES.T @ camera.centre
    made.matrix_world = Matrix(world.tolist())
    return made


def deviation(camera: Camera) -> float:
    """How many pixels Blender's camera is off at worst: it has no lens distortion, and its pixels are square."""
    width, height = size(camera)
    across, down = np.meshgrid(np.linspace(0, width, _GRID), np.linspace(0, height, _GRID))
    pixels = np.stack([across, down], axis=-1)
    shown = camera.focal * camera.undistort(pixels) + camera.matrix[:2, 2]
    off = np.linalg.norm(shown - pixels, axis=-1)
    return float(off.max()) if np.isfinite(off).all() else math.inf
