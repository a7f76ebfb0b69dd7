"""The one module that knows Blender versions."""

from __future__ import annotations

import bpy
import figures
import numpy as np

from mmdm_addon import compat


def test_new_action_moves_its_owner_at_once():
    thing = bpy.data.objects.new("thing", None)
    bpy.context.scene.collection.objects.link(thing)
    action, slot = compat.new_action("move", thing)
    curve = compat.new_curve(action, slot, "location", 0, "Object Transforms")
    curve.keyframe_points.add(2)
    curve.keyframe_points.foreach_set("co", np.array([1, 0, 11, 5], np.float32))
    curve.update()
    assert curve.group.name == "Object Transforms"
    compat.assign(thing, action, slot)
    bpy.context.scene.frame_set(11)
    assert thing.location.x == 5
    assert compat.action_animates(thing)


def test_an_action_with_a_slot_still_to_choose_does_not_animate():
    thing = bpy.data.objects.new("thing", None)
    assert not compat.action_animates(thing)
    thing.animation_data_create()
    assert not compat.action_animates(thing)
    assert list(compat.curves(None, None)) == []


def test_copy_keeps_curves_and_finds_the_twin_slot():
    figure = figures.make()
    action = figures.animate(figure, frames=5)
    copy, slot = compat.copy_action(action, compat.assigned_slot(figure), "copy")
    assert copy.name == "copy"
    assert copy != action
    before = figures.snapshot(action, compat.assigned_slot(figure))
    after = figures.snapshot(copy, slot)
    assert before.keys() == after.keys()
    assert len(after) == 22 * 4 + 3
    for key, keys in before.items():
        for name, column in keys.items():
            assert (column == after[key][name]).all(), (key, name)
    compat.assign(figure, copy, slot)
    assert figure.animation_data.action == copy
    assert compat.action_animates(figure)


def test_bone_selection_and_hiding():
    figure = figures.make()
    bone = figure.pose.bones["left_knee"]
    compat.select(bone, True)
    assert compat.is_selected(bone)
    compat.select(bone, False)
    assert not compat.is_selected(bone)
    assert not compat.is_hidden(bone)
    compat.hide(bone, True)
    assert compat.is_hidden(bone)
    compat.hide(bone, False)
    collection = figure.data.collections.new("legs")
    collection.assign(figure.data.bones["left_knee"])
    assert not compat.is_hidden(bone)
    collection.is_visible = False
    assert compat.is_hidden(bone)


def test_whether_any_bone_is_selected_is_never_remembered_wrongly():
    one, other = figures.make(), figures.make()

    def only(figure, *names):
        for bone in figure.pose.bones:
            compat.select(bone, bone.name in names)
        assert compat.any_selected(figure) == bool(names) == bool(compat.selection(figure).any())

    only(one, "head")
    only(other)  # it has a bone of the name that was found
    only(other, "left_knee")
    only(one, "right_wrist", "spine1")
    only(one, "spine1")
    only(one)
    assert compat.any_selected(other)
    bpy.ops.object.select_all(action="DESELECT")
    bpy.context.view_layer.objects.active = other
    bpy.ops.object.mode_set(mode="EDIT")
    other.data.edit_bones.remove(other.data.edit_bones["left_knee"])  # the one that was found
    bpy.ops.object.mode_set(mode="POSE")
    only(other)
    only(other, "right_knee")


def test_key_enum_names_what_blender_stores():
    assert compat.key_enum("type")["GENERATED"] == 5
    assert set(compat.key_enum("interpolation")) >= {"CONSTANT", "LINEAR", "BEZIER"}
