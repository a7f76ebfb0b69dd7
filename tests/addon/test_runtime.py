"""The engine's Python: which one is taken, how the managed environment is made and removed, and what the user sees."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest
from operator_support import ensure_registered, refused
from runtime_support import PACKAGES, Layout, make_lock, make_wheels, pretend_complete
from worker_support import ROOT, standin_command, worker_python

from mmdm_addon import jobs, preferences, runtime, runtime_install, runtime_locks, runtime_probe
from mmdm_addon.engine_link import MotionError
from mmdm_addon.operators import runtime as commands
from mmdm_addon.ui import engine, panels

DEADLINE = 120
NAMED = os.environ.get("MMDM_PYTHON", "")  # the tests take it away, to see what happens without


@pytest.fixture(autouse=True)
def clean_runtime(monkeypatch, tmp_path):
    """No Python is named, the managed environment would live under tmp_path, and nothing may go online."""
    ensure_registered()
    monkeypatch.delenv("MMDM_PYTHON", raising=False)
    monkeypatch.setattr(runtime, "managed_folder", lambda: tmp_path / "home" / "runtime")
    bpy.context.preferences.system.use_online_access = False
    bpy.context.window_manager.mmdm.message = ""
    runtime.forget()
    yield
    runtime.stop_installation()
    runtime.forget()


@pytest.fixture
def named(monkeypatch):
    """The Python for the real engine is named again, where one was."""
    if NAMED:
        monkeypatch.setenv("MMDM_PYTHON", NAMED)
    monkeypatch.setenv("MMDM_PYTHON", worker_python())


@pytest.fixture
def standin_engine(named, monkeypatch):
    """The stand-in worker in its place."""
    command = standin_command()
    monkeypatch.setattr(runtime, "worker_command", lambda _runtime: command)
    return command


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory):
    """A virtual environment of the Python that Blender has."""
    folder = tmp_path_factory.mktemp("environment") / "empty"
    subprocess.run([runtime_install.blender_python(), "-I", "-m", "venv", str(folder)], check=True, timeout=DEADLINE)
    return folder


@pytest.fixture
def quick(monkeypatch, empty_environment):
    """Environments are copied instead of made, which takes seconds."""

    def make(self):
        self._phase = "make"
        shutil.copytree(empty_environment, self._staging / "new", symlinks=True)

    monkeypatch.setattr(runtime_install.Installation, "_make", make)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder of wheels, and the lock of them as the only one of this extension."""
    folder = make_wheels(tmp_path / "wheels")
    make_lock(tmp_path / "locks", folder)
    monkeypatch.setattr(runtime_locks, "FOLDER", tmp_path / "locks")
    return folder


def install(shop):
    return bpy.ops.mmdm.runtime_install(build="CPU", package_index=str(shop))


def siblings():
    """What lies beside the environment once everything has settled, without the log and the lock file."""
    end = time.monotonic() + DEADLINE
    while any(thread.name in ("mmdm-clean-up", "mmdm-install") for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.02)
    folder = runtime.managed_folder()
    return sorted(p.name for p in folder.parent.iterdir() if p.suffix not in (".log", ".lock"))


def message():
    return bpy.context.window_manager.mmdm.message


def without_torch(monkeypatch):
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None)


# ---------------------------------------------------------------- which Python


def test_the_named_then_the_managed_then_blenders_own_python(monkeypatch):
    torch = SimpleNamespace(origin="/somewhere/site-packages/torch/__init__.py")
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: torch)
    found = runtime.find()
    assert (found.python, found.source) == (sys.executable, "Blender's Python")
    assert found.module_folders == ("/somewhere/site-packages",)
    pretend_complete(runtime.managed_folder(), sys.executable)
    assert runtime.find().source == "managed environment"
    assert Path(runtime.find().python).is_relative_to(runtime.managed_folder())
    monkeypatch.setattr(runtime, "preferences", lambda: SimpleNamespace(python=sys.executable))
    assert runtime.find().source == "preference"
    monkeypatch.setenv("MMDM_PYTHON", sys.executable)
    assert runtime.find().source == "environment variable"


def test_without_any_the_sentence_names_the_button(monkeypatch):
    without_torch(monkeypatch)
    with pytest.raises(MotionError, match="press Install Engine"):
        runtime.find()
    assert "Install Engine" in runtime.missing()
    assert runtime.status() == runtime.missing()


@pytest.mark.parametrize("name", ["/no/such/python", "not_a_program"])
def test_a_wrong_name_is_an_error_and_not_passed_over(name, monkeypatch, tmp_path):
    path = tmp_path / name
    if not path.is_absolute() or path.is_relative_to(tmp_path):
        path.write_text("text")
    monkeypatch.setenv("MMDM_PYTHON", str(path))
    assert "MMDM_PYTHON" in runtime.missing()
    assert "enter the path" in runtime.missing()


def test_a_half_made_environment_does_not_count(monkeypatch):
    without_torch(monkeypatch)
    folder = runtime.managed_folder()
    pretend_complete(folder, sys.executable)
    (folder / runtime_install.MARKER).rename(folder / "aside")
    assert runtime.missing()
    (folder / "aside").rename(folder / runtime_install.MARKER)
    runtime.forget()
    assert not runtime.missing()
    runtime_install.program(folder).unlink()
    runtime_install.program(folder).symlink_to("/gone/with/its/blender/python")
    runtime.forget()
    assert runtime.missing()


def test_panels_ask_from_memory_and_a_change_is_seen_at_once(monkeypatch):
    asked = []
    monkeypatch.setattr(runtime, "find", lambda: asked.append(1) or runtime.Runtime(sys.executable, "test"))
    for _ in range(100):
        assert runtime.missing() == ""
    assert len(asked) == 1
    monkeypatch.setenv("MMDM_PYTHON", "/another")
    runtime.missing()
    assert len(asked) == 2


def test_blenders_own_python_can_make_environments():
    subprocess.run([runtime_install.blender_python(), "-I", "-c", "import venv, ensurepip"], check=True)


def test_blenders_own_python_is_found_where_the_executable_is_blender(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/blender/blender")
    found = runtime_install.blender_python()
    assert "python" in Path(found).name
    assert Path(found).is_file()


# ---------------------------------------------------------------- locks

LOCKS = sorted((ROOT / "mmdm_addon" / "requirements").glob("*.txt"))


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_pins_every_package_by_digest_and_names_public_places_only(path):
    lock = runtime_locks.read(path)
    assert path.stem == f"{lock.system}-{lock.machine}-{lock.build}-py{lock.python.replace('.', '')}"
    entries = re.split(r"\n(?=[a-z])", re.sub(r"(?m)^#.*\n", "", path.read_text()).strip())
    assert len(entries) == len(lock.packages)
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry
    assert {"torch", "numpy", "scipy", "safetensors", "array-api-compat"} <= set(lock.packages)
    assert lock.size > 100e6
    assert re.fullmatch(r"(https://download\.pytorch\.org/whl/\w+)?", lock.index)
    assert ("nvidia-cublas" in lock.packages) == (lock.system == "linux" and lock.build == "cuda")


def test_there_are_locks_for_all_platforms_and_pythons():
    made = {(lock.system, lock.build, lock.python) for lock in map(runtime_locks.read, LOCKS)}
    for python in ("3.11", "3.13"):
        for system, build in (("linux", "cpu"), ("linux", "cuda"), ("macos", "mps"), ("windows", "cpu")):
            assert (system, build, python) in made


def test_this_machine_can_have_the_processor_build():
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        assert list(runtime_locks.available()) == ["cpu", "cuda"]
    assert (
        runtime_locks.find(next(iter(runtime_locks.available()))).python
        == f"{sys.version_info[0]}.{sys.version_info[1]}"
    )


def test_a_build_without_a_lock_is_refused_with_what_there_is(shop):
    refused(bpy.ops.mmdm.runtime_install, "no pinned CUDA", "choose CPU", build="CUDA", package_index=str(shop))


# ---------------------------------------------------------------- installing


def test_one_button_installs_and_the_engine_is_found(shop, monkeypatch):
    """The whole way, with an environment that is really made, while online access is off: a folder needs none."""
    without_torch(monkeypatch)
    seen = []
    real = runtime_install.Installation._say

    def say(self, line):
        seen.append(self.progress)
        real(self, line)

    monkeypatch.setattr(runtime_install.Installation, "_say", say)
    assert install(shop) == {"FINISHED"}
    assert message() == "The engine is installed: torch 1.0, cpu."
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[-1] > 0.9
    assert siblings() == ["runtime"]
    assert runtime.managed()["build"] == "cpu"
    found = runtime.find()
    assert found.source == "managed environment"
    code = "import torch, sys; print(torch.__file__, sys.prefix)"
    done = subprocess.run([found.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count(str(runtime.managed_folder())) == 2  # moved, and still an environment of its own
    log = runtime.installation_log(1000)
    assert log[0].startswith("> ")
    assert any("Successfully installed" in line for line in log)


@pytest.mark.usefixtures("quick")
def test_a_package_that_is_not_the_pinned_one_is_refused_and_a_second_try_starts_clean(shop, tmp_path):
    make_wheels(tmp_path / "tampered", torch='__version__ = "1.0"\nprint("something else")')
    refused(
        bpy.ops.mmdm.runtime_install, "not the one", "nothing was installed", "log",
        build="CPU", package_index=str(tmp_path / "tampered"),
    )  # fmt: skip
    assert siblings() == []
    assert runtime.managed() is None
    assert any("DO NOT MATCH" in line for line in runtime.installation_log(1000))
    assert install(shop) == {"FINISHED"}
    assert runtime.managed()


@pytest.mark.usefixtures("quick")
def test_a_failure_leaves_the_engine_that_was_there(shop, tmp_path):
    install(shop)
    before = runtime.managed()
    (shop / "scipy-1.0-py3-none-any.whl").unlink()
    refused(bpy.ops.mmdm.runtime_install, "does not have all packages", build="CPU", package_index=str(shop))
    assert runtime.managed() == before
    assert siblings() == ["runtime"]


@pytest.mark.usefixtures("quick")
def test_packages_that_do_not_run_here_never_count(tmp_path, shop):
    make_wheels(shop, torch='raise ImportError("this processor is too old")')
    make_lock(tmp_path / "locks", shop)
    refused(bpy.ops.mmdm.runtime_install, "processor is too old", "another build", build="CPU", package_index=str(shop))
    assert siblings() == []


@pytest.mark.usefixtures("quick")
def test_an_installed_engine_is_replaced(shop, tmp_path):
    install(shop)
    (runtime.managed_folder() / "trace").touch()
    make_wheels(shop, torch=PACKAGES["torch"].replace('"1.0"', '"1.0.new"'))
    make_lock(tmp_path / "locks", shop)
    assert install(shop) == {"FINISHED"}
    assert runtime.managed()["versions"]["torch"] == "1.0.new"
    assert not (runtime.managed_folder() / "trace").exists()
    assert siblings() == ["runtime"]


@pytest.mark.usefixtures("quick")
def test_what_a_killed_blender_left_is_cleared_away(shop):
    left = runtime.managed_folder().parent / "runtime.building-left" / "new"
    left.mkdir(parents=True)
    assert install(shop) == {"FINISHED"}
    assert siblings() == ["runtime"]


def test_too_little_space_is_told_before_anything_is_done(shop, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(runtime_install.shutil, "disk_usage", lambda _path: usage._replace(free=10_000_000))
    refused(bpy.ops.mmdm.runtime_install, "0.8 GB", "0.0 GB are free", build="CPU", package_index=str(shop))
    assert siblings() == []


def test_a_folder_that_cannot_be_written_is_told(shop, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(runtime, "managed_folder", lambda: tmp_path / "file" / "runtime")
    refused(bpy.ops.mmdm.runtime_install, "cannot be installed", "writable", build="CPU", package_index=str(shop))


def test_a_package_folder_that_is_not_there_is_told(shop):
    refused(bpy.ops.mmdm.runtime_install, "is no folder", build="CPU", package_index="/no/such/folder")


def test_offline_it_is_refused_in_words(monkeypatch):
    refused(bpy.ops.mmdm.runtime_install, "Online access is off", build="CPU")
    monkeypatch.setattr(commands, "_in_window", lambda: True)
    assert not bpy.ops.mmdm.runtime_install.poll()
    assert "Online access is off" in runtime.offline("")
    assert runtime.offline("/some/folder") == ""
    with pytest.raises(MotionError, match=r"Preferences > System > Network"):
        runtime.begin_installation("cpu", "https://example.invalid/simple")
    assert not runtime.managed_folder().parent.exists()
    bpy.context.preferences.system.use_online_access = True
    assert runtime.offline("") == ""
    assert bpy.ops.mmdm.runtime_install.poll()


@pytest.mark.usefixtures("quick", "shop")
def test_no_network_is_told_in_words(monkeypatch):
    bpy.context.preferences.system.use_online_access = True
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    refused(
        bpy.ops.mmdm.runtime_install, "could not be downloaded", "check the network",
        build="CPU", package_index="http://127.0.0.1:9/simple",
    )  # fmt: skip
    assert siblings() == []


# ---------------------------------------------------------------- in the window: beside the user, and cancelled


class _Stalling(http.server.SimpleHTTPRequestHandler):
    """An index whose files never arrive in full."""

    def do_GET(self):
        if not self.path.endswith(".whl"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"PK")
        self.server.asked.set()
        self.server.over.wait(DEADLINE)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def stalling_index(shop):
    """The address of an index that stalls, and an event that says when it was asked for a file."""
    root = shop.parent / "index"
    for wheel in shop.glob("*.whl"):
        name = wheel.name.split("-")[0].replace("_", "-")
        (root / name).mkdir(parents=True)
        (root / name / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Stalling, directory=str(root)))
    server.daemon_threads = True
    server.asked, server.over = threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server.asked
    server.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def pressed(monkeypatch):
    """A button pressed in the window: presses it, and hands over what the timer would call."""
    looks = []
    monkeypatch.setattr(commands, "_in_window", lambda: True)
    monkeypatch.setattr(commands, "_watch", looks.append)

    def press(cls, **options):
        members = {name: getattr(cls, name) for name in ("execute", "conclude", "_begin") if hasattr(cls, name)}
        reports = []
        members["report"] = lambda _self, kind, text: reports.append((*kind, text))
        operator = type("Operator", (), members | {"build": "CPU", "package_index": ""} | options)()
        outcome = cls.invoke(operator, bpy.context, None)
        return outcome, (looks[-1] if looks else None), reports

    return press


def settle(look):
    """Tick as the timer would; the outcome."""
    end = time.monotonic() + DEADLINE
    while (outcome := look()) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return outcome


def processes_of(folder):
    """Command lines of the living processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in words and str(os.getpid()) != entry.parent.name:
            found.append(words)
    return found


@pytest.mark.usefixtures("quick")
def test_cancelling_a_download_takes_less_than_a_second_and_leaves_nothing(stalling_index, pressed, shop, monkeypatch):
    address, asked = stalling_index
    bpy.context.preferences.system.use_online_access = True
    outcome, look, _ = pressed(commands.MMDM_OT_runtime_install, package_index=address + "/")
    assert outcome == {"FINISHED"}
    assert asked.wait(DEADLINE)
    assert look() is None
    under_way = runtime.installation()
    assert "Downloading" in under_way.text
    far = under_way.progress
    assert 0 < far < 1
    with monkeypatch.context() as moved:  # pip removes a folder at the moment in which it is looked through
        moved.setattr(Path, "glob", lambda *_: os.scandir(under_way._staging / "gone"))
        assert under_way.progress == far
    layout = Layout()
    engine.draw_install(layout)
    assert layout.named("progress")
    assert layout.named("operator") == ["mmdm.runtime_cancel"]
    assert not bpy.ops.mmdm.runtime_install.poll()
    assert not bpy.ops.mmdm.runtime_test.poll()
    assert not bpy.ops.mmdm.runtime_remove.poll()
    assert processes_of(under_way._staging)
    started = time.monotonic()
    assert bpy.ops.mmdm.runtime_cancel() == {"FINISHED"}
    outcome = settle(look)
    assert time.monotonic() - started < 1
    assert outcome == ("CANCELLED", runtime_install.CANCELLED)
    assert runtime.installation() is None
    assert processes_of(under_way._staging) == []
    assert siblings() == []
    assert install(shop) == {"FINISHED"}  # and again, at once


@pytest.mark.usefixtures("quick")
def test_in_the_window_it_ends_with_a_sentence_and_waits_for_a_job(shop, pressed, monkeypatch):
    outcome, look, _ = pressed(commands.MMDM_OT_runtime_install, package_index=str(shop))
    assert outcome == {"FINISHED"}
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_running", object())
        end = time.monotonic() + DEADLINE
        while not runtime.installation().ended:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert look() is None
        assert runtime.managed() is None  # a job may use the engine that would be replaced
    assert settle(look) == ("INFO", "The engine is installed: torch 1.0, cpu.")
    assert runtime.managed()


def test_in_the_window_what_cannot_begin_is_reported(shop, pressed):
    outcome, look, reports = pressed(commands.MMDM_OT_runtime_install, package_index="/no/such/folder")
    assert outcome == {"CANCELLED"}
    assert look is None
    assert reports[0][0] == "ERROR"
    assert "is no folder" in reports[0][1]


@pytest.mark.usefixtures("quick")
def test_disabling_the_extension_stops_an_installation(stalling_index, pressed):
    address, asked = stalling_index
    bpy.context.preferences.system.use_online_access = True
    pressed(commands.MMDM_OT_runtime_install, package_index=address + "/")
    assert asked.wait(DEADLINE)
    runtime.stop_installation()
    assert runtime.installation() is None
    assert siblings() == []


def test_no_installation_begins_while_a_job_runs(monkeypatch):
    bpy.context.preferences.system.use_online_access = True
    assert bpy.ops.mmdm.runtime_install.poll()
    monkeypatch.setattr(jobs, "_running", object())
    assert not bpy.ops.mmdm.runtime_install.poll()


# ---------------------------------------------------------------- several Blenders


def test_a_second_blender_that_installs_is_told_and_may_once_the_first_is_gone(shop, quick):
    code = (
        f"import sys, time; sys.path[:0] = {[str(ROOT), *sys.path]!r}\n"
        "from pathlib import Path\nfrom mmdm_addon import runtime_install\n"
        f"claim = runtime_install._Claim(Path({str(runtime.managed_folder())!r}))\n"
        "print('claimed', flush=True)\ntime.sleep(600)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "claimed\n"
        words = "Another Blender"
        refused(bpy.ops.mmdm.runtime_install, words, "wait", build="CPU", package_index=str(shop))
        runtime.managed_folder().mkdir()
        refused(bpy.ops.mmdm.runtime_remove, words)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    runtime.managed_folder().rmdir()
    assert install(shop) == {"FINISHED"}


def test_two_blenders_have_a_worker_each(tmp_path, standin_engine):
    assert bpy.ops.mmdm.runtime_test() == {"FINISHED"}
    mine = runtime.current()._process.pid
    script = tmp_path / "second.py"
    script.write_text(
        f"import sys, os; sys.path.insert(0, {str(ROOT)!r})\n"
        "import bpy, mmdm_addon\nfrom mmdm_addon import runtime\nmmdm_addon.register()\n"
        f"runtime.worker_command = lambda _: {standin_engine!r}\n"
        "outcome = bpy.ops.mmdm.runtime_test()\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{outcome}} {{runtime.current()._process.pid}}')\n"
        "mmdm_addon.unregister()\nsys.stdout.flush()\nos._exit(0)\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=DEADLINE, capture_output=True)
    outcome, pid = (tmp_path / "pid").read_text().rsplit(" ", 1)
    assert outcome == "{'FINISHED'}"
    assert int(pid) != mine
    assert runtime.current()._process.pid == mine
    assert bpy.ops.mmdm.runtime_test() == {"FINISHED"}


# ---------------------------------------------------------------- removing


def test_removing_deletes_it_and_nothing_else(monkeypatch):
    without_torch(monkeypatch)
    assert not bpy.ops.mmdm.runtime_remove.poll()
    folder = runtime.managed_folder()
    pretend_complete(folder, sys.executable)
    (folder.parent / "runtimes of mine").mkdir()
    assert bpy.ops.mmdm.runtime_remove() == {"FINISHED"}
    assert message() == "The engine was removed."
    assert siblings() == ["runtimes of mine"]
    assert runtime.missing()


def test_an_engine_in_use_that_cannot_be_moved_stays(monkeypatch):
    pretend_complete(runtime.managed_folder(), sys.executable)

    def busy(*_):
        raise PermissionError(13, "in use")

    monkeypatch.setattr(runtime_install.os, "rename", busy)
    refused(bpy.ops.mmdm.runtime_remove, "in use", "close the other Blenders")
    assert runtime.managed()


# ---------------------------------------------------------------- the test button


@pytest.mark.usefixtures("named")
def test_the_test_fills_a_gap_with_the_real_engine_and_says_where_and_how_fast():
    objects = len(bpy.data.objects)
    assert bpy.ops.mmdm.runtime_test() == {"FINISHED"}
    hello = runtime.current().hello
    assert re.search(rf"30 frames filled in \d+\.\d s on {hello['devices'][0]} \(", message())
    assert f"torch {hello['torch']}" in message()
    assert len(bpy.data.objects) == objects
    layout = Layout()
    draw_preferences(layout)
    assert any(text.startswith("Devices: ") for text in layout.named("label"))


@pytest.mark.usefixtures("standin_engine")
def test_in_the_window_the_test_runs_beside_the_user_and_can_be_cancelled(pressed, monkeypatch):
    started = time.monotonic()
    outcome, look, _ = pressed(commands.MMDM_OT_runtime_test)
    assert time.monotonic() - started < 0.5
    assert outcome == {"FINISHED"}
    assert not bpy.ops.mmdm.runtime_test.poll()
    kind, text = settle(look)
    assert kind == "INFO"
    assert "30 frames filled" in text
    method, params, arrays = runtime_probe.request()
    slow = (method, {**params, "label": "slow"}, arrays)
    monkeypatch.setattr(runtime_probe, "request", lambda: slow)
    _, look, _ = pressed(commands.MMDM_OT_runtime_test)
    bpy.ops.mmdm.runtime_cancel()
    started = time.monotonic()
    assert settle(look)[0] == "CANCELLED"
    assert time.monotonic() - started < 1.5
    assert commands.testing() is None


def test_a_python_that_cannot_run_the_engine_fails_the_test_in_words(tmp_path, monkeypatch):
    wrong = tmp_path / "python"
    wrong.write_text("#!/bin/sh\necho 'no engine here' >&2\nexit 3\n")
    wrong.chmod(0o755)
    monkeypatch.setenv("MMDM_PYTHON", str(wrong))
    refused(bpy.ops.mmdm.runtime_test, "did not start", "no engine here", "preferences")
    bpy.ops.mmdm.runtime_log()
    assert "no engine here" in bpy.data.texts[commands.LOG_NAME].as_string()


@pytest.mark.parametrize("fault", ["nan", "kept", "jump", "shape"])
def test_an_answer_that_is_no_motion_fails_the_test(fault):
    motion = runtime_probe.walk()
    arrays = {"rotations": motion.rotations[None].copy(), "root": motion.root[None].copy()}
    runtime_probe.judge(arrays)
    if fault == "nan":
        arrays["root"][0, 40] = float("nan")
    elif fault == "kept":
        arrays["rotations"][0, 3, 5] *= -1
    elif fault == "jump":
        arrays["root"][0, 40] += 3
    else:
        arrays["root"] = arrays["root"][:, 1:]
    with pytest.raises(MotionError, match="again"):
        runtime_probe.judge(arrays)


# ---------------------------------------------------------------- what is drawn


def draw_preferences(layout, **values):
    values = {"python": "", "build": "CPU", "package_index": ""} | values
    page = SimpleNamespace(layout=layout, **values)
    for name in ("_draw_managed", "_draw_state", "_outdated"):
        member = vars(preferences.MMDM_AP_preferences)[name]
        call = member.__func__ if isinstance(member, staticmethod) else functools.partial(member, page)
        setattr(page, name, call)
    preferences.MMDM_AP_preferences.draw(page, bpy.context)


def test_the_preferences_show_what_is_there(shop):
    layout = Layout()
    draw_preferences(layout)
    assert "No engine is installed by this extension" in layout.named("label")
    assert "mmdm.runtime_install" in layout.named("operator")
    assert "mmdm.runtime_remove" not in layout.named("operator")
    assert {"python", "build", "package_index"} <= set(layout.named("prop"))
    pretend_complete(runtime.managed_folder(), sys.executable)
    marker = runtime.managed_folder() / runtime_install.MARKER
    about = json.loads(marker.read_text())
    marker.write_text(json.dumps(about | {"lock": runtime_install.digest(runtime_locks.find("cpu"))}))
    layout = Layout()
    draw_preferences(layout)
    assert "Installed: CPU, Python 3.11, torch 1.0" in layout.named("label")
    assert "mmdm.runtime_remove" in layout.named("operator")
    assert not any("newer packages" in text for text in layout.named("label"))
    marker.write_text(json.dumps(about | {"lock": "an older one"}))
    layout = Layout()
    draw_preferences(layout)
    assert any("newer packages" in text for text in layout.named("label"))


def test_the_preferences_offer_what_this_machine_can_have():
    rna = bpy.types.AddonPreferences.bl_rna_get_subclass_py("MMDM_AP_preferences").bl_rna
    assert [i.identifier for i in rna.properties["build"].enum_items] == [b.upper() for b in runtime_locks.available()]


def test_without_an_engine_the_panel_shows_one_button_and_why(monkeypatch):
    without_torch(monkeypatch)
    paragraphs = []
    monkeypatch.setattr(panels, "paragraph", lambda _layout, text, icon="NONE": paragraphs.append(text))
    layout = Layout()
    panels.MMDM_PT_main.draw(SimpleNamespace(layout=layout), bpy.context)
    assert layout.named("operator") == ["mmdm.runtime_install"]
    assert "not installed yet" in paragraphs[0]
    assert "Online access is off" in paragraphs[1]
    bpy.context.preferences.system.use_online_access = True
    paragraphs.clear()
    panels.MMDM_PT_main.draw(SimpleNamespace(layout=layout), bpy.context)
    assert paragraphs[1:] == [""]


def test_the_log_shows_the_installation():
    log = runtime_install.log_path(runtime.managed_folder())
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("> pip install\nERROR: deliberate\n")
    assert bpy.ops.mmdm.runtime_log() == {"FINISHED"}
    text = bpy.data.texts[commands.LOG_NAME].as_string()
    assert "ERROR: deliberate" in text
