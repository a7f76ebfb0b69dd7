"""The add-on's end of the worker: answers, cancel, death and restart, no zombies. Needs no Blender."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np
import pytest
from worker_support import standin_command, worker_python

from mmdm_addon.engine_client import CallCancelledError, EngineClient, WorkerError
from mmdm_addon.engine_link import Motion, MotionError, Skeleton, protocol

DEADLINE = 60


@pytest.fixture(scope="module")
def shared():
    client = EngineClient(standin_command())
    yield client
    client.close()
    assert not client.running


@pytest.fixture
def client():
    client = EngineClient(standin_command())
    yield client
    client.close()


def motion(frames=20):
    rotations = np.zeros((frames, 22, 4), np.float32)
    rotations[..., 0] = 1
    return Motion(rotations, np.zeros((frames, 3)), Skeleton(np.full((22, 3), 0.1)), 30)


def fill(client, label=""):
    m = motion()
    return client.submit("fill_gap", {"fps": m.fps, "start": 5, "stop": 9, "label": label}, protocol.motion_arrays(m))


def until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_a_request_starts_the_worker_and_is_answered(shared):
    call = fill(shared)
    call.wait()
    header, arrays = call.result()
    assert header["event"] == "result"
    assert arrays["rotations"].shape == (1, 20, 22, 4)
    assert call.fraction == 1.0
    assert shared.hello["protocol"] == protocol.VERSION


def test_submit_and_poll_never_wait(client):
    started = time.monotonic()
    call = fill(client)
    call.poll()
    assert time.monotonic() - started < 0.5  # while the process still imports
    call.wait()
    assert call.error is None


def test_errors_of_the_engine_are_sentences(shared):
    call = fill(shared, "corrupt")
    call.wait()
    with pytest.raises(MotionError, match="damaged; install"):
        call.result()


def test_cancel_keeps_the_worker(shared):
    shared.submit("ping").wait()
    pid = shared._process.pid
    call = fill(shared, "slow")
    until(lambda: call.poll() or call.done > 1)
    assert call.seconds_left > 0
    call.cancel()
    assert call.cancelling
    started = time.monotonic()
    call.wait()
    assert time.monotonic() - started < 1
    with pytest.raises(CallCancelledError):
        call.result()
    again = fill(shared)
    again.wait()
    assert again.error is None
    assert shared._process.pid == pid


def test_a_worker_that_ignores_cancel_is_killed_within_a_second_and_replaced(client):
    client.submit("ping").wait()
    pid = client._process.pid
    call = fill(client, "hang")
    until(lambda: call.poll() or call.of)
    call.cancel()
    started = time.monotonic()
    call.wait()
    assert 0.9 < time.monotonic() - started < 2
    assert isinstance(call.error, CallCancelledError)
    assert_gone(pid)
    again = fill(client)
    again.wait()
    assert again.error is None


def assert_gone(pid):
    with pytest.raises(ProcessLookupError):  # a zombie would still have the number
        os.kill(pid, 0)


def test_a_death_is_told_with_the_last_log_lines_and_the_next_request_restarts(client):
    client.submit("ping").wait()
    pid = client._process.pid
    call = fill(client, "die")
    call.wait()
    assert isinstance(call.error, WorkerError)
    assert "run again" in str(call.error)
    assert "standin: dying now" in str(call.error)
    assert "Traceback" not in str(call.error)
    assert_gone(pid)
    again = fill(client)
    again.wait()
    assert again.error is None
    assert client._process.pid != pid


def test_a_death_between_requests_goes_unnoticed_by_the_user(client):
    client.submit("ping").wait()
    os.kill(client._process.pid, signal.SIGKILL)
    until(lambda: not client.running)
    call = fill(client)
    call.wait()
    assert call.error is None


def test_every_call_ends_when_the_worker_dies(client):
    calls = [fill(client, "slow"), fill(client), client.submit("refine", {})]
    until(lambda: calls[0].poll() or calls[0].done)
    os.kill(client._process.pid, signal.SIGKILL)
    for call in calls:
        call.wait()
        assert isinstance(call.error, WorkerError)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/no/such/python"], "could not be started with /no/such/python"),
        ([sys.executable, "-c", "import sys; sys.exit('no numpy here')"], "no numpy here"),
    ],
)
def test_a_python_that_cannot_run_it_is_named_with_the_way_out(command, words):
    client = EngineClient(command)

    def ask():
        call = client.submit("ping")
        call.wait()
        call.result()

    with pytest.raises(WorkerError, match="preferences") as caught:
        ask()
    assert words in str(caught.value)
    client.close()


def test_a_python_without_torch_is_told_in_words(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from mmdm_engine import worker; sys.exit(worker.main([]))"
    )
    client = EngineClient([worker_python(), "-c", code])
    call = client.submit("ping")
    call.wait()
    assert "no torch here" in str(call.error)
    assert "preferences" in str(call.error)
    assert client.failure
    client.close()


def test_an_older_protocol_is_refused():
    code = (
        "import sys; from mmdm_engine.contract import protocol; "
        "protocol.write(sys.stdout.buffer, {'event': 'hello', 'protocol': 0}); sys.stdin.read()"
    )
    client = EngineClient([worker_python(), "-c", code])
    call = client.submit("ping")
    call.wait()
    assert "install the extension again" in str(call.error)
    client.close()


def test_stop_ends_a_busy_worker_and_its_calls(client):
    call = fill(client, "hang")
    until(lambda: call.poll() or client.hello)
    pid = client._process.pid
    client.stop()
    assert_gone(pid)
    assert isinstance(call.error, CallCancelledError)
    assert call.poll()


def test_leaving_python_leaves_no_worker(tmp_path):
    """atexit: a script that ends in the middle of a request takes the worker with it."""
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path[:0] = {[str(p) for p in sys.path]!r}\n"
        "from mmdm_addon.engine_client import EngineClient\n"
        f"client = EngineClient({standin_command()!r})\n"
        "client.submit('ping').wait()\n"
        "client.submit('fill_gap', {})\n"
        "print(client._process.pid, flush=True)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert_gone(int(done.stdout))
