"""The worker's wire format: length-prefixed frames of one JSON header and raw ``.npy`` arrays.

    b"MMDM" | header bytes, u32 | payload bytes, u64 | header, UTF-8 JSON | payload: the arrays' .npy bytes in a row

The header is an object; its key ``arrays`` lists ``[name, bytes]`` in payload order. Big-endian lengths, no pickles.

Client to worker: ``{"id": 7, "method": "fill_gap", "params": {…}}`` with the motion's arrays, or
``{"method": "cancel", "params": {"id": 7}}``.
Worker to client: ``{"event": "hello", "protocol": 1, …}`` once, then per request any number of
``{"id": 7, "event": "progress", "done": 3, "of": 8, "seconds_left": 1.2}`` and one
``{"id": 7, "event": "result", …}`` or ``{"id": 7, "event": "error", "kind": …, "message": …}`` where kind is
``motion`` (the user can fix it), ``cancelled``, ``protocol`` or ``internal``.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from .motion import Motion, Skeleton

VERSION = 1
MAGIC = b"MMDM"
MAX_HEADER = 2**20
MAX_PAYLOAD = 8 * 2**30
_PREFIX = struct.Struct(">4sIQ")
_CHUNK = 2**16


class ProtocolError(ValueError):
    """A frame that cannot be read. The stream stands behind it: the next `Reader.read` may succeed.

    id: the request's id where the header could still be read, else None.
    """

    def __init__(self, message: str, id: object = None) -> None:
        super().__init__(message)
        self.id = id


@dataclass
class Message:
    """One frame: a JSON header without its ``arrays`` entry, and the named arrays."""

    header: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def encode(header: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> list[bytes]:
    """One frame as the pieces to send one after the other."""
    blobs = []
    for name, array in (arrays or {}).items():
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(array), allow_pickle=False)
        blobs.append((name, buffer.getvalue()))
    text = json.dumps({**header, "arrays": [[name, len(blob)] for name, blob in blobs]}).encode()
    prefix = _PREFIX.pack(MAGIC, len(text), sum(len(blob) for _, blob in blobs))
    return [prefix + text, *(blob for _, blob in blobs)]


def write(stream: BinaryIO, header: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> None:
    """Write one frame and flush."""
    send(stream, encode(header, arrays))


def send(stream: BinaryIO, pieces: list[bytes]) -> None:
    """Write an encoded frame and flush."""
    for piece in pieces:
        stream.write(piece)
    stream.flush()


class _StreamEndError(Exception):
    """The other side closed its end."""


class Reader:
    """Frames from a byte stream, finding its feet again after bytes that are no frame.

    A prefix, header or list of arrays that makes no sense costs one `ProtocolError`; whatever follows up to the next
    magic word is skipped in silence, because lengths in a damaged frame cannot be trusted.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._next_bytes = getattr(stream, "read1", stream.read)
        self._buffer = bytearray()
        self._lost = False

    def read(self) -> Message | None:
        """The next frame; None at the end of the stream, also when it ends within a frame.

        Raises `ProtocolError` as soon as the bytes cannot be a frame.
        """
        try:
            if self._lost:
                self._find_magic()
            self._want_magic()
            self._want(_PREFIX.size)
            _, header_size, payload_size = _PREFIX.unpack_from(self._buffer)
            if header_size > MAX_HEADER or payload_size > MAX_PAYLOAD:
                raise self._damaged("The message announces an impossible length.")
            self._want(_PREFIX.size + header_size)
            header, sizes = self._header(bytes(self._buffer[_PREFIX.size : _PREFIX.size + header_size]), payload_size)
            whole = _PREFIX.size + header_size + payload_size
            self._want(whole)
        except _StreamEndError:
            return None
        payload = bytes(self._buffer[whole - payload_size : whole])
        del self._buffer[:whole]
        return Message(header, _arrays(payload, sizes, header.get("id")))

    def _want(self, count: int) -> None:
        while len(self._buffer) < count:
            part = self._next_bytes(_CHUNK)
            if not part:
                raise _StreamEndError
            self._buffer += part

    def _want_magic(self) -> None:
        """Judge the first bytes as they come: a short stray line must not wait for a whole prefix."""
        for count in range(1, len(MAGIC) + 1):
            self._want(count)
            if not MAGIC.startswith(bytes(self._buffer[:count])):
                raise self._damaged("The message does not begin like a frame of this protocol.", skip=0)

    def _header(self, text: bytes, payload_size: int) -> tuple[dict[str, Any], list[tuple[str, int]]]:
        try:
            header = json.loads(text)
            sizes = [(str(name), int(size)) for name, size in header.pop("arrays", [])]
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(f"The header of the message cannot be decoded ({error}).") from error
        if any(size < 0 for _, size in sizes) or sum(size for _, size in sizes) != payload_size:
            raise self._damaged("The arrays of the message do not add up to its length.", header.get("id"))
        return header, sizes

    def _damaged(self, message: str, id: object = None, skip: int = 1) -> ProtocolError:
        del self._buffer[:skip]
        self._lost = True
        return ProtocolError(message, id)

    def _find_magic(self) -> None:
        while (at := self._buffer.find(MAGIC)) < 0:
            del self._buffer[: max(0, len(self._buffer) - len(MAGIC) + 1)]  # a magic word may be cut at the end
            self._want(len(self._buffer) + 1)
        del self._buffer[:at]
        self._lost = False


def _arrays(payload: bytes, sizes: list[tuple[str, int]], id: object) -> dict[str, np.ndarray]:
    arrays, at = {}, 0
    for name, size in sizes:
        try:
            arrays[name] = np.lib.format.read_array(io.BytesIO(payload[at : at + size]), allow_pickle=False)
        except Exception as error:  # NumPy's parser fails in many ways on foreign bytes; all mean the same here
            raise ProtocolError(f"The array {name} of the message cannot be decoded ({error}).", id) from error
        at += size
    return arrays


def motion_arrays(motion: Motion) -> dict[str, np.ndarray]:
    """A motion as the arrays of a frame (its ``fps`` travels in the params)."""
    return {
        "rotations": motion.rotations,
        "root": motion.root,
        "offsets": motion.skeleton.offsets,
        "exists": motion.skeleton.exists,
    }


def motion_from(arrays: dict[str, np.ndarray], fps: float) -> Motion:
    """The inverse of `motion_arrays`."""
    return Motion(arrays["rotations"], arrays["root"], Skeleton(arrays["offsets"], arrays["exists"]), fps)
