"""Bone names of the rig families that animators meet, and figures made from them.

A table gives each role its bones, top-down: "neck01+neck02" share a segment, "pelvis.L>upperleg01.L" is a bone that
hangs between two roles and belongs to neither. The right side is the left one mirrored.
"""

from __future__ import annotations

import bpy
import figures
import numpy as np

from mmdm_engine.contract import JOINTS, PARENTS

TORSO = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
SIDE = (
    "left_hip", "left_knee", "left_ankle", "left_foot", "left_collar", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip


def _table(torso: str, side: str) -> dict[str, str]:
    """Names in the order of `TORSO` and `SIDE`, "|" between them, "-" for a role that the family lacks."""
    names = dict(zip((*TORSO, *SIDE), [n.strip() for n in (torso + "|" + side).split("|")], strict=True))
    return {role: name for role, name in names.items() if name != "-"}


_UNREAL_LEGS = "thigh_l | calf_l | foot_l | ball_l | clavicle_l | upperarm_l | lowerarm_l | hand_l"
_UNREAL4 = ("pelvis | spine_01 | spine_02 | spine_03 | neck_01 | head", _UNREAL_LEGS)
_PLAIN = (
    "Hips | Spine | Spine1 | Spine2 | Neck | Head",
    "LeftUpLeg | LeftLeg | LeftFoot | LeftToeBase | LeftShoulder | LeftArm | LeftForeArm | LeftHand",
)
_RIGIFY_SIDE = "thigh.L | shin.L | foot.L | toe.L | shoulder.L | upper_arm.L | forearm.L | hand.L"

TABLES: dict[str, dict[str, str]] = {
    "Mixamo": _table(
        " | ".join("mixamorig:" + n.strip() for n in _PLAIN[0].split("|")),
        " | ".join("mixamorig:" + n.strip() for n in _PLAIN[1].split("|")),
    ),
    "LAFAN1": _table(_PLAIN[0], _PLAIN[1].replace("LeftToeBase", "LeftToe")),
    "CMU BVH": _table(
        "Hips | LowerBack | Spine | Spine1 | Neck+Neck1 | Head", _PLAIN[1].replace("LeftUpLeg", "LHipJoint>LeftUpLeg")
    ),
    "CMU ASF/AMC": _table(
        "root | lowerback | upperback | thorax | lowerneck+upperneck | head",
        "lhipjoint>lfemur | ltibia | lfoot | ltoes | lclavicle | lhumerus | lradius | lwrist",
    ),
    "Bandai-Namco": _table(
        "joint_Root>Hips | Spine | - | Chest | Neck | Head",
        "UpperLeg_L | LowerLeg_L | Foot_L | Toes_L | Shoulder_L | UpperArm_L | LowerArm_L | Hand_L",
    ),
    "Rokoko Newton": _table(
        "Hips | Spine1 | Spine2+Spine3 | Spine4 | Neck | Head",
        "LeftThigh | LeftShin | LeftFoot | LeftToe | LeftShoulder | LeftArm | LeftForeArm | LeftHand",
    ),
    "Xsens MVN": _table(
        "Pelvis | L5+L3 | T12 | T8 | Neck | Head",
        "LeftUpperLeg | LeftLowerLeg | LeftFoot | LeftToe | LeftShoulder | LeftUpperArm | LeftForeArm | LeftHand",
    ),
    "Xsens BVH": _table(
        "Hips | Chest+Chest2 | Chest3 | Chest4 | Neck | Head",
        "LeftHip | LeftKnee | LeftAnkle | LeftToe | LeftCollar | LeftShoulder | LeftElbow | LeftWrist",
    ),
    "FreeMoCap": _table(
        "pelvis | spine | - | spine.001 | neck | head", _RIGIFY_SIDE.replace("toe.L", "-")
    ),
    "SMPL FBX": _table(
        "m_avg_Pelvis | m_avg_Spine1 | m_avg_Spine2 | m_avg_Spine3 | m_avg_Neck | m_avg_Head",
        "m_avg_L_Hip | m_avg_L_Knee | m_avg_L_Ankle | m_avg_L_Foot | m_avg_L_Collar | m_avg_L_Shoulder |"
        "m_avg_L_Elbow | m_avg_L_Wrist",
    ),
    "SMPL": _table(
        "Pelvis | Spine1 | Spine2 | Spine3 | Neck | Head",
        "L_Hip | L_Knee | L_Ankle | L_Foot | L_Collar | L_Shoulder | L_Elbow | L_Wrist",
    ),
    "SMPL-X": _table(" | ".join(TORSO), " | ".join(SIDE)),
    "Rigify metarig": _table(
        "spine | spine.001 | spine.002 | spine.003 | spine.004+spine.005 | spine.006", _RIGIFY_SIDE
    ),
    "Rigify DEF": _table(
        "DEF-spine | DEF-spine.001 | DEF-spine.002 | DEF-spine.003 | DEF-spine.004+DEF-spine.005 | DEF-spine.006",
        "DEF-thigh.L+DEF-thigh.L.001 | DEF-shin.L+DEF-shin.L.001 | DEF-foot.L | DEF-toe.L | DEF-shoulder.L |"
        "DEF-upper_arm.L+DEF-upper_arm.L.001 | DEF-forearm.L+DEF-forearm.L.001 | DEF-hand.L",
    ),
    "Unreal 4": _table("root>" + _UNREAL4[0], _UNREAL4[1]),
    "Unreal 5": _table(
        "root>pelvis | spine_01+spine_02 | spine_03+spine_04 | spine_05 | neck_01+neck_02 | head", _UNREAL_LEGS
    ),
    "VRM humanoid": _table(
        "hips | spine | chest | upperChest | neck | head",
        "leftUpperLeg | leftLowerLeg | leftFoot | leftToes | leftShoulder | leftUpperArm | leftLowerArm | leftHand",
    ),
    "VRM without the optional bones": _table(
        "hips | spine | - | - | - | head",
        "leftUpperLeg | leftLowerLeg | leftFoot | - | - | leftUpperArm | leftLowerArm | leftHand",
    ),
    "VRoid": _table(
        "J_Bip_C_Hips | J_Bip_C_Spine | J_Bip_C_Chest | J_Bip_C_UpperChest | J_Bip_C_Neck | J_Bip_C_Head",
        "J_Bip_L_UpperLeg | J_Bip_L_LowerLeg | J_Bip_L_Foot | J_Bip_L_ToeBase | J_Bip_L_Shoulder | J_Bip_L_UpperArm |"
        "J_Bip_L_LowerArm | J_Bip_L_Hand",
    ),
    "Ready Player Me": _table(*_PLAIN),
    "MakeHuman, MPFB": _table(
        "root | spine05+spine04 | spine03 | spine02+spine01 | neck01+neck02+neck03 | head",
        "pelvis.L>upperleg01.L+upperleg02.L | lowerleg01.L+lowerleg02.L | foot.L | - | clavicle.L+shoulder01.L |"
        "upperarm01.L+upperarm02.L | lowerarm01.L+lowerarm02.L | wrist.L",
    ),
    "MPFB game engine": _table(*_UNREAL4),
    "Reallusion": _table(
        "CC_Base_Hip | CC_Base_Waist | CC_Base_Spine01 | CC_Base_Spine02 | CC_Base_NeckTwist01+CC_Base_NeckTwist02 |"
        "CC_Base_Head",
        "CC_Base_L_Thigh | CC_Base_L_Calf | CC_Base_L_Foot | CC_Base_L_ToeBase | CC_Base_L_Clavicle |"
        "CC_Base_L_Upperarm | CC_Base_L_Forearm | CC_Base_L_Hand",
    ),
    "Daz Genesis": _table(
        "hip | abdomenLower | abdomenUpper+chestLower | chestUpper | neckLower+neckUpper | head",
        "lThighBend+lThighTwist | lShin | lFoot+lMetatarsals | lToe | lCollar | lShldrBend+lShldrTwist |"
        "lForearmBend+lForearmTwist | lHand",
    ),
    "3ds Max Biped": _table(
        "Bip001>Bip001 Pelvis | Bip001 Spine | Bip001 Spine1 | Bip001 Spine2 | Bip001 Neck | Bip001 Head",
        "Bip001 L Thigh | Bip001 L Calf | Bip001 L Foot | Bip001 L Toe0 | Bip001 L Clavicle | Bip001 L UpperArm |"
        "Bip001 L Forearm | Bip001 L Hand",
    ),
}  # fmt: skip
HIP_BONES = {"Reallusion": "CC_Base_Pelvis", "Daz Genesis": "pelvis"}
"""One bone between the hips and both thighs."""


def chains(table: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Role → its bones, both sides."""
    found = {role: tuple(names.split(">")[-1].split("+")) for role, names in table.items()}
    for role in SIDE:
        if role in found:
            found[role.replace("left", "right")] = tuple(_mirrored(name) for name in found[role])
    return found


def between(table: dict[str, str]) -> dict[str, str]:
    """Role → the bone between it and its parent's."""
    found = {role: names.split(">")[0] for role, names in table.items() if ">" in names}
    return found | {r.replace("left", "right"): _mirrored(b) for r, b in found.items() if r.startswith("left")}


def _mirrored(name: str) -> str:
    return "R" + name[1:] if name.startswith("LHip") else figures.mirrored(name)


def make(family: str) -> bpy.types.Object:
    """A figure of that family with every bone of its table."""
    table = TABLES[family]
    bones, extra, place = chains(table), between(table), figures.heads()
    figure = figures.make({role: chain[0] for role, chain in bones.items()}, absent=tuple(set(JOINTS) - bones.keys()))
    bpy.ops.object.mode_set(mode="EDIT")
    edit = figure.data.edit_bones
    for role, chain in bones.items():
        following = [
            edit[bones[JOINTS[c]][0]] for c in range(22) if PARENTS[c] == JOINTS.index(role) and JOINTS[c] in bones
        ]
        below = following[-1] if role == "spine3" else following[0] if following else None
        start, end = np.array(edit[chain[0]].head), np.array(below.head if below else edit[chain[0]].tail)
        above = edit[chain[0]]
        for n, name in enumerate(chain[1:], 1):
            bone = edit.new(name)
            bone.head, bone.tail = start + (end - start) * n / len(chain), start + (end - start) * (n + 1) / len(chain)
            bone.parent, above = above, bone
        if len(chain) > 1:
            for child in following:
                child.parent = above
    for role, name in extra.items():
        bone, first = edit.new(name), edit[bones[role][0]]
        bone.head = np.array(first.head) * 0.5 + np.array(place["pelvis"]) * 0.5 * (role != "pelvis")
        bone.tail = first.head
        bone.parent, first.parent = first.parent, bone
    if family in HIP_BONES:
        bone, hips = edit.new(HIP_BONES[family]), edit[bones["pelvis"][0]]
        bone.head, bone.tail, bone.parent = hips.head, np.array(hips.head) - (0, 0, 0.1), hips
        for side in ("left", "right"):
            edit[bones[f"{side}_hip"][0]].parent = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    return figure
