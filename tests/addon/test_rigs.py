"""Rigs of every family, made from their name tables: recognised bone by bone, read, and written back."""

from __future__ import annotations

import bpy
import families
import figures
import numpy as np
import pytest

from mmdm_addon.engine_link import INDEX
from mmdm_addon.engine_link import rotations as rot
from mmdm_addon.rig import read, roles, write

SPINE = ("spine1", "spine2", "spine3")


@pytest.mark.parametrize("family", families.TABLES)
def test_every_bone_of_a_familys_table_is_recognised(family):
    expected = families.chains(families.TABLES[family])
    found = roles.detect(families.make(family))
    assert found.problems == []
    assert found.chains.keys() == expected.keys()
    for role, chain in expected.items():
        if role not in SPINE:
            assert found.chains[role] == chain, role
    # spines are divided evenly between the roles, in order and without losing a bone
    ours, theirs = ([b for role in SPINE for b in chains.get(role, ())] for chains in (found.chains, expected))
    assert ours == theirs
    assert found.preset != "Shape"


@pytest.mark.parametrize("family", families.TABLES)
def test_every_family_is_read_and_written_back(family):
    figure = families.make(family)
    found = roles.detect(figure)
    figures.animate(figure, frames=24, amount=0.3, root=found.chains["pelvis"][0])
    take = read.read(bpy.context, figure, np.arange(1.0, 25.0))
    edited = figures.bend(take.motion, 8, 16)
    mask = figures.columns(24, 8, 16)
    report = write.write(
        bpy.context, figure, take, edited, changed=mask, bones=None, name="Result", start=8, end=17, density="ALL"
    )
    assert report.notes == []
    back = read.read(bpy.context, figure, take.frames).motion
    error = rot.angle(back.rotations.astype(np.float64), edited.rotations.astype(np.float64))
    assert error.max() < 1e-5
    assert np.abs(back.root - edited.root).max() < 1e-6
    assert rot.angle(*(m.rotations.astype(np.float64)[8:16] for m in (back, take.motion))).max() > 0.1
    assert take.motion.skeleton.exists[[INDEX[role] for role in found.chains]].all()


def test_rigify_is_read_from_org_bones_and_written_to_fk_controls(rigify):
    found = roles.detect(rigify)
    side = {
        "hip": "thigh", "knee": "shin", "ankle": "foot", "foot": "toe", "shoulder": "upper_arm", "elbow": "forearm",
        "wrist": "hand",
    }  # fmt: skip
    for role, bone in side.items():
        for left, letter in (("left", "L"), ("right", "R")):
            assert found.read[f"{left}_{role}"] == (f"ORG-{bone}.{letter}",)
            assert found.chains[f"{left}_{role}"] == (f"{bone}_fk.{letter}",)
    assert found.chains["left_collar"] == ("shoulder.L",)
    assert [found.chains[role][0] for role in SPINE] == ["spine_fk.001", "spine_fk.002", "spine_fk.003"]
    assert (found.chains["neck"], found.chains["head"]) == (("neck",), ("head",))
