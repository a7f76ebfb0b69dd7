"""The worker as a real process: greeting, answers, cancel, damage, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mmdm_engine.contract import Motion, Skeleton, protocol

pytest.importorskip("torch", reason="the worker needs torch")
ROOT = Path(__file__).resolve().parents[2]
STANDIN = [sys.executable, str(ROOT / "tests" / "standin_worker.py")]


class Process:
    """A worker seen from the raw protocol."""

    def __init__(self, command):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.reader = protocol.Reader(self.process.stdout)
        self.watchdog = threading.Timer(60, self.process.kill)  # a silent worker fails the test instead of hanging it
        self.watchdog.start()

    def send(self, method, id=None, arrays=None, **params):
        protocol.write(self.process.stdin, {"id": id, "method": method, "params": params}, arrays)

    def raw(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def until(self, *events):
        """The next message whose event is one of these; what comes before is kept in ``passed``."""
        self.passed = []
        while (message := self.reader.read()) is not None:
            if message.header["event"] in events:
                return message
            self.passed.append(message)
        raise AssertionError(f"the worker ended before {events}: {self.process.stderr.read().decode()}")

    def close(self):
        self.process.stdin.close()
        try:
            return self.process.wait(10)
        finally:
            self.watchdog.cancel()
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process.stderr.close()


def greeted():
    process = Process(STANDIN)
    process.hello = process.until("hello").header
    return process


@pytest.fixture(scope="module")
def worker():
    """One for all tests that must leave it alive: what one does to it, the next would notice."""
    process = greeted()
    yield process
    assert process.close() == 0


@pytest.fixture
def mortal():
    """One that the test may end."""
    process = greeted()
    yield process
    process.close()


def motion(frames=20):
    rotations = np.zeros((frames, 22, 4), np.float32)
    angle = np.linspace(0, 1, frames)[:, None]
    rotations[..., 0], rotations[..., 1] = np.cos(angle), np.sin(angle)
    root = np.stack([np.linspace(0, 2, frames), np.ones(frames), np.zeros(frames)], axis=-1)
    return Motion(rotations, root, Skeleton(np.full((22, 3), 0.1)), 30)


def ask_fill(worker, id=1, label="", m=None, start=5, stop=12):
    m = m or motion()
    worker.send("fill_gap", id, protocol.motion_arrays(m), fps=m.fps, start=start, stop=stop, label=label)


def test_hello_tells_protocol_devices_priors_and_methods(worker):
    hello = worker.hello
    assert hello["protocol"] == protocol.VERSION
    assert hello["devices"][-1] == "cpu"
    assert len(hello["devices"]) == len(hello["device_names"])
    assert {"fill_gap", "refine"} <= set(hello["methods"])
    assert isinstance(hello["priors"], list)
    assert hello["threads"] == 1


def test_the_real_entry_greets_and_ends_with_its_input():
    process = Process([sys.executable, "-m", "mmdm_engine.worker"])
    hello = process.until("hello").header
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= hello["threads"] <= cores
    assert process.close() == 0


def test_a_gap_is_filled_with_progress_in_between(worker):
    ask_fill(worker, id=7)
    result = worker.until("result", "error")
    assert result.header["event"] == "result"
    assert result.header["id"] == 7
    assert result.arrays["rotations"].shape == (1, 20, 22, 4)
    np.testing.assert_allclose(result.arrays["rotations"][0], motion().rotations, atol=1e-3)
    steps = [m.header for m in worker.passed]
    assert steps
    assert all(s["event"] == "progress" and s["id"] == 7 and 0 <= s["done"] <= s["of"] for s in steps)
    assert steps[-1]["seconds_left"] == 0


def test_refine_and_ping(worker):
    m = motion()
    worker.send("ping", "hello there")
    assert worker.until("result").header["id"] == "hello there"
    worker.send("refine", 2, protocol.motion_arrays(m), fps=30, start=4, stop=9, strength=1.0)
    arrays = worker.until("result").arrays
    assert arrays["rotations"][:4].tobytes() == m.rotations[:4].tobytes()
    assert arrays["rotations"].shape == m.rotations.shape


def test_cancel_is_heard_while_computing_and_the_worker_lives_on(worker):
    ask_fill(worker, 1, "slow")
    worker.until("progress")
    started = time.monotonic()
    worker.send("cancel", params_id=0, id=None)
    protocol.write(worker.process.stdin, {"method": "cancel", "params": {"id": 1}})
    error = worker.until("result", "error").header
    assert (error["kind"], error["id"]) == ("cancelled", 1)
    assert time.monotonic() - started < 1
    ask_fill(worker, 2)
    assert worker.until("result", "error").header["event"] == "result"


def test_a_request_cancelled_before_its_turn_is_not_computed(worker):
    ask_fill(worker, 1, "slow")
    ask_fill(worker, 2, "slow")
    protocol.write(worker.process.stdin, {"method": "cancel", "params": {"id": 2}})
    protocol.write(worker.process.stdin, {"method": "cancel", "params": {"id": 1}})
    started = time.monotonic()
    assert worker.until("error").header["kind"] == "cancelled"
    assert worker.until("error").header["kind"] == "cancelled"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("label", "kind", "words"),
    [("raise", "internal", "deliberate"), ("corrupt", "motion", "damaged")],
)
def test_failures_are_answers(worker, label, kind, words):
    ask_fill(worker, 1, label)
    error = worker.until("result", "error").header
    assert error["kind"] == kind
    assert words in error["message"]
    assert "Traceback" not in error["message"]
    ask_fill(worker, 2)
    assert worker.until("result", "error").header["event"] == "result"


def test_stray_output_does_not_reach_the_protocol(mortal):
    ask_fill(mortal, 1, "noise")
    assert mortal.until("result", "error").header["event"] == "result"
    mortal.process.stdin.close()
    log = mortal.process.stderr.read().decode()
    assert "a stray line on stdout" in log
    assert "a stray line on the descriptor" in log
    assert mortal.process.wait(10) == 0


@pytest.mark.parametrize("damage", [b"hello\n", b"MMDM" + b"\xff" * 40, b"\x00" * 5000])
def test_a_malformed_frame_gets_an_error_never_an_exit(worker, damage):
    worker.raw(damage)
    assert worker.until("error").header["kind"] == "protocol"
    ask_fill(worker, 5)
    assert worker.until("result", "error").header["event"] == "result"


@pytest.mark.parametrize(
    "header",
    [
        {"id": 1, "method": "no_such"},
        {"id": 1},
        {"id": 1, "method": ["fill_gap"]},
        {"id": 1, "method": "fill_gap"},
        {"id": 1, "method": "fill_gap", "params": {"fps": 30, "start": "x", "stop": 3}},
        {"id": 1, "method": "fill_gap", "params": 5},
        {"id": {"a": 1}, "method": "ping"},
        {"method": "cancel", "params": {"id": [1]}},
    ],
)
def test_senseless_requests_do_not_end_it(worker, header):
    protocol.write(worker.process.stdin, header)
    if header.get("method") != "cancel":
        assert worker.until("error").header["kind"] == "protocol"
    worker.send("ping", 9)
    assert worker.until("result").header["id"] == 9


def test_a_motion_with_nan_outside_the_gap_is_the_users_to_mend(worker):
    m = motion()
    rotations = m.rotations.copy()
    rotations[2, 3] = np.nan
    ask_fill(worker, 1, m=m.with_frames(rotations, m.root))
    error = worker.until("result", "error").header
    assert error["kind"] == "motion"
    assert "frame 2" in error["message"]


@pytest.mark.parametrize("how", ["end of input", "shutdown"])
def test_it_ends_even_in_the_middle_of_a_computation(mortal, how):
    ask_fill(mortal, 1, "slow")
    mortal.until("progress")
    if how == "shutdown":
        mortal.send("shutdown")
    else:
        mortal.process.stdin.close()
    assert mortal.process.wait(3) == 0


def test_a_computation_that_hangs_does_not_outlive_the_client(mortal):
    ask_fill(mortal, 1, "hang")
    mortal.process.stdin.close()
    assert mortal.process.wait(5) == 0


def test_a_python_without_torch_says_so(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    process = Process([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
                       "from mmdm_engine import worker; sys.exit(worker.main([]))"])  # fmt: skip
    error = process.until("error").header
    assert error["kind"] == "runtime"
    assert "no torch here" in error["message"]
    assert process.process.wait(10) == 3
    process.close()
