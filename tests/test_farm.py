"""The Flamenco job type: its script run in a JavaScript engine with Flamenco's interface, its commands carried out.

The interface is Flamenco 3's: the script is compiled in strict mode; ``author.Task`` and ``author.Command`` make what
is added; a task is copied as it stands when the job takes it; the manager puts values for {variables}; a worker runs
``exe exeArgs argsBefore blendfile args`` and a status other than 0 fails the task. With MMDM_BLENDER the commands run
in that Blender, else in a stand-in for its command line around the bpy package.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mmdm_engine import bvh

dukpy = pytest.importorskip("dukpy", reason="needs dukpy, a JavaScript engine; pip install dukpy")

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "farm" / "mmdm_cleanup.js"
INTERFACE = """
"use strict";
function Command(name, parameters) {
    if (typeof name !== "string" || typeof parameters !== "object") throw "author.Command(name, parameters)";
    this.name = name;
    this.parameters = parameters;
    Object.freeze(this);
}
function Task(name, type) {
    if (!name || !name.trim() || !type || !type.trim()) throw "author.Task(name, type): both are required";
    const commands = [], dependencies = [];
    this.addCommand = function (command) {
        if (!(command instanceof Command)) throw "addCommand wants what author.Command made";
        commands.push(JSON.parse(JSON.stringify(command)));
    };
    this.addDependency = function (task) {
        if (!(task instanceof Task)) throw "addDependency wants what author.Task made";
        dependencies.push(task.copy().name);
    };
    this.copy = function () {
        return { name: name, type: type, commands: commands.slice(), dependencies: dependencies.slice() };
    };
    Object.freeze(this);
}
const author = Object.freeze({
    Task: function (name, type) { return new Task(name, type); },
    Command: function (name, parameters) { return new Command(name, parameters); },
});
const authored = [];
const job = Object.freeze({
    name: "test", type: "mmdm-cleanup", settings: dukpy.settings,
    addTask: function (task) {
        if (!(task instanceof Task)) throw "addTask wants what author.Task made";
        authored.push(task.copy());
    },
});
"""


def run_script(ending: str, settings: dict):
    return dukpy.evaljs(f"{INTERFACE}{SCRIPT.read_text('utf-8')}\n;{ending}", settings=settings)


def job_type() -> dict:
    return run_script("JOB_TYPE", {})


def compiled(**settings) -> list[dict]:
    """The tasks of a job, with the settings' defaults as Flamenco's add-on sends them."""
    defaults = {s["key"]: s["default"] for s in job_type()["settings"] if "default" in s}
    return run_script("compileJob(job); authored", {**defaults, **settings})


def test_every_setting_is_one_that_flamenco_knows():
    types = {"string", "int32", "float", "bool"}
    known = {"key", "type", "subtype", "required", "default", "choices", "propargs", "description", "visible", "eval"}
    for setting in job_type()["settings"]:
        assert setting["type"] in types
        assert set(setting) <= known
        assert setting["description"]
        assert setting.get("subtype", "file_path") in ("file_path", "dir_path", "file_name", "hashed_file_path")
        assert setting.get("default", "") in setting.get("choices", [setting.get("default", "")])
        assert "choices" not in setting or setting["type"] == "string"
    assert len({s["key"] for s in job_type()["settings"]}) == len(job_type()["settings"])


def test_chunks_share_the_files_and_the_report_waits_for_all():
    tasks = compiled(takes="/farm/takes", results="/farm/out", chunks=3)
    assert [t["name"] for t in tasks] == ["clean-up-1-of-3", "clean-up-2-of-3", "clean-up-3-of-3", "report"]
    assert {t["type"] for t in tasks} == {"blender"}
    assert [t["dependencies"] for t in tasks] == [[], [], [], [t["name"] for t in tasks[:3]]]
    common = ["--command", "mmdm", "/farm/takes", "--out", "/farm/out", "--do", "detect,fill,refine", "--strength", "1"]
    endings = [["--part", "1/3"], ["--part", "2/3"], ["--part", "3/3"], ["--report"]]
    for task, ending in zip(tasks, endings, strict=True):
        (command,) = task["commands"]
        assert command["name"] == "blender-render"
        assert command["parameters"] == {
            "exe": "{blender}", "exeArgs": "{blenderArgs}", "argsBefore": [], "blendfile": "", "args": common + ending,
        }  # fmt: skip


def test_settings_become_arguments():
    last = compiled(
        takes="/t", results="/o", chunks=1, steps="refine", format="fbx", strength=0.5, lock_feet=False,
        only="day 1/*.bvh", batch_script="/farm/mmdm_addon/batch.py",
    )[-1]["commands"][0]["parameters"]["args"]  # fmt: skip
    assert last == [
        "--python-exit-code", "1", "--python", "/farm/mmdm_addon/batch.py", "--", "/t", "--out", "/o", "--do", "refine",
        "--format", "fbx", "--strength", "0.5", "--no-lock-feet", "--only", "day 1/*.bvh", "--report",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"takes": "//takes", "results": "/o"}, "whole path of the folder of takes"),
        ({"takes": "/t", "results": ""}, "whole path of the folder of results"),
        ({"takes": "/t", "results": "/o", "batch_script": "//batch.py"}, "the add-on"),
        ({"takes": "/t", "results": "/o", "chunks": 0}, "at least 1"),
    ],
)
def test_a_job_that_no_worker_could_do_is_refused_when_it_is_sent(settings, words):
    with pytest.raises(dukpy.JSRuntimeError, match=words):
        compiled(**settings)


def test_the_script_keeps_to_what_flamencos_engine_runs():
    """Its engine is ES5.1 with parts of what came later; ``const`` is what Flamenco's own scripts use of that."""
    code = re.sub(r"//.*", "", SCRIPT.read_text("utf-8"))
    assert not re.search(r"=>|`|\b(let|class|import|export|async|await|require)\b|\?\.|\?\?|\.\.\.", code)


def stand_in(folder: Path) -> Path:
    """An executable that understands what the job says to Blender."""
    path = folder / "blender"
    path.write_text(
        f"""#!{sys.executable}
import runpy, sys
import bpy
sys.path.insert(0, {str(ROOT)!r})
words = sys.argv[1:]
assert words[:2] == ["-b", "-y"], words
if "--command" in words:
    import os, mmdm_addon
    from mmdm_addon.batching import command
    at = words.index("--command")
    assert words[at + 1] == command.NAME
    mmdm_addon.register()
    status = command._execute(words[at + 2:])
    mmdm_addon.unregister()
    sys.stderr.flush()
    os._exit(status)
runpy.run_path(words[words.index("--python") + 1], run_name="__main__")
"""
    )
    path.chmod(0o755)
    return path


def carry_out(task: dict, blender: Path) -> None:
    """As a worker does it."""
    variables = {"{blender}": str(blender), "{blenderArgs}": "-b -y"}
    for command in task["commands"]:
        given = json.loads(json.dumps(command["parameters"]))
        for name in ("exe", "exeArgs"):
            given[name] = variables.get(given[name], given[name])
        assert all(isinstance(word, str) for word in given["args"])
        opened = [given["blendfile"]] if given["blendfile"] else []
        words = [given["exe"], *shlex.split(given["exeArgs"]), *given["argsBefore"], *opened, *given["args"]]
        environment = {"MMDM_PYTHON": sys.executable, **os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, timeout=170)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("how", ["script", "command"])
def test_the_commands_of_a_job_clean_every_file_once_and_report_on_all(how, tmp_path):
    if how == "command" and os.environ.get("MMDM_BLENDER"):
        pytest.skip("needs the extension installed in MMDM_BLENDER")
    clip = bvh.read(ROOT / "demo" / "walk_turn_wave.bvh")
    takes, results = tmp_path / "tä kes", tmp_path / "results"
    takes.mkdir()
    for i in range(3):
        (takes / f"{i}.bvh").write_text(replace(clip, values=clip.values[:40]).text())
    (takes / "zero.bvh").write_bytes(b"")
    blender = Path(os.environ.get("MMDM_BLENDER") or stand_in(tmp_path))
    script = str(ROOT / "mmdm_addon" / "batch.py") if how == "script" else ""
    tasks = compiled(takes=str(takes), results=str(results), chunks=2, steps="detect", batch_script=script)
    assert [t["dependencies"] for t in tasks[:-1]] == [[], []]
    for task in tasks[1::-1]:  # in any order
        carry_out(task, blender)
    assert not (results / "report.json").exists()
    carry_out(tasks[-1], blender)
    document = json.loads((results / "report.json").read_text("utf-8"))
    assert document["counts"] == {"done": 3, "failed": 1, "left": 0}  # a bad file is no worker's fault
    assert [f["name"] for f in document["files"]] == ["0.bvh", "1.bvh", "2.bvh", "zero.bvh"]
    assert document["seconds"] > 0
    assert (results / "report.html").exists()
    assert not list(results.rglob("*.lock"))
