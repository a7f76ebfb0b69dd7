"""Import: what several calibrated cameras saw, as an armature for each person, and the cameras.

Annotations stay real objects here, because Blender reads them.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy.props import BoolProperty, FloatProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from .. import jobs, runtime
from ..engine_link import MotionError, captures, protocol
from ..properties import SOURCE_FPS
from ..rig import cameras, confidence
from ..rig.build import build

_MADE_IN = ("objects", "armatures", "cameras", "actions", "collections")
_VISIBLE_DEVIATION = 0.5
"""Pixels by which Blender's camera may differ from the calibrated one before it is said."""


@dataclass(frozen=True)
class _OpenScene:
    """Where new objects go: the scene that is open when they are ready."""

    def find(self) -> bpy.types.Scene:
        return bpy.context.scene

    def require(self, context: bpy.types.Context) -> bpy.types.Scene:
        return context.scene

    def resolve(self, context: bpy.types.Context) -> bpy.types.Scene:
        return context.scene


class MMDM_OT_import_capture(jobs.EngineOperator, bpy.types.Operator, ImportHelper):
    """Make armatures of people whom several calibrated cameras saw: OpenPose detections and a calibration file"""

    bl_idname = "mmdm.import_capture"
    bl_label = "Import Multi-view Capture"
    bl_options = {"UNDO", "PRESET"}
    title = "Multi-view Capture"
    filename_ext = ".json"

    filter_glob: StringProperty(default="*.json;*.yml;*.yaml;*.toml", options={"HIDDEN"})
    detections: StringProperty(
        name="Detections",
        description="Folder with a folder or zip of OpenPose JSON for each camera; empty: beside the calibration",
        options={"SKIP_SAVE"},
    )
    fps: FloatProperty(
        name="Frame Rate",
        description="Frames per second of the cameras; 0: the scene's. One of their frames is one of the scene",
        default=0, min=0, max=1000, options={"SKIP_SAVE"},
    )  # fmt: skip
    scale: FloatProperty(
        name="Metres per Unit", description="Of the calibration: 0.001 if it is in millimetres",
        default=1, min=1e-6, max=1e6, precision=3,
    )  # fmt: skip
    frame_start: IntProperty(name="Start Frame", description="Where the cameras' first frame goes", default=1, min=0)
    people: IntProperty(
        name="People", description="So many, those who are seen longest; 0: everybody", default=0, min=0
    )
    clean: BoolProperty(
        name="Clean", description="Take the noise out. What was not seen is made up in any case", default=True
    )
    cameras: BoolProperty(name="Cameras", description="Import the cameras as well, to look through them", default=True)
    set_scene: BoolProperty(
        name="Set Scene",
        description="The scene gets the capture's frame rate and range, and the resolution of its first camera",
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        running = jobs.running()
        problem = f"{running.title} is running; wait for it or cancel it" if running else runtime.missing().rstrip(".")
        if problem:
            cls.poll_message_set(problem)
        return not problem

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask for the calibration; with one, go to work beside the user."""
        if self.properties.is_property_set("filepath"):  # not the one of the last time, which Blender remembers
            return super().invoke(context, event)
        self._chosen_by_hand = True
        self.fps = self.fps or _frame_rate(context.scene)
        return ImportHelper.invoke(self, context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From scripts, wait. The file browser calls this, too, which cannot run beside the user: another one does."""
        if not getattr(self, "_chosen_by_hand", False):
            return super().execute(context)
        try:
            bpy.ops.mmdm.import_capture("INVOKE_DEFAULT", True, **self._options())
        except RuntimeError as error:  # its sentence
            self.report({"ERROR"}, str(error).removeprefix("Error: ").strip())
        return {"CANCELLED"}  # this one has changed nothing, so it is no undo step

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender's hook: the file browser, which has no job yet, or the job is given up."""
        if not getattr(self, "_chosen_by_hand", False):
            super().cancel(context)

    def _options(self) -> dict[str, Any]:
        names = ("filepath", "detections", "fps", "scale", "frame_start", "people", "clean", "cameras", "set_scene")
        return {name: getattr(self, name) for name in names}

    def subject(self, context: bpy.types.Context) -> bpy.types.Scene:
        """The scene."""
        return context.scene

    def prepare(self, context: bpy.types.Context, scene: bpy.types.Scene) -> jobs.Request:
        """The engine reads the files itself."""
        if not self.filepath:
            raise MotionError("No calibration is chosen; choose the file that says where the cameras stand.")
        calibration = Path(bpy.path.abspath(self.filepath)).absolute()
        detections = str(Path(bpy.path.abspath(self.detections)).absolute()) if self.detections else ""
        params = {
            "calibration": str(calibration),
            "detections": detections,
            "fps": self.fps or _frame_rate(scene),
            "scale": self.scale,
            "filter": self.clean,
        }
        home = calibration if calibration.is_dir() else calibration.parent
        return jobs.Request(_OpenScene(), "capture", params, {}, home.name or "Capture")

    def receive(
        self,
        context: bpy.types.Context,
        scene: bpy.types.Scene,
        request: jobs.Request,
        header: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
    ) -> str:
        """A collection with armatures and cameras."""
        people = _longest(header["people"], self.people)
        first = header["first_frame"] - self.frame_start
        rig = captures.cameras_of(header) if self.cameras else ()
        with _all_or_nothing():
            if context.object is not None and context.object.mode != "OBJECT":
                bpy.ops.object.mode_set(mode="OBJECT")
            collection = bpy.data.collections.new(request.notes)
            context.collection.children.link(collection)
            made = [
                _person(context, person, arrays, header["fps"], person["first_frame"] - first, collection)
                for person in people
            ]
            for armature in made:
                armature.select_set(True)
            context.view_layer.objects.active = made[0]
            shown = [cameras.build(context, camera, collection) for camera in rig]
        if shown and scene.camera is None:
            scene.camera = shown[0]
        if self.set_scene:
            _set_scene(scene, header, self.frame_start)
        if abs(_frame_rate(scene) / header["fps"] - 1) > 1e-6:
            for armature in made:
                armature[SOURCE_FPS] = header["fps"]
        return _sentence(header, len(made), rig)


def _frame_rate(scene: bpy.types.Scene) -> float:
    return scene.render.fps / scene.render.fps_base


def _longest(people: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """So many people, those with most frames, in the order of their entry; 0 = everybody."""
    kept = sorted(people, key=lambda person: -person["frames"])[: most or None]
    return [person for person in people if person in kept]


def _person(
    context: bpy.types.Context,
    person: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    fps: float,
    first_frame: int,
    collection: bpy.types.Collection,
) -> bpy.types.Object:
    own = {key: arrays[f"{person['name']}/{key}"] for key in ("rotations", "root", "offsets", "exists", "confidence")}
    name = f"{collection.name} {person['name'].replace('_', ' ')}"
    armature = build(context, protocol.motion_from(own, fps), name, first_frame)
    confidence.write(armature, own["confidence"], first_frame)
    for other in armature.users_collection:
        other.objects.unlink(armature)
    collection.objects.link(armature)
    return armature


def _set_scene(scene: bpy.types.Scene, header: Mapping[str, Any], frame_start: int) -> None:
    """The scene plays the whole capture at its own speed, as large as the first camera's image."""
    render = scene.render
    render.fps = max(1, round(header["fps"]))
    render.fps_base = render.fps / header["fps"]
    scene.frame_start, scene.frame_end = frame_start, frame_start + header["frames"] - 1
    render.resolution_x, render.resolution_y = cameras.size(captures.cameras_of(header)[0])
    render.pixel_aspect_x = render.pixel_aspect_y = 1


def _sentence(header: Mapping[str, Any], people: int, rig: tuple[Any, ...]) -> str:
    pixels = [c["reprojection_px"] for c in header["cameras"] if c["reprojection_px"] is not None]
    words = [
        f"{people} {'person' if people == 1 else 'people'} in {header['frames']} frames at {header['fps']:g} fps, "
        f"seen by {len(header['cameras'])} cameras with a reprojection error of "
        f"{min(pixels):.1f}-{max(pixels):.1f} pixels."
    ]
    off = {camera.name: cameras.deviation(camera) for camera in rig}
    if off and max(off.values()) > _VISIBLE_DEVIATION:
        worst = max(off, key=lambda name: off[name])
        far = f"up to {off[worst]:.0f} pixels" if math.isfinite(off[worst]) else "far"
        words.append(
            f"Blender's cameras have no lens distortion and square pixels, so their view is {far} off ({worst})."
        )
    return " ".join([*words, *header["notes"]])


@contextmanager
def _all_or_nothing() -> Iterator[None]:
    """Should building fail, remove what has been built."""
    there = {name: {block.session_uid for block in getattr(bpy.data, name)} for name in _MADE_IN}
    try:
        yield
    except BaseException:
        for name in _MADE_IN:
            blocks = getattr(bpy.data, name)
            for block in [b for b in blocks if b.session_uid not in there[name]]:
                blocks.remove(block)
        raise


CLASSES = (MMDM_OT_import_capture,)
