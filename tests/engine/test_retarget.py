"""Roles from names and structure, chains longer than their role, and the CMU pack as an independent conversion."""

from __future__ import annotations

import numpy as np
import pytest

from mmdm_engine import bvh, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.contract import MotionError
from mmdm_engine.contract.skeleton import INDEX
from mmdm_engine.retarget import Hierarchy, Retargeter, find_roles, side_and_name

BODY = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
# pelvis, spine …, neck, head, then the left limb names of BODY; the right ones by swapping the side
CONVENTIONS = {
    "lafan1": ("Hips", "Spine Spine1 Spine2", "Neck", "Head",
               "LeftUpLeg LeftLeg LeftFoot LeftToe LeftShoulder LeftArm LeftForeArm LeftHand", ("Left", "Right")),
    "mixamo": ("mixamorig:Hips", "mixamorig:Spine mixamorig:Spine1 mixamorig:Spine2", "mixamorig:Neck",
               "mixamorig:Head",
               "mixamorig:LeftUpLeg mixamorig:LeftLeg mixamorig:LeftFoot mixamorig:LeftToeBase mixamorig:LeftShoulder "
               "mixamorig:LeftArm mixamorig:LeftForeArm mixamorig:LeftHand", ("Left", "Right")),
    "mixamo7": ("mixamorig7_Hips", "mixamorig7_Spine mixamorig7_Spine1 mixamorig7_Spine2", "mixamorig7_Neck",
                "mixamorig7_Head", "mixamorig7_LeftUpLeg mixamorig7_LeftLeg mixamorig7_LeftFoot mixamorig7_LeftToeBase "
                "mixamorig7_LeftShoulder mixamorig7_LeftArm mixamorig7_LeftForeArm mixamorig7_LeftHand",
                ("Left", "Right")),
    "asf": ("root", "lowerback upperback thorax", "lowerneck", "head",
            "lfemur ltibia lfoot ltoes lclavicle lhumerus lradius lwrist", ("l", "r")),
    "xsens": ("Hips", "Chest Chest2 Chest3 Chest4", "Neck", "Head",
              "LeftHip LeftKnee LeftAnkle LeftToe LeftCollar LeftShoulder LeftElbow LeftWrist", ("Left", "Right")),
    "xsens segments": ("Pelvis", "L5 L3 T12 T8", "Neck", "Head", "LeftUpperLeg LeftLowerLeg LeftFoot LeftToe "
                       "LeftShoulder LeftUpperArm LeftForeArm LeftHand", ("Left", "Right")),
    "rokoko": ("Hips", "Spine1 Spine2 Spine3 Spine4", "Neck", "Head", "LeftThigh LeftShin LeftFoot LeftToe "
               "LeftShoulder LeftArm LeftForeArm LeftHand", ("Left", "Right")),
    "bandai": ("Hips", "Spine Chest", "Neck", "Head",
               "UpperLeg_L LowerLeg_L Foot_L Toes_L Shoulder_L UpperArm_L LowerArm_L Hand_L", ("_L", "_R")),
    "smpl": ("Pelvis", "Spine1 Spine2 Spine3", "Neck", "Head",
             "L_Hip L_Knee L_Ankle L_Foot L_Collar L_Shoulder L_Elbow L_Wrist", ("L_", "R_")),
    "smpl fbx": ("m_avg_Pelvis", "m_avg_Spine1 m_avg_Spine2 m_avg_Spine3", "m_avg_Neck", "m_avg_Head",
                 "m_avg_L_Hip m_avg_L_Knee m_avg_L_Ankle m_avg_L_Foot m_avg_L_Collar m_avg_L_Shoulder m_avg_L_Elbow "
                 "m_avg_L_Wrist", ("_L_", "_R_")),
    "smpl-x": ("pelvis", "spine1 spine2 spine3", "neck", "head", "left_hip left_knee left_ankle left_foot left_collar "
               "left_shoulder left_elbow left_wrist", ("left", "right")),
    "poser": ("hip", "abdomen chest", "neck", "head",
              "lThigh lShin lFoot lToe lCollar lShldr lForeArm lHand", ("l", "r")),
    "biped": ("Bip01 Pelvis", "Bip01 Spine;Bip01 Spine1;Bip01 Spine2", "Bip01 Neck", "Bip01 Head",
              "Bip01 L Thigh;Bip01 L Calf;Bip01 L Foot;Bip01 L Toe0;Bip01 L Clavicle;Bip01 L UpperArm;Bip01 L Forearm;"
              "Bip01 L Hand", (" L ", " R ")),
    "unreal": ("pelvis", "spine_01 spine_02 spine_03 spine_04 spine_05", "neck_01 neck_02", "head",
               "thigh_l calf_l foot_l ball_l clavicle_l upperarm_l lowerarm_l hand_l", ("_l", "_r")),
    "rigify": ("spine", "spine.001 spine.002 spine.003", "spine.004", "spine.006",
               "thigh.L shin.L foot.L toe.L shoulder.L upper_arm.L forearm.L hand.L", (".L", ".R")),
    "vroid": ("J_Bip_C_Hips", "J_Bip_C_Spine J_Bip_C_Chest J_Bip_C_UpperChest", "J_Bip_C_Neck", "J_Bip_C_Head",
              "J_Bip_L_UpperLeg J_Bip_L_LowerLeg J_Bip_L_Foot J_Bip_L_ToeBase J_Bip_L_Shoulder J_Bip_L_UpperArm "
              "J_Bip_L_LowerArm J_Bip_L_Hand", ("_L_", "_R_")),
    "character creator": ("CC_Base_Hip", "CC_Base_Waist CC_Base_Spine01 CC_Base_Spine02", "CC_Base_NeckTwist01",
                          "CC_Base_Head", "CC_Base_L_Thigh CC_Base_L_Calf CC_Base_L_Foot CC_Base_L_ToeBase "
                          "CC_Base_L_Clavicle CC_Base_L_Upperarm CC_Base_L_Forearm CC_Base_L_Hand", ("_L_", "_R_")),
}  # fmt: skip


def words(text: str) -> list[str]:
    return text.split(";") if ";" in text else text.split()


def build(pelvis: str, spine: list[str], neck: list[str], head: str | None, left: list[str], sides) -> Hierarchy:
    """A T-pose in centimetres with the given names."""
    names: list[str] = []
    parents: list[int] = []
    offsets: list[tuple[float, float, float]] = []

    def add(name: str, parent: int, offset: tuple[float, float, float]) -> int:
        names.append(name)
        parents.append(parent)
        offsets.append(offset)
        return len(names) - 1

    root = add(pelvis, -1, (0, 95, 0))
    top = root
    for name in spine:
        top = add(name, top, (0, 40 / max(len(spine), 1), 0))
    chest = top
    for name in neck:
        top = add(name, top, (0, 12, 0))
    if head is not None:
        add(head, top, (0, 10, 0))
    for sign, names_of_side in ((1, left), (-1, [name.replace(*sides, 1) for name in left])):
        at = root
        for name, offset in zip(names_of_side[:4], ((9, -8, 0), (0, -42, 0), (0, -41, 0), (0, -6, 13)), strict=True):
            at = add(name, at, (sign * offset[0], offset[1], offset[2]))
        at = chest
        for name, offset in zip(names_of_side[4:], ((3, 10, 0), (14, 0, 0), (28, 0, 0), (25, 0, 0)), strict=True):
            at = add(name, at, (sign * offset[0], offset[1], offset[2]))
    return Hierarchy(tuple(names), tuple(parents), np.array(offsets, float), np.full((len(names), 3), np.nan))


@pytest.mark.parametrize("convention", [c for c in CONVENTIONS if c != "rigify"])
def test_conventions(convention):
    pelvis, spine, neck, head, left, sides = CONVENTIONS[convention]
    hierarchy = build(
        pelvis, words(spine), words(neck) if ";" in neck or "Bip" not in neck else [neck], head, words(left), sides
    )
    roles = {role: [hierarchy.names[j] for j in chain] for role, chain in find_roles(hierarchy).items()}
    for part, name in zip(BODY, words(left), strict=True):
        assert roles[f"left_{part}"] == [name]
        assert roles[f"right_{part}"] == [name.replace(*sides, 1)]
    assert roles["pelvis"] == [pelvis]
    assert roles["head"] == [head]
    spine_roles = [r for r in ("spine1", "spine2", "spine3") if r in roles]
    assert [bone for r in spine_roles for bone in roles[r]] == words(spine)
    assert ("spine2" in roles) == (len(words(spine)) > 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mixamorig:LeftForeArm", ("left", "forearm")), ("Character1_RightUpLeg", ("right", "upleg")),
        ("lfemur", ("left", "femur")), ("rFoot", ("right", "foot")), ("DEF-upper_arm.L", ("left", "upperarm")),
        ("Armature|ns:LeftHand", ("left", "hand")), ("leg", ("", "leg")), ("root", ("", "root")),
        ("LHipJoint", ("left", "hipjoint")), ("Bip01 L Toe0", ("left", "toe")), ("Spine1", ("", "spine1")),
    ],
)  # fmt: skip
def test_names(name, expected):
    assert side_and_name(name) == expected


def test_arms_that_hang_on_the_neck():
    """3ds Max Biped: both clavicles are children of the neck, which is no spine bone for that."""
    hierarchy = build(
        "Pelvis", ["Spine", "Spine1", "Neck"], [], "Head", words(CONVENTIONS["lafan1"][4]), ("Left", "Right")
    )
    roles = {role: [hierarchy.names[j] for j in chain] for role, chain in find_roles(hierarchy).items()}
    assert roles["neck"] == ["Neck"]
    assert (roles["spine1"], roles["spine3"]) == (["Spine"], ["Spine1"])


def test_a_tree_without_legs_is_refused_by_name():
    hierarchy = build(
        "Hips", ["Spine"], [], "Head", ["Tentacle1", *words(CONVENTIONS["lafan1"][4])[1:]], ("Left", "Right")
    )
    with pytest.raises(MotionError, match=r"left hip.*Hips, Spine"):
        find_roles(hierarchy)


def random_take(hierarchy: Hierarchy, frames: int = 40, seed: int = 0):
    rng = np.random.default_rng(seed)
    local = rot.exp(np.cumsum(rng.standard_normal((frames, len(hierarchy.names), 3)) * 0.03, axis=0))
    moves = np.broadcast_to(hierarchy.offsets, (frames, *hierarchy.offsets.shape)).copy()
    moves[:, 0] += np.cumsum(rng.standard_normal((frames, 3)), axis=0)
    return local, moves


def long_chains() -> Hierarchy:
    return build(
        "pelvis",
        [f"spine_0{i}" for i in range(1, 6)],
        ["neck_01", "neck_02"],
        "head",
        words(CONVENTIONS["unreal"][4]),
        ("_l", "_r"),
    )


@pytest.mark.parametrize("style", ["fill", "refine"])
def test_chain_ends_are_exact_and_the_rest_untouched(style):
    hierarchy = long_chains()
    local, moves = random_take(hierarchy)
    retargeter = Retargeter.make(hierarchy, 0.01, local)
    motion = retargeter.read(local, moves, 30)
    rotations = motion.rotations.copy()
    joint = INDEX["neck"]
    rotations[10:25, joint] = rot.multiply(
        rotations[10:25, joint].astype(np.float64), rot.exp(np.array([0.2, -0.1, 0.3]))
    )
    edited = motion.with_frames(rotations, motion.root)
    changed = np.zeros((40, 23), bool)
    changed[10:25, joint] = True
    movable = np.arange(len(hierarchy.names)) == 0
    new_local, new_moves = retargeter.write(edited, local, moves, changed, movable=movable, style=style)
    chain = list(retargeter.roles["neck"])
    assert len(chain) == 2
    untouched = np.ones(new_local.shape[:2], bool)
    untouched[10:25, chain] = False
    np.testing.assert_array_equal(new_local[untouched], local[untouched])
    np.testing.assert_array_equal(new_moves, moves)
    again = retargeter.read(new_local, new_moves, 30)
    assert rot.angle(again.rotations.astype(np.float64), rotations.astype(np.float64)).max() < 1e-6
    if style == "fill":  # the second neck bone goes straight from border to border
        way = rot.slerp(local[9, chain[1]], local[25, chain[1]], np.arange(1, 16) / 16)
        assert rot.angle(new_local[10:25, chain[1]], way).max() < 1e-9
    else:  # both bones take part
        moved = rot.angle(new_local[10:25][:, chain], local[10:25][:, chain]).mean(axis=0)
        assert moved.min() > 0.2 * moved.max()


def test_refining_gives_a_calm_bone_of_a_chain_little():
    hierarchy = long_chains()
    local, moves = random_take(hierarchy)
    retargeter = Retargeter.make(hierarchy, 0.01, local)
    calm, nervous = retargeter.roles["neck"]
    local[:, calm] = rot.exp(np.linspace(0, 0.2, 40)[:, None] * np.array([1.0, 0, 0]))
    motion = retargeter.read(local, moves, 30)
    rotations = motion.rotations.copy()
    rotations[:, INDEX["neck"]] = rot.multiply(
        rotations[:, INDEX["neck"]].astype(np.float64), rot.exp(np.array([0.1, 0, 0.1]))
    )
    changed = np.zeros((40, 23), bool)
    changed[:, INDEX["neck"]] = True
    new_local, _ = retargeter.write(
        motion.with_frames(rotations, motion.root),
        local,
        moves,
        changed,
        movable=np.zeros(len(hierarchy.names), bool),
        style="refine",
    )
    moved = rot.angle(new_local[:, [calm, nervous]], local[:, [calm, nervous]]).mean(axis=0)
    assert moved[0] < 0.1 * moved[1]


def test_a_root_above_the_pelvis_carries_the_path():
    """joint_Root moves, Hips turn: the path is read from both and written where the position channels are."""
    inner = build("Hips", ["Spine", "Chest"], ["Neck"], "Head", words(CONVENTIONS["bandai"][4]), ("_L", "_R"))
    hierarchy = Hierarchy(
        ("joint_Root", *inner.names), (-1, *(p + 1 for p in inner.parents)),
        np.vstack([np.zeros(3), inner.offsets]), np.vstack([np.full(3, np.nan), inner.tips]),
    )  # fmt: skip
    local, moves = random_take(hierarchy)
    retargeter = Retargeter.make(hierarchy, 0.01, local)
    motion = retargeter.read(local, moves, 30)
    shifted = motion.with_frames(motion.rotations, motion.root + np.array([0.1, 0.2, -0.3], np.float32))
    changed = np.zeros((40, 23), bool)
    changed[5:20, 22] = True
    new_local, new_moves = retargeter.write(
        shifted, local, moves, changed, movable=np.arange(len(hierarchy.names)) == 0
    )
    again = retargeter.read(new_local, new_moves, 30)
    np.testing.assert_allclose(again.root[5:20], shifted.root[5:20], atol=1e-6)
    np.testing.assert_array_equal(again.root[20:], motion.root[20:])
    np.testing.assert_array_equal(new_local, local)


def positions(motion):
    return kinematics.positions(
        motion.rotations.astype(np.float64), motion.root.astype(np.float64), motion.skeleton.offsets.astype(np.float64)
    )


@pytest.mark.parametrize("name", ["character1_walk", "chest_collar_100style_like", "axisneuron_18", "xia_cmu_normal"])
def test_rigs_show_the_figure_that_the_file_shows(data, name):
    """Canonical kinematics put every joint where the file's own hierarchy does, chains of several bones aside."""
    path = data(f"rigs/{name}.bvh")
    file, motion = bvh.read(path), bvh.load(path)
    scale, _ = bvh.infer_scale(file.hierarchy)
    roles = find_roles(file.hierarchy)
    local, moves = file.local()
    still = np.broadcast_to(file.hierarchy.offsets, moves.shape).copy()
    still[:, 0] = moves[:, 0]
    world = still * scale
    turns = local.copy()
    for j, parent in enumerate(file.hierarchy.parents):
        if parent >= 0:
            world[:, j] = world[:, parent] + rot.rotate(turns[:, parent], still[:, j] * scale)
            turns[:, j] = rot.multiply(turns[:, parent], local[:, j])
    points = positions(motion)
    rigid = {chain[0] for chain in roles.values() if len(chain) == 1}
    for role, chain in roles.items():
        between = file.hierarchy.path(roles["pelvis"][0], chain[0])[:-1]
        long = not rigid.issuperset(between)
        error = np.linalg.norm(points[:, INDEX[role]] - world[:, chain[0]], axis=-1).max()
        # the bend inside a merged chain or of CMU's hip joint bones moves what follows by centimetres, nothing else may
        assert error < (0.06 if long else 1e-5), role
    assert np.median(points[:, INDEX["head"], 1] - points[:, [7, 8], 1].min(axis=1)) > 0.9


@pytest.mark.parametrize(
    "name", ["05_12", "06_01", "06_04", "06_12", "06_15", "11_01_43joints", "94_13_43joints", "131_01", "131_03"]
)
def test_cmu_files_agree_with_the_pack(data, pack_clip, name):
    """The pack was made by other code, without the anatomical frame and with other spine and neck choices.

    What must agree: the root path, all leg positions, limb directions, and every rotation up to a constant per joint
    (neck, and wrists with repaired glitches, aside).
    """
    motion, clip = bvh.load(data(f"cmu/raw/{name}.bvh")), pack_clip(name[:5].rstrip("_") if "43" in name else name)
    starts = range(len(motion) - 2 * (len(clip) - 1))
    errors = [
        np.abs(motion.root[s : s + 2 * len(clip) : 2][: len(clip), [0, 2]] - clip.root[:, [0, 2]]).max() for s in starts
    ]
    start = int(np.argmin(errors))
    assert errors[start] < 1e-4
    part = motion.with_frames(motion.rotations[start::2][: len(clip)], motion.root[start::2][: len(clip)])
    ours, theirs = positions(part), positions(clip)
    legs = [1, 2, 4, 5, 7, 8, 10, 11]
    np.testing.assert_allclose((ours - ours[:, :1])[:, legs], (theirs - theirs[:, :1])[:, legs], atol=2e-4)
    turns = [
        kinematics.forward(m.rotations.astype(np.float64), m.root.astype(np.float64), np.zeros((22, 3)))[0]
        for m in (part, clip)
    ]
    between = rot.multiply(rot.conjugate(turns[1]), turns[0])  # the difference of the corrections, if constant
    spread = np.degrees(rot.angle(between, between[:1]))
    spine = {"11_01_43joints", "94_13_43joints"}
    free = {INDEX["neck"]} | ({INDEX["spine1"]} if name in spine else set())
    same = [j for j in range(22) if j not in free | {20, 21, 10, 11}]
    assert spread[:, same].max() < 0.05
    constant = np.degrees(rot.angle(between, np.array(rot.IDENTITY)))[:, same]
    assert constant.max() < 40  # the 43-joint head points at its eyes there, elsewhere at most the 10° of the frame


def along_one_axis(hierarchy: Hierarchy, local: np.ndarray) -> tuple[Hierarchy, np.ndarray]:
    """The same movement in joint frames whose +X lies along the bone, as LAFAN1 is written: its zero pose is a heap."""
    frames = np.tile(np.array(rot.IDENTITY), (len(hierarchy.names), 1))
    for j in range(len(hierarchy.names)):
        children = [k for k, parent in enumerate(hierarchy.parents) if parent == j and np.any(hierarchy.offsets[k])]
        if not children:
            frames[j] = frames[hierarchy.parents[j]]
            continue
        limb = max(
            children, key=lambda k: sum(k in hierarchy.ancestors(other) for other in range(len(hierarchy.names)))
        )
        bone = np.array([0.0, 1.0, 0.0]) if j == 0 else hierarchy.offsets[limb]
        roll = rot.exp(np.array([0.4 * j, 0, 0]))
        frames[j] = rot.multiply(rot.shortest_arc(np.array([1.0, 0, 0]), bone), roll)
    offsets = hierarchy.offsets.copy()
    out = np.zeros_like(local)
    for j, parent in enumerate(hierarchy.parents):
        above = frames[parent] if parent >= 0 else np.array(rot.IDENTITY)
        offsets[j] = rot.rotate(rot.conjugate(above), hierarchy.offsets[j])
        out[:, j] = rot.multiply(rot.multiply(rot.conjugate(above), local[:, j]), frames[j])
    return Hierarchy(hierarchy.names, hierarchy.parents, offsets, hierarchy.tips), out


@pytest.mark.parametrize(
    "name", ["rigs/chest_collar_100style_like.bvh", "rigs/character1_walk.bvh", "cmu/raw/06_01.bvh"]
)
def test_a_zero_pose_that_is_no_figure(data, name, caplog):
    """LAFAN1 and Bandai-Namco files: the take's plainest standing frame serves as rest, and says so."""
    file = bvh.read(data(name))
    local, moves = (part[:300] for part in file.local())
    scale, _ = bvh.infer_scale(file.hierarchy)
    plain = Retargeter.make(file.hierarchy, scale, local).read(local, moves, file.fps)
    assert "no standing figure" not in caplog.text
    heap, turned = along_one_axis(file.hierarchy, local)
    heap_moves = np.broadcast_to(heap.offsets, moves.shape).copy()
    heap_moves[:, 0] = moves[:, 0]
    retargeter = Retargeter.make(heap, scale, turned)
    assert "no standing figure" in caplog.text
    motion = retargeter.read(turned, heap_moves, file.fps)
    legs = [1, 2, 4, 5, 7, 8]
    np.testing.assert_allclose(positions(motion)[:, legs], positions(plain)[:, legs], atol=0.03)
    turns = [
        kinematics.forward(m.rotations.astype(np.float64), m.root.astype(np.float64), np.zeros((22, 3)))[0]
        for m in (plain, motion)
    ]
    error = np.degrees(rot.angle(*turns)).mean(axis=0)
    assert error[[0, 1, 2, 4, 5]].max() < 15  # pelvis and legs
    assert error[[3, 6, 7, 8, 9, 12, 13, 14]].max() < 15  # spine, feet, collars
    assert error.max() < 60  # arms and hands: their roll at rest is the one of the chosen frame
    new_local, new_moves = retargeter.write(
        motion, turned, heap_moves, np.ones((len(turned), 23), bool), movable=np.arange(len(heap.names)) == 0
    )
    again = retargeter.read(new_local, new_moves, file.fps)
    assert rot.angle(again.rotations.astype(np.float64), motion.rotations.astype(np.float64)).max() < 1e-6
