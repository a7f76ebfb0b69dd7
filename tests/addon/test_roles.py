"""Recognising bones: every naming convention by name, unknown names by shape, the user's choice above both."""

from __future__ import annotations

import bpy
import figures
import numpy as np
import pytest

from mmdm_addon.engine_link import JOINTS, MotionError
from mmdm_addon.rig import roles
from mmdm_addon.rig.names import Key, key
from mmdm_addon.rig.tree import BoneTree

PRESETS = {preset["name"]: preset for preset in roles.presets()}
TREES = [name for name, preset in PRESETS.items() if not preset.get("control")]


def names_of(preset: dict) -> dict[str, str]:
    """Role → bone name of a whole figure in a preset's own spelling."""
    first = {role: names if isinstance(names, str) else names[0] for role, names in preset["roles"].items()}
    for role in list(first):
        if role.startswith("left") and role.replace("left", "right") not in first:
            first[role.replace("left", "right")] = figures.mirrored(first[role])
    return first


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mixamorig:LeftUpLeg", Key("", "left", "upleg")),
        ("mixamorig7:LeftUpLeg", Key("", "left", "upleg")),
        ("mixamorig_RightUpLeg", Key("", "right", "upleg")),
        ("LeftUpLeg", Key("", "left", "upleg")),
        ("Armature|mixamorig:Spine2", Key("", "", "spine2")),
        ("upper_arm.L", Key("", "left", "upperarm")),
        ("DEF-upper_arm.R", Key("DEF", "right", "upperarm")),
        ("DEF-thigh.L.001", Key("DEF", "left", "thigh001")),
        ("J_Bip_L_UpperLeg", Key("", "left", "upperleg")),
        ("J_Bip_C_Hips", Key("", "", "hips")),
        ("Bip01 L Thigh", Key("", "left", "thigh")),
        ("Bip001 Spine1", Key("", "", "spine1")),
        ("CC_Base_R_Calf", Key("", "right", "calf")),
        ("lShldr", Key("", "left", "shldr")),
        ("lfemur", Key("", "", "lfemur")),
        ("LHipJoint", Key("", "left", "hipjoint")),
        ("m_avg_L_Hip", Key("", "left", "hip")),
        ("Character1_LeftArm", Key("", "left", "arm")),
        ("spine_01", Key("", "", "spine01")),
        ("R", Key("", "", "r")),
    ],
)
def test_names_are_reduced_to_what_they_mean(name, expected):
    assert key(name) == expected


@pytest.mark.parametrize("preset", TREES)
def test_every_preset_recognises_a_figure_in_its_own_names(preset):
    names = names_of(PRESETS[preset])
    found = roles.detect(figures.make(names))
    assert found.problems == []
    for role, bone in names.items():
        assert bone in found.chains[role], (role, found.preset)
    assert set(found.chains) == set(names)
    assert found.score == pytest.approx(len(names) / 22)


def test_rigify_control_rig_reads_the_skeleton_and_writes_fk_controls(rigify):
    found = roles.detect(rigify)
    assert found.preset == "Rigify control rig"
    assert found.control
    assert found.score == 1
    assert found.chains["pelvis"] == ("torso", "spine_fk")
    assert found.chains["right_elbow"] == ("forearm_fk.R",)
    assert found.read["right_elbow"] == ("ORG-forearm.R",)
    metarig = roles.detect(bpy.data.objects["metarig"])
    assert metarig.preset == "Rigify metarig"
    assert metarig.chains["neck"] == ("spine.004", "spine.005")
    assert metarig.chains["head"] == ("spine.006",)


RIGS = {
    "axisneuron_18.bvh": ("left_foot", "right_foot"),
    "bip01_rocketbox_female_mesh.fbx": (),
    "character1_walk.bvh": ("spine2",),
    "chest_collar_100style_like.bvh": (),
    "daz_poser_cmu_91_48.fbx": ("spine2", "left_foot", "right_foot"),
    "geno_mesh.fbx": (),
    "mixamo_colon_female_mesh_anim.glb": (),
    "mixamo_colon_gangnam_anim.fbx": (),
    "mixamo_colon_ybot_tpose_mesh.fbx": (),
    "mixamo_noprefix_lookaround_anim.fbx": (),
    "mixamo_numbered7_hiphop_anim.fbx": (),
    "mixamo_underscore_default_anim.glb": (),
    "rigify_def_human_mesh_anim.glb": (),
    "vrm0_armature_transform.vrm": ("spine2", "left_foot", "right_foot", "left_collar", "right_collar"),
    "xia_cmu_normal.bvh": (),
}


@pytest.mark.parametrize("file", RIGS)
def test_real_rigs_are_recognised(file, data, import_rig):
    rig = import_rig(data(f"rigs/{file}"))
    found = roles.detect(rig)
    assert found.problems == []
    assert set(JOINTS) - set(found.chains) == set(RIGS[file])
    tree = BoneTree.of(rig)
    flat = [bone for chain in found.chains.values() for bone in chain]
    assert len(flat) == len(set(flat))
    for side in ("left", "right"):  # the names must agree with where the bones are
        for role in ("hip", "knee", "shoulder", "wrist"):
            assert key(found.chains[f"{side}_{role}"][0]).side == side
    knees = [tree.heads[tree.index[found.chains[f"{side}_knee"][0]]] for side in ("left", "right")]
    wrists = [tree.heads[tree.index[found.chains[f"{side}_wrist"][0]]] for side in ("left", "right")]
    assert (knees[0] - knees[1]) @ (wrists[0] - wrists[1]) > 0


@pytest.mark.parametrize("file", ["05_06", "131_01", "94_13_43joints"])
def test_cmu_files_are_recognised(file, data, import_rig):
    found = roles.detect(import_rig(data(f"cmu/raw/{file}.bvh")))
    assert found.problems == []
    if file == "05_06":
        assert found.preset == "CMU BVH"
        assert found.chains["neck"] == ("Neck", "Neck1")
        assert [found.chains[r] for r in ("spine1", "spine2", "spine3")] == [("LowerBack",), ("Spine",), ("Spine1",)]


@pytest.mark.parametrize(
    "file", ["05_06.bvh", "mixamo_colon_gangnam_anim.fbx", "geno_mesh.fbx", "vrm0_armature_transform.vrm"]
)
def test_shape_alone_finds_the_same_limbs_as_names(file, data, import_rig):
    rig = import_rig(data(f"cmu/raw/{file}" if file.startswith("05") else f"rigs/{file}"))
    by_name = roles.detect(rig)
    number = {bone.name: f"b{i:03d}" for i, bone in enumerate(rig.data.bones)}
    renamed = {chain: number[name] for name, chain in zip(number, number, strict=True)}
    for bone in rig.data.bones:
        bone.name = renamed[bone.name]
    by_shape = roles.detect(rig)
    assert by_shape.preset == "Shape"
    assert by_shape.problems == []
    trunk = [renamed[b] for role in ("neck", "head") for b in by_name.chains[role]]
    assert by_shape.chains["head"][0] in trunk[1:]  # two neck bones cannot be told from neck and head
    for role in (
        "pelvis",
        *(f"{s}_{p}" for s in ("left", "right") for p in ("hip", "knee", "ankle", "shoulder", "elbow")),
    ):
        assert by_shape.chains[role][0] == renamed[by_name.chains[role][0]], role


def test_shape_fallback_does_not_need_up_to_be_up():
    names = {role: f"n{j}" for j, role in enumerate(JOINTS)}
    figure = figures.make(names, sideways=True)
    turn = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float)
    tree = BoneTree.of(figure)
    matrices = tree.matrices.copy()
    matrices[:, :3, 3] = matrices[:, :3, 3] @ turn.T
    found = roles.detect_tree(BoneTree(tree.names, tree.parents, matrices, tree.tails @ turn.T))
    assert found.preset == "Shape"
    assert {role: chain[0] for role, chain in found.chains.items()} == names


def test_shape_fallback_finds_no_figure_in_a_snake():
    data = bpy.data.armatures.new("Snake")
    snake = bpy.data.objects.new("Snake", data)
    bpy.context.scene.collection.objects.link(snake)
    bpy.context.view_layer.objects.active = snake
    bpy.ops.object.mode_set(mode="EDIT")
    for i in range(12):
        bone = data.edit_bones.new(f"part{i}")
        bone.head, bone.tail = (0, i, 0), (0, i + 1, 0)
        bone.parent = data.edit_bones.get(f"part{i - 1}")
    bpy.ops.object.mode_set(mode="OBJECT")
    found = roles.detect(snake)
    assert "No hips bone found. Open Bone Map and choose one." in found.problems
    with pytest.raises(MotionError, match=r"No hips bone found\. Open Bone Map and choose one\."):
        found.require()


def test_a_name_in_the_wrong_place_of_the_tree_is_no_match():
    names = names_of(PRESETS["Mixamo"])
    names["left_wrist"], names["left_knee"] = names["left_knee"], names["left_wrist"]
    found = roles.detect(figures.make(names))
    assert found.chains.get("left_knee") != (names["left_wrist"],)
    assert found.chains.get("left_wrist") != (names["left_knee"],)


def test_absent_toes_collars_neck_and_spine_are_legal():
    names = names_of(PRESETS["Mixamo"])
    missing = ("left_foot", "right_foot", "left_collar", "right_collar", "neck", "spine2", "spine3")
    found = roles.detect(figures.make(names, absent=missing))
    assert found.problems == []
    assert set(JOINTS) - set(found.chains) == set(missing)


def test_further_bones_join_the_chain_of_the_role_above():
    names = names_of(PRESETS["Unreal Engine 5"])
    figure = figures.make(names)
    bpy.ops.object.mode_set(mode="EDIT")
    bones = figure.data.edit_bones
    for above, extra, below in (
        ("neck_01", "neck_02", "head"),
        ("spine_01", "spine_02", "spine_03"),
        ("thigh_l", "thigh_twist_l", "calf_l"),
    ):
        bone = bones.new(extra)
        bone.head = (bones[above].head + bones[below].head) / 2
        bone.tail = bones[below].head
        bone.parent, bones[below].parent = bones[above], bone
    bpy.ops.object.mode_set(mode="OBJECT")
    found = roles.detect(figure)
    assert found.chains["neck"] == ("neck_01", "neck_02")
    assert found.chains["spine1"] == ("spine_01", "spine_02")
    assert found.chains["left_hip"] == ("thigh_l", "thigh_twist_l")


def test_the_users_choice_wins_and_is_kept_in_the_file(tmp_path):
    figure = figures.make(names_of(PRESETS["Mixamo"]))
    roles.set_override(figure, "head", "mixamorig:Neck")
    roles.set_override(figure, "left_foot", "")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    figure = bpy.data.objects["Figure"]
    found = roles.detect(figure)
    assert found.chains["head"] == ("mixamorig:Neck",)
    assert "left_foot" not in found.chains
    assert "mixamorig:Neck" not in found.chains.get("neck", ())
    roles.clear_overrides(figure)
    assert roles.detect(figure).chains["head"] == ("mixamorig:Head",)


def test_choices_that_cannot_be_are_refused_or_reported():
    figure = figures.make()
    with pytest.raises(MotionError, match="no bone 'nose'"):
        roles.set_override(figure, "head", "nose")
    with pytest.raises(MotionError, match="no role 'nose'"):
        roles.set_override(figure, "nose", "head")
    roles.set_override(figure, "pelvis", "")
    assert "No hips bone found. Open Bone Map and choose one." in roles.detect(figure).problems
    roles.set_override(figure, "pelvis", "pelvis")
    figure.data.bones["pelvis"].name = "bottom"
    assert any("'pelvis', chosen as hips, does not exist" in p for p in roles.detect(figure).problems)
    figure[roles.OVERRIDES] = "not json"
    assert roles.overrides(figure) == {}
