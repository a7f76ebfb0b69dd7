"""Every command in README and docs is run on small data, or read by its own program, or named here with the reason.

Commands are the lines of code blocks without a language, and what stands in the text between backquotes and begins like
one. The expensive ones (training, evaluation, benchmarks) stop after their program has understood the arguments.
"""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mmdm_engine import bvh, cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.M | re.S)
PROGRAM = re.compile(r"(python3?|pip|blender|apt-get|npm|git|bash|sh|curl|scripts/[\w.]+|\.venv/\S+/python)(?= |$)")
DRAWINGS = {
    "docs/architecture.md": "Blender  ",
    "docs/capture.md": "cameras.py, detections.py",
    "docs/priors.md": "fill_gap / refine",
}
"""Blocks that are no commands, by how they begin."""


@dataclass(frozen=True)
class Command:
    """words: without comments. page: where it stands."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of the code blocks of a language; "" = none named."""
    return [
        (page.relative_to(ROOT).as_posix(), text)
        for page in PAGES
        for named, text in FENCE.findall(page.read_text("utf-8"))
        if named.strip() == language
    ]


def commands() -> list[Command]:
    """All of them, each once a page."""
    found: dict[Command, None] = {}
    for page, text in blocks(""):
        if page in DRAWINGS and text.startswith(DRAWINGS[page]):
            continue
        for line in text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                found[Command(page, tuple(words))] = None
    for page in PAGES:
        for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text("utf-8"))):
            if PROGRAM.match(span) and (" " in span or is_script(span)) and "…" not in span and "<" not in span:
                words = shlex.split(re.sub(r"\[(--[^]]*)\]", r"\1", span))  # what may be left out is put in
                found[Command(page.relative_to(ROOT).as_posix(), tuple(words))] = None
    return list(found)


def is_script(word: str) -> bool:
    """Whether it is one of scripts/ that can be run."""
    path = ROOT / word
    return word.startswith("scripts/") and path.is_file() and bool(path.stat().st_mode & 0o100)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with everything that the pages' commands name."""
    folder = tmp_path_factory.mktemp("docs")
    clip = bvh.read(ROOT / "demo" / "walk_turn_wave.bvh")
    clip = replace(clip, values=clip.values[:140])
    (folder / "takes").mkdir()
    for name in ("take", "takes/a", "takes/b"):
        (folder / f"{name}.bvh").write_text(clip.text())
    for suffix in (".safetensors", ".json"):
        shutil.copy(ROOT / "mmdm_engine" / "weights" / f"inbetween{suffix}", folder / f"mine{suffix}")
    return folder


class Understood(BaseException):
    """A program has read its arguments and would begin its work."""


@pytest.fixture
def only_read(monkeypatch):
    """Programs stop when they have read their arguments."""
    read = argparse.ArgumentParser.parse_args

    def then_stop(self, args=None, namespace=None):
        read(self, args, namespace)
        raise Understood

    return lambda: monkeypatch.setattr(argparse.ArgumentParser, "parse_args", then_stop)


def engine(words: list[str], stop_early: Callable[[], None]) -> None:
    """python -m mmdm_engine …"""
    if not words:
        assert cli.main([]) == 2  # it prints the list of commands
        return
    assert words[0] in cli.COMMANDS, words
    if len(words) == 1:
        return  # the text speaks of the command
    if words[0] in ("fill", "refine", "detect", "complete", "pack"):
        assert cli.main(words) == 0, words
        return
    stop_early()
    with pytest.raises(Understood):
        cli.main(words)


def program(path: Path, words: list[str], stop_early: Callable[[], None], monkeypatch) -> None:
    """A file of ours with arguments."""
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.syspath_prepend(str(ROOT))
    stop_early()
    with pytest.raises(Understood):
        runpy.run_path(str(path), run_name="__main__")


def batch(words: list[str]) -> None:
    """What stands behind Blender's own arguments. tests/addon/test_batch*.py carry such commands out."""
    pytest.importorskip("bpy", reason="needs the bpy package of a supported Blender")
    from mmdm_addon.batching import arguments, listing

    settings = arguments.parse(words, "batch")
    assert [item.name for item in listing.items(settings)] == ["a.bvh", "b.bvh"]


def requirements(words: list[str]) -> None:
    """pip install …: nothing is installed here, but it must be what pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    known = {re.split(r"[<>=~]", name)[0] for name in project["dependencies"]}
    extras = {f"{project['name']}[{extra}]" for extra in project["optional-dependencies"]}
    for word in words:
        assert word in known | extras | {"-e", "."}, word


def script(words: list[str], stop_early: Callable[[], None], monkeypatch) -> None:
    """scripts/NAME …: continuous integration and tests of their own run these; here it must know its options."""
    path = ROOT / words[0]
    assert is_script(words[0]), f"{words[0]} is no program"
    ours = [word for word in words[1:] if word != "--cuda"]
    if path.name == "demo" and ours:
        program(ROOT / "demo" / "run.py", ours, stop_early, monkeypatch)
        return
    text = path.read_text("utf-8")
    for option in (word for word in words[1:] if word.startswith("--")):
        assert option in text, f"{words[0]} has no {option}"
    if text.startswith("#!/usr/bin/env bash"):
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_every_block_is_commands_or_code_or_a_known_drawing():
    for page, text in blocks(""):
        if page in DRAWINGS and text.startswith(DRAWINGS[page]):
            continue
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            assert not words or PROGRAM.match(words[0]), f"{page}: this test does not know how to check: {line}"
    assert {named.strip() for page in PAGES for named, _ in FENCE.findall(page.read_text("utf-8"))} <= {"", "python"}


@pytest.mark.parametrize("command", commands(), ids=str)
def test_command(command, place, only_read, monkeypatch):
    monkeypatch.chdir(place)
    match list(command.words):
        case ["python", "-m", "mmdm_engine", *words]:
            engine(words, only_read)
        case ["python", "-m", "mmdm_addon.batch", *words] | ["blender", "--command", "mmdm", *words]:
            batch(words)
        case ["blender", "-b", "--python", "mmdm_addon/batch.py", "--", *words]:
            batch(words)
        case ["blender", "-b"]:
            pass  # the text speaks of Blender without a window
        case ["blender", "--command", "extension", "build", *_]:
            assert (ROOT / "blender_manifest.toml").is_file()  # scripts/build does the same, and has tests
        case [".venv/4.5/bin/python", "-m", "pytest", file, *_]:
            assert (ROOT / file).is_file()
        case ["python", file, *words] if (ROOT / file).is_file():
            program(ROOT / file, words, only_read, monkeypatch)
        case ["pip", "install", *words]:
            requirements(words)
        case ["apt-get", "install", *words]:
            known = re.search(r'^LIBRARIES="(.*)"', (ROOT / "scripts" / "environment").read_text("utf-8"), re.M)
            assert known is not None
            assert set(words) <= {"python3.11-venv", *known.group(1).split()}
        case [name, *_] if name.startswith("scripts/"):
            script(list(command.words), only_read, monkeypatch)
        case _:
            pytest.fail(f"{command}: neither run nor named with a reason; teach this test how to check it.")


# --- Python ----------------------------------------------------------------------------------------------------------

INSIDE_BLENDER = "runs inside Blender on a rig: tests/addon do each of these calls"
NO_WEIGHTS = "needs weights that are not shipped: tests/engine/test_positions.py trains some and makes these calls"
NO_CAMERAS = "needs several cameras' detections: tests/engine/test_capture*.py make such a scene and these calls"
ELSEWHERE = {
    "bpy.ops": INSIDE_BLENDER, "mmdm_addon": INSIDE_BLENDER, "priors.positions": NO_WEIGHTS,
    "mmdm_engine.capture": NO_CAMERAS,
}  # fmt: skip
"""Words of a block → why it is not run here. It must be sound Python all the same."""


@pytest.mark.parametrize(("page", "text"), blocks("python"), ids=lambda value: value.splitlines()[0][:60])
def test_python(page, text, place, monkeypatch):
    code = compile(text, page, "exec")
    if any(words in text for words in ELSEWHERE):
        return
    import mmdm_engine as mmdm

    monkeypatch.chdir(place)
    motion = mmdm.load_bvh("take.bvh")
    mmdm.save_npy(motion, "motion.npy", form="joints")
    exec(code, {"mmdm": mmdm, "motion": motion})


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        text = FENCE.sub("", page.read_text("utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_contents_in_the_readme_name_every_page():
    text = (ROOT / "README.md").read_text("utf-8")
    missing = [page.name for page in PAGES[1:] if f"docs/{page.name}" not in text]
    assert not missing, missing
