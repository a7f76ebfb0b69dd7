"""Helpers of the tests that run operators: the registered add-on, a stand-in worker, a figure ready to work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import bpy
import figures
import numpy as np
import pytest
from worker_support import standin_command, worker_python

import mmdm_addon
from mmdm_addon import compat, runtime
from mmdm_addon.engine_client import Call, EngineClient


def ensure_registered() -> None:
    """Register the add-on from the checkout, once for all tests of the process."""
    if not hasattr(bpy.types.Scene, "mmdm"):
        mmdm_addon.register()


@pytest.fixture
def standin(monkeypatch):
    """Operators reach the stand-in worker; one process serves all tests."""
    ensure_registered()
    command = standin_command()
    monkeypatch.setenv("MMDM_PYTHON", command[0])
    monkeypatch.setattr(runtime, "worker_command", lambda _runtime: command)


@pytest.fixture
def engine(monkeypatch):
    """Operators reach the real engine."""
    ensure_registered()
    monkeypatch.setenv("MMDM_PYTHON", worker_python())


class Asked(NamedTuple):
    """A request as it went out."""

    method: str
    params: dict
    arrays: dict


@pytest.fixture
def asked(monkeypatch, standin) -> list[Asked]:
    """The requests that go out to the stand-in worker."""
    seen = []
    submit = EngineClient.submit

    def spy(client, method, params=None, arrays=None):
        seen.append(Asked(method, params, arrays))
        return submit(client, method, params, arrays)

    monkeypatch.setattr(EngineClient, "submit", spy)
    return seen


def meanwhile(monkeypatch, what: Callable[[Call], object]) -> None:
    """Do this once a request is under way, before its answer is taken."""
    wait = Call.wait

    def patched(call, *rest):
        what(call)
        return wait(call, *rest)

    monkeypatch.setattr(Call, "wait", patched)


def armature_now() -> bpy.types.Object:
    """The figure, after undo has replaced every reference to it."""
    return bpy.data.objects["Figure"]


def figure(**options) -> bpy.types.Object:
    """A selected, animated human armature in Pose Mode: 60 baked frames unless told otherwise."""
    armature = figures.make()
    figures.animate(armature, **options)
    bpy.ops.object.mode_set(mode="POSE")
    select(armature)
    select_keys(armature, ())
    return armature


def select(armature: bpy.types.Object, *bones: str) -> None:
    """Select these pose bones, or all."""
    for bone in armature.pose.bones:
        compat.select(bone, not bones or bone.name in bones)


def deselect(armature: bpy.types.Object) -> None:
    """Select no pose bone."""
    for bone in armature.pose.bones:
        compat.select(bone, False)


def curves(armature: bpy.types.Object):
    """The F-curves of the assigned action."""
    return list(compat.curves(armature.animation_data.action, compat.assigned_slot(armature)))


def select_keys(armature: bpy.types.Object, frames) -> None:
    """Select the keys at these frames and no others."""
    wanted = set(frames)
    for curve in curves(armature):
        for point in curve.keyframe_points:
            point.select_control_point = point.co.x in wanted


def state(armature: bpy.types.Object):
    """The assigned action's name and every bit of its keys."""
    action, slot = armature.animation_data.action, compat.assigned_slot(armature)
    return action.name, figures.snapshot(action, slot)


def same(a, b) -> bool:
    """Whether two `state`s agree to the bit."""
    return (
        a[0] == b[0]
        and a[1].keys() == b[1].keys()
        and all(np.array_equal(a[1][k][c], b[1][k][c]) for k in a[1] for c in a[1][k])
    )


def changed_frames(before, after):
    """Per curve the frames of keys whose value differs between two `state`s, or that only one of them has."""
    result = {}
    for key in before[1]:
        a = {float(x): float(y) for x, y in before[1][key]["co"]}
        b = {float(x): float(y) for x, y in after[1][key]["co"]}
        frames = {f for f in a.keys() | b.keys() if a.get(f) != b.get(f)}
        if frames:
            result[key] = frames
    return result


def bone_of(key: tuple[str, int]) -> str:
    """The bone of a curve's path and index."""
    return key[0].split('"')[1]


def frames_of(touched) -> set[float]:
    """All frames in `changed_frames`."""
    return set().union(*touched.values())


def refused(operator, *words: str, **options) -> str:
    """Run an operator that must refuse; its one sentence, which must hold these words."""
    with pytest.raises(RuntimeError) as caught:
        operator("EXEC_DEFAULT", True, **options)
    text = str(caught.value).removeprefix("Error: ").strip()
    for word in words:
        assert word in text, text
    assert "Traceback" not in text
    assert "\n" not in text
    return text
