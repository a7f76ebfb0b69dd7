"""The wire format: round trips, damage and resynchronisation."""

from __future__ import annotations

import io
import os
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdm_engine.contract import Motion, Skeleton, protocol

GOOD = {"id": 3, "method": "ping", "params": {"text": "grüß dich"}}


def frame(header=GOOD, arrays=None) -> bytes:
    stream = io.BytesIO()
    protocol.write(stream, header, arrays)
    return stream.getvalue()


def reader(data: bytes) -> protocol.Reader:
    return protocol.Reader(io.BytesIO(data))


def test_frames_come_back_in_order_with_their_arrays():
    arrays = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4),
        "empty": np.zeros((0, 22), bool),
        "scalar": np.array(2),
    }
    r = reader(frame(GOOD, arrays) + frame({"event": "x"}))
    first, second = r.read(), r.read()
    assert first.header == GOOD
    assert list(first.arrays) == list(arrays)
    for name, array in arrays.items():
        assert first.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(first.arrays[name], array)
    assert second.header == {"event": "x"}
    assert second.arrays == {}
    assert r.read() is None


def test_a_motion_survives_with_nan_and_the_sign_of_zero():
    rotations = np.zeros((5, 22, 4), np.float32)
    rotations[..., 0] = 1
    rotations[2] = np.nan
    rotations[3, :, 1] = -0.0
    motion = Motion(rotations, np.ones((5, 3)), Skeleton(np.ones((22, 3)), np.arange(22) != 4), 29.97)
    message = reader(frame({"fps": motion.fps}, protocol.motion_arrays(motion))).read()
    back = protocol.motion_from(message.arrays, message.header["fps"])
    assert back.rotations.tobytes() == motion.rotations.tobytes()
    assert back.root.tobytes() == motion.root.tobytes()
    assert back.skeleton.exists.tolist() == motion.skeleton.exists.tolist()
    assert back.fps == 29.97


@pytest.mark.parametrize(
    "damage",
    [
        b"hello\n",
        b"M",
        b"MMD",
        b"MMDx" * 3,
        b"\x00" * 1000,
        protocol.MAGIC + b"\xff" * 12,
        struct.pack(">4sIQ", b"MMDM", 4, 0) + b"{no}",
        struct.pack(">4sIQ", b"MMDM", 2, 0) + b"[]",
        struct.pack(">4sIQ", b"MMDM", 2, 5_000_000_000) + b"{}",
        struct.pack(">4sIQ", b"MMDM", 20, 2) + b'{"arrays":[["a",9]]}' + b"zz",
    ],
)
def test_damage_costs_one_error_and_the_next_frame_is_read(damage):
    r = reader(frame() + damage + frame({"id": 4}))
    assert r.read().header == GOOD
    with pytest.raises(protocol.ProtocolError):
        r.read()
    assert r.read().header == {"id": 4}
    assert r.read() is None


def test_a_pickled_array_is_refused_and_the_request_is_named():
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], object), allow_pickle=True)
    blob = stream.getvalue()
    text = b'{"id": 8, "arrays": [["bad", %d]]}' % len(blob)
    r = reader(struct.pack(">4sIQ", b"MMDM", len(text), len(blob)) + text + blob + frame({"id": 9}))
    with pytest.raises(protocol.ProtocolError, match="bad") as caught:
        r.read()
    assert caught.value.id == 8
    assert r.read().header == {"id": 9}


def test_a_frame_cut_short_is_the_end_of_the_stream():
    whole = frame(GOOD, {"a": np.ones(100)})
    for cut in (1, 10, 40, len(whole) - 1):
        assert reader(whole[:cut]).read() is None


def test_a_stray_line_is_reported_before_anything_follows():
    """A client that sends text and then waits must get its answer, so the reader may not wait for a whole prefix."""
    read_end, write_end = os.pipe()
    errors = []

    def listen():
        try:
            protocol.Reader(os.fdopen(read_end, "rb")).read()
        except protocol.ProtocolError as error:
            errors.append(error)

    listener = threading.Thread(target=listen)
    listener.start()
    os.write(write_end, b"hi\n")
    listener.join(5)
    alive = listener.is_alive()
    os.close(write_end)
    listener.join(5)
    assert not alive
    assert len(errors) == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.just(None), st.binary(min_size=1, max_size=80)), max_size=8), st.integers(1, 50))
def test_any_bytes_between_frames_lose_no_frame(parts, chunk):
    parts = [None if p is None or protocol.MAGIC in p or p[0:1] == b"M" or p[-3:].find(b"M") >= 0 else p for p in parts]
    data = b"".join(frame() if p is None else p for p in parts)

    class Slow(io.BytesIO):
        def read1(self, size=-1):
            return super().read1(min(size, chunk))

    r, frames, errors = protocol.Reader(Slow(data)), 0, 0
    while True:
        try:
            message = r.read()
        except protocol.ProtocolError:
            errors += 1
            continue
        if message is None:
            break
        assert message.header == GOOD
        frames += 1
    assert frames == sum(p is None for p in parts)
    runs = sum(p is not None and (i == 0 or parts[i - 1] is None) for i, p in enumerate(parts))
    assert errors == runs
