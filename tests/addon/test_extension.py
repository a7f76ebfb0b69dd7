"""The built extension as a user gets it: zipped and validated by ``scripts/extension.py``, installed into an empty
profile, run with the real engine from inside the installed folder, and offered by a static repository.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import bpy
import pytest
from worker_support import ROOT, worker_python

sys.path.insert(0, str(ROOT / "scripts"))
import extension


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("build") / "mmdm-0.1.0.zip"
    extension.build(path)
    return path


def test_the_zip_holds_what_is_needed_and_nothing_else(archive):
    names = extension.contents(archive)
    for needed in ("__init__.py", "blender_manifest.toml", "mmdm_addon/registration.py", "mmdm_engine/worker.py"):
        assert needed in names
    assert {n for n in names if n.startswith("mmdm_engine/weights/")} == {
        f"mmdm_engine/weights/{path.name}" for path in (ROOT / "mmdm_engine" / "weights").iterdir() if path.is_file()
    }
    assert any(n.startswith("mmdm_addon/requirements/") for n in names)
    assert not [n for n in names if n.startswith((*extension.UNWANTED, ".")) or "__pycache__" in n]


def test_a_stray_file_is_not_built_in(archive, monkeypatch, tmp_path):
    """The tool zips what lies there; what does not belong stops the build with its name."""
    with zipfile.ZipFile(archive) as original:
        files = {name: original.read(name) for name in ("__init__.py", "blender_manifest.toml")}

    def strayed(command: str, *arguments: str) -> None:
        if command == "build":
            with zipfile.ZipFile(arguments[-1], "w") as made:
                for name, content in {**files, "mmdm_addon/notes.pdf": b""}.items():
                    made.writestr(name, content)

    monkeypatch.setattr(extension, "tool", strayed)
    with pytest.raises(extension.BuildError, match=r"mmdm_addon/notes\.pdf, which is no part of the extension"):
        extension.build(tmp_path / "strayed.zip")


def test_blender_refuses_a_manifest_that_breaks_its_rules(tmp_path):
    manifest = (ROOT / "blender_manifest.toml").read_text(encoding="utf-8")
    (tmp_path / "blender_manifest.toml").write_text(manifest.replace('version = "0.1.0"', 'version = "new"', 1))
    with pytest.raises(extension.BuildError, match="refused to validate"):
        extension.tool("validate", str(tmp_path))


def test_the_manifest_keeps_to_the_rules_of_the_extensions_site():
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text())
    assert "blender" not in manifest["name"].lower()
    assert len(manifest["tagline"]) <= 64
    assert manifest["tagline"][-1].isalnum()
    assert set(manifest["tags"]) <= {"Animation", "Rigging", "Pipeline"}
    assert manifest["license"] == ["SPDX:GPL-3.0-or-later"]
    assert all(len(reason) <= 64 and reason[-1].isalnum() for reason in manifest["permissions"].values())
    assert "Install Engine" in manifest["permissions"]["network"]  # the one thing that goes online
    assert "wheels" not in manifest


def test_installed_into_an_empty_profile_it_runs(archive, tmp_path):
    report = extension.try_out(archive, tmp_path, worker_python())
    extension.require_working(report)
    assert report["package"] == "bl_ext.user_default.mmdm"
    assert report["engine"] == "bl_ext.user_default.mmdm.mmdm_engine.rotations"
    assert report["home"].startswith(str(tmp_path / "profile"))
    assert report["hello"]["engine"] == str(Path(report["home"]) / "mmdm_engine")
    assert report["plain"] == []  # nothing leaks into the global module names, and no torch into Blender
    assert report["managed"].startswith(str(tmp_path / "profile"))
    assert not report["managed"].startswith(report["home"])
    assert "Filled 31-59" in report["fill"]["message"]
    assert "Refined 110-150" in report["refine"]["message"]
    assert "Completed 170-200" in report["complete"]["message"]
    assert len(report["takes"]) == 4
    assert report["gone"]


GOOD = {
    **{button: {"outcome": ["FINISHED"], "message": ""} for button in ("fill", "refine", "complete")},
    "plain": [],
    "engine": "bl_ext.user_default.mmdm.mmdm_engine.rotations",
    "hello": {"engine": "/profile/mmdm/mmdm_engine"},
    "home": "/profile/mmdm",
    "gone": True,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"refine": {"outcome": ["CANCELLED"], "message": "No weights."}}, "refine failed: No weights"),
        ({"plain": ["mmdm_engine"]}, "took its engine from outside"),
        ({"hello": {"engine": "/checkout/mmdm_engine"}}, "ran another engine"),
        ({"gone": False}, "left something registered"),
    ],
)
def test_a_build_that_does_not_work_is_not_published(change, words):
    extension.require_working(GOOD)
    with pytest.raises(extension.BuildError, match=words):
        extension.require_working(GOOD | change)


def test_the_repository_offers_the_zip_and_blender_installs_from_it(archive, tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "mmdm-0.0.1.zip").write_text("of an earlier build")
    extension.publish(archive, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "index.json", archive.name]
    (offered,) = json.loads((folder / "index.json").read_text())["data"]
    assert (offered["id"], offered["archive_size"]) == ("mmdm", archive.stat().st_size)
    assert f"{archive.name}?repository=" in (folder / "index.html").read_text()  # what a drag into Blender reads
    where = ["--remote-url", (folder / "index.json").as_uri(), "--local-dir", str(tmp_path / "profile")]
    (tmp_path / "profile").mkdir()
    extension.tool("sync", *where, "--remote-name", "MMDM")
    versions = ["--blender-version", bpy.app.version_string.split()[0], "--python-version", sys.version.split()[0]]
    extension.tool("install", *where, *versions, "mmdm")
    assert (tmp_path / "profile" / "mmdm" / "mmdm_engine" / "worker.py").is_file()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_dirty_checkout_is_refused_by_name(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True, timeout=60)

    git("init")
    (tmp_path / "kept.py").write_text("")
    git("add", "kept.py")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--message", "first")
    monkeypatch.setattr(extension, "ROOT", tmp_path)
    extension.require_clean()
    (tmp_path / "kept.py").write_text("changed")
    (tmp_path / "new.py").write_text("")
    with pytest.raises(extension.BuildError, match=r"^kept\.py, new\.py: not committed"):
        extension.require_clean()


def test_what_git_does_not_know_is_never_called_clean(tmp_path, monkeypatch):
    monkeypatch.setattr(extension, "ROOT", tmp_path)
    with pytest.raises(extension.BuildError, match="build from a clone of the repository"):
        extension.require_clean()


def test_a_folder_with_something_else_is_never_replaced(tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    monkeypatch.setattr(sys, "argv", ["build", "--allow-dirty", "--out", str(tmp_path)])
    assert extension.main() == 1
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} holds something else")
