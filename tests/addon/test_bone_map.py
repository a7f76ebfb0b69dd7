"""Bone maps: chosen, forgotten, saved, put on the next rig of the kind, carried to another computer."""

from __future__ import annotations

import json
from types import SimpleNamespace

import bpy
import figures
import pytest
from operator_support import ensure_registered, figure, refused

from mmdm_addon.engine_link import JOINTS
from mmdm_addon.operators import bone_map as commands
from mmdm_addon.rig import bone_maps, read, roles
from mmdm_addon.ui import bone_map as ui

ops = bpy.ops.mmdm
ODD = {role: f"Knochen{j:02d}" for j, role in enumerate(JOINTS)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Saved maps go to an empty folder."""
    ensure_registered()
    place = tmp_path / "bone_maps"
    monkeypatch.setattr(commands, "folder", lambda: place)
    return place


def odd(**wrong: str) -> bpy.types.Object:
    """An active figure whose bone names say nothing; some roles chosen otherwise."""
    armature = figures.make(ODD)
    for role, bone in wrong.items():
        roles.set_override(armature, role, bone)
    return armature


def first(armature) -> dict[str, str]:
    return {role: chain[0] for role, chain in roles.detect(armature).chains.items()}


def test_a_map_is_saved_and_put_on_the_next_rig_of_its_kind(folder):
    odd(left_foot="", left_wrist=ODD["left_elbow"], left_elbow=ODD["left_wrist"])
    assert ops.bone_map_save(name="Hausrig Größe 2") == {"FINISHED"}
    assert [p.name for p in folder.iterdir()] == ["Hausrig Größe 2.json"]
    other = odd()
    assert first(other) == ODD
    assert ops.bone_map_load(name="Hausrig Größe 2") == {"FINISHED"}
    wanted = ODD | {"left_wrist": ODD["left_elbow"], "left_elbow": ODD["left_wrist"]}
    del wanted["left_foot"]
    assert {role: chain[0] for role, chain in roles.detect(other).chains.items() if role in wanted} == wanted
    assert "left_foot" not in roles.detect(other).chains


def test_a_map_stores_as_choices_only_what_detection_does_not_find():
    odd(left_foot="")
    ops.bone_map_save(name="a")
    other = odd()
    ops.bone_map_load(name="a")
    assert roles.overrides(other) == {"left_foot": ""}


def test_loading_keeps_merged_chains_and_a_control_rigs_skeleton(rigify):
    bpy.context.view_layer.objects.active = rigify
    before = roles.detect(rigify)
    ops.bone_map_save(name="rigify")
    roles.set_override(rigify, "neck", "")
    ops.bone_map_load(name="rigify")
    after = roles.detect(rigify)
    assert (after.chains, after.read, after.preset) == (before.chains, before.read, before.preset)
    assert roles.overrides(rigify) == {}


def test_loading_replaces_earlier_choices_in_one_undo_step():
    odd()
    ops.bone_map_save(name="plain")
    roles.set_override(bpy.context.object, "head", "")
    bpy.ops.ed.undo_push(message="before")
    assert ops.bone_map_load("EXEC_DEFAULT", True, name="plain") == {"FINISHED"}
    assert "head" in first(bpy.context.object)
    bpy.ops.ed.undo()
    assert "head" not in first(bpy.data.objects["Figure"])


def test_bones_that_the_rig_lacks_are_named_and_left_to_detection(capsys):
    odd()
    ops.bone_map_save(name="whole")
    bpy.data.objects.remove(bpy.context.object)
    figures.make(ODD, absent=("left_foot", "right_foot"))
    applied = bone_maps.apply(bpy.context.object, bone_maps.load(commands.folder() / "whole.json"))
    assert applied == (20, (ODD["left_foot"], ODD["right_foot"]))


def test_a_map_of_another_rig_is_refused_and_changes_nothing():
    odd()
    ops.bone_map_save(name="odd")
    figures.make()
    roles.set_override(bpy.context.object, "head", "")
    refused(ops.bone_map_load, "has none of the map's bones", "same kind", name="odd")
    assert roles.overrides(bpy.context.object) == {"head": ""}


def test_export_and_import_carry_a_map(tmp_path):
    odd(left_foot="")
    assert ops.bone_map_export(filepath=str(tmp_path / "out.json")) == {"FINISHED"}
    other = odd()
    assert ops.bone_map_import(filepath=str(tmp_path / "out.json")) == {"FINISHED"}
    assert roles.overrides(other) == {"left_foot": ""}
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no json",
        "[1]",
        '{"roles": {}}',
        '{"format": "MMDM bone map", "version": 1, "roles": []}',
        "\udcff",
        "[" * 9999,
    ],
)
def test_files_that_are_no_map_are_refused_in_words(tmp_path, content):
    armature = odd(left_foot="")
    path = tmp_path / "bad.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    refused(ops.bone_map_import, "is not a bone map", "choose a .json file", filepath=str(path))
    assert roles.overrides(armature) == {"left_foot": ""}


def test_maps_with_unknown_roles_of_newer_versions_and_missing_files_are_refused_in_words(tmp_path):
    odd()
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"format": bone_maps.FORMAT, "version": 1, "roles": {"tail": "x"}}))
    refused(ops.bone_map_import, "'tail', which is no role", filepath=str(path))
    path.write_text(json.dumps({"format": bone_maps.FORMAT, "version": 2, "roles": {}}))
    refused(ops.bone_map_import, "newer MMDM", "update", filepath=str(path))
    refused(ops.bone_map_import, "cannot be read", filepath=str(tmp_path / "none.json"))
    refused(ops.bone_map_export, "cannot be written", filepath=str(path / "inside.json"))
    refused(ops.bone_map_load, "no bone map 'nothing'", "save one first", name="nothing")
    ops.bone_map_save(name="one")
    refused(ops.bone_map_load, "no bone map 'nothing'", "choose one of one", name="nothing")


@pytest.mark.parametrize("name", ["", "  ", "../up", "a/b", "a\\b", "c:d", ".hidden", "dot.", "x" * 81, "line\nbreak"])
def test_names_that_are_no_file_names_are_refused(name, folder):
    odd()
    refused(ops.bone_map_save, "Give the bone map a name", name=name)
    assert not folder.exists()


def test_a_saved_map_can_be_replaced_and_deleted(folder):
    armature = odd()
    ops.bone_map_save(name="a")
    roles.set_override(armature, "head", "")
    ops.bone_map_save(name="a")
    assert bone_maps.load(folder / "a.json")["head"] == ""
    assert bone_maps.saved(folder) == ["a"]
    assert ops.bone_map_delete(name="a") == {"FINISHED"}
    assert bone_maps.saved(folder) == []
    assert roles.overrides(armature) == {"head": ""}


def test_one_choice_or_all_are_forgotten():
    armature = odd(head="", left_foot="")
    refused(ops.bone_role_clear, "no role 'tail'", role="tail")
    assert ops.bone_role_clear(role="head") == {"FINISHED"}
    assert roles.overrides(armature) == {"left_foot": ""}
    assert ops.bone_role_clear() == {"FINISHED"}
    assert roles.overrides(armature) == {}
    assert not ops.bone_role_clear.poll()
    refused(ops.bone_role_clear, "No bone was chosen by hand")


def test_a_bone_with_two_roles_is_said_until_it_is_put_right():
    armature = odd(left_knee=ODD["right_knee"])
    problem = (
        f"The bone '{ODD['right_knee']}' plays both left knee and right knee. Open Bone Map and choose another one."
    )
    assert problem in roles.detect(armature).problems
    roles.set_override(armature, "right_knee", ODD["left_knee"])
    assert roles.detect(armature).problems == []


def test_choices_on_a_library_override_are_saved_with_it(tmp_path):
    figure()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rig.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    with bpy.data.libraries.load(str(tmp_path / "rig.blend"), link=True) as (_, wanted):
        wanted.objects = ["Figure"]
    bpy.context.scene.collection.objects.link(wanted.objects[0])
    own = wanted.objects[0].override_create(remap_local_usages=True)
    roles.set_override(own, "left_foot", "")
    own.mmdm.source_fps = 120
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    own = next(o for o in bpy.data.objects if o.override_library)
    assert roles.overrides(own) == {"left_foot": ""}
    assert read.frame_rate(bpy.context, own) == 120
    roles.clear_overrides(own)
    own.mmdm.source_fps = 0
    assert roles.overrides(own) == {}
    assert read.frame_rate(bpy.context, own) == 24


class Page:
    """Stands for a layout; what is put on it must exist in Blender."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []

    def row(self, **_):
        return self

    def separator(self):
        pass

    def label(self, text):
        self.shown.append(("label", text))

    def menu(self, name, **_):
        assert hasattr(bpy.types, name)
        self.shown.append(("menu", name))

    def operator(self, name, text="", **_):
        assert getattr(bpy.ops.mmdm, name.removeprefix("mmdm.")).get_rna_type()
        self.shown.append((name, text))
        return SimpleNamespace()


def test_the_menu_lists_what_is_saved():
    odd()
    page = Page()
    ui.MMDM_MT_bone_maps.draw(SimpleNamespace(layout=page), bpy.context)
    assert page.shown[0] == ("label", "None saved yet")
    ops.bone_map_save(name="b")
    ops.bone_map_save(name="A")
    page = Page()
    ui.MMDM_MT_bone_maps.draw(SimpleNamespace(layout=page), bpy.context)
    assert page.shown[:2] == [("mmdm.bone_map_load", "A"), ("mmdm.bone_map_load", "b")]
    assert ("mmdm.bone_map_import", "Import...") in page.shown
    page = Page()
    ui.MMDM_MT_bone_maps_delete.draw(SimpleNamespace(layout=page), bpy.context)
    assert page.shown == [("mmdm.bone_map_delete", "A"), ("mmdm.bone_map_delete", "b")]
    page = Page()
    ui.draw_saved(page)
    assert [name for name, _ in page.shown] == ["menu", "mmdm.bone_map_save", "mmdm.bone_role_clear"]


def test_the_folder_is_the_extensions_own_or_blenders_user_folder(monkeypatch):
    monkeypatch.undo()
    assert commands.folder().name == "bone_maps"
    assert commands.folder().is_relative_to(bpy.utils.resource_path("USER"))
