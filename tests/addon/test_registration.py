"""Registering, unregistering, and what a failure in the middle leaves behind."""

from __future__ import annotations

import bpy
import pytest
from operator_support import ensure_registered, figure, select, select_keys

import mmdm_addon
from mmdm_addon import registration
from mmdm_addon.ui import fill_gap, follow, menus


@pytest.fixture(autouse=True)
def registered():
    ensure_registered()
    yield
    ensure_registered()


def ours() -> set[str]:
    """Every class of ours that Blender knows."""
    return {cls.__name__ for cls in registration.CLASSES if getattr(cls, "is_registered", False)}


def test_unregister_takes_everything_back_and_register_brings_it_again():
    assert len(ours()) == len(registration.CLASSES)
    handlers = len(bpy.app.handlers.load_pre)
    mmdm_addon.unregister()
    assert ours() == set()
    assert not any(hasattr(t, "mmdm") for t in (bpy.types.Scene, bpy.types.Object, bpy.types.WindowManager))
    assert len(bpy.app.handlers.load_pre) == handlers - 1
    assert not follow._handles
    mmdm_addon.register()
    assert [editor for editor, _ in follow._handles] == [bpy.types.SpaceDopeSheetEditor, bpy.types.SpaceGraphEditor]
    assert len(ours()) == len(registration.CLASSES)
    assert len(bpy.app.handlers.load_pre) == handlers


def test_a_failure_is_raised_and_leaves_nothing_registered(monkeypatch):
    mmdm_addon.unregister()

    def fails():
        raise RuntimeError("deliberate")

    with monkeypatch.context() as patch:
        patch.setattr(registration.keymaps, "register", fails)
        with pytest.raises(RuntimeError, match="deliberate"):
            mmdm_addon.register()
    assert ours() == set()
    assert not hasattr(bpy.types.Scene, "mmdm")
    mmdm_addon.register()


@pytest.mark.parametrize(
    ("operator", "properties"),
    [
        ("fill_gap", {"frame_start", "frame_end", "keep", "takes", "seed", "label", "density", "step", "tolerance",
                      "lock_feet", "extend"}),
        ("refine_jitter", {"frame_start", "frame_end", "strength", "lock_feet"}),
        ("complete_bones", {"frame_start", "frame_end", "lock_feet"}),
        ("detect_problems", set()),
        ("problem_fix", {"method", "index"}),
        ("trial", {"frame_start", "frame_end", "keep", "extend"}),
        ("take_switch", {"index"}),
        ("bone_role_set", {"role", "bone"}),
        ("bones_detect", set()),
    ],
)  # fmt: skip
def test_operators_have_the_promised_properties(operator, properties):
    rna = getattr(bpy.ops.mmdm, operator).get_rna_type()
    assert set(rna.properties.keys()) - {"rna_type"} == properties
    assert rna.description
    assert all(p.description for p in rna.properties if p.identifier != "rna_type")


def test_every_operator_and_panel_says_what_it_does_in_one_line():
    for cls in registration.CLASSES:
        if issubclass(cls, bpy.types.Operator):
            text = getattr(cls, "bl_description", "") or cls.__doc__
            assert text, cls
            assert "\n" not in text, cls
            assert not text.endswith("."), cls  # Blender adds the full stop


def test_menus_exist_in_this_blender():
    for name in menus.MENUS:
        assert menus._draw in getattr(bpy.types, name)._dyn_ui_initialize()


def test_the_panel_says_beforehand_what_fill_gap_would_do():
    armature = figure(every=10)
    select_keys(armature, (11, 41))
    assert fill_gap.fill_preview(bpy.context) == "Writes 12-40, keeps 11, 21, 31, 41"
    select(armature, "left_knee")
    bpy.context.scene.mmdm.keep = "NONE"
    assert fill_gap.fill_preview(bpy.context) == "Writes 12-40, keeps 11, 41"
    select_keys(armature, ())
    fill_gap._plan._until = 0
    assert fill_gap.fill_preview(bpy.context).startswith("No gap is chosen; select the keys")
