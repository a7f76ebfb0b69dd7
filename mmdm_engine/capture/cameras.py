"""Calibrated cameras: where a point of the world is seen, and along which ray a pixel looks.

`load` reads four forms: plain JSON, a folder with OpenCV's ``intri.yml`` and ``extri.yml`` as EasyMocap writes them,
one OpenCV ``.yml`` of both, and Pose2Sim's ``.toml``. Everywhere x_camera = R X + t in metres, pixels from the top left
corner. The world is turned so that Y is up, which is the engine's convention.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ..contract import MotionError

Up = Literal["auto", "x", "y", "z", "-x", "-y", "-z"]
_ROUNDS = 20
"""Fixed-point rounds of undistortion; lenses of up to ±0.4 converge to 1e-7 within them."""

_NEAREST, _FARTHEST = 0.1, 200.0
"""Metres between which cameras that watch people stand apart."""


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera.

    name: that of its detections. matrix: (3, 3) pixels. rotation: (3, 3) and translation: (3,) metres, from world to
    camera. distortion: OpenCV's k1 k2 p1 p2 k3 k4 k5 k6, (8,). size: width and height in pixels, or None.
    """

    name: str
    matrix: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    distortion: np.ndarray
    size: tuple[int, int] | None = None

    @property
    def centre(self) -> np.ndarray:
        """(3,) where it stands, metres."""
        return -self.rotation.T @ self.translation

    @property
    def focal(self) -> float:
        """Pixels; the mean of both axes."""
        return float((self.matrix[0, 0] + self.matrix[1, 1]) / 2)

    def see(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (…, 3) → their place on the plane z = 1 before the lens (…, 2), and their depth (…)."""
        inside = points @ self.rotation.T + self.translation
        depth = inside[..., 2]
        return inside[..., :2] / np.where(np.abs(depth) > 1e-9, depth, 1e-9)[..., None], depth

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (…, 3) → pixels (…, 2) through the lens."""
        plane = self.see(points)[0]
        return _distort(plane, self.distortion) @ self.matrix[:2, :2].T + self.matrix[:2, 2]

    def undistort(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (…, 2) → the plane z = 1 without the lens (…, 2)."""
        bent = (pixels - self.matrix[:2, 2]) @ np.linalg.inv(self.matrix[:2, :2]).T
        if not self.distortion.any():
            return bent
        plane = bent
        for _ in range(_ROUNDS):
            plane = plane + bent - _distort(plane, self.distortion)
        return plane

    def rays(self, plane: np.ndarray) -> np.ndarray:
        """Places on the plane z = 1 (…, 2) → unit directions in the world (…, 3)."""
        ahead = np.concatenate([plane, np.ones_like(plane[..., :1])], axis=-1) @ self.rotation
        return ahead / np.linalg.norm(ahead, axis=-1, keepdims=True)


def _distort(plane: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Brown's lens with OpenCV's rational radial part, on the plane z = 1."""
    if not k.any():
        return plane
    x, y = plane[..., 0], plane[..., 1]
    r2 = x * x + y * y
    radial = (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / (1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7])))
    return np.stack(
        [
            x * radial + 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x),
            y * radial + k[2] * (r2 + 2 * y * y) + 2 * k[3] * x * y,
        ],
        axis=-1,
    )


def load(path: str | Path, *, scale: float = 1.0, up: Up = "auto") -> tuple[Camera, ...]:
    """The cameras of a calibration file or folder, in a world of metres with Y up.

    scale: metres per unit of the calibration. up: the calibration's vertical axis; "auto" takes the axis that lies
    nearest to the cameras' own way up. Raises `MotionError` where the file cannot be used.
    """
    path = Path(path)
    if not (np.isfinite(scale) and scale > 0):
        raise MotionError(f"The scale must be a positive number of metres per unit, not {scale}.")
    if not path.exists():
        raise MotionError(f"There is no calibration at {path}; check the path.")
    try:
        if path.is_dir():
            cameras = _from_opencv(_text(path / "intri.yml") + _text(path / "extri.yml"), path)
        elif path.suffix.lower() in (".yml", ".yaml"):
            partner = {"intri": "extri", "extri": "intri"}.get(path.stem)
            more = _text(path.with_stem(partner)) if partner else ""
            cameras = _from_opencv(_text(path) + more, path)
        elif path.suffix.lower() == ".toml":
            cameras = _from_pose2sim(tomllib.loads(_text(path)), path)
        else:
            cameras = _from_json(json.loads(_text(path)), path)
    except MotionError:  # which is a ValueError, and has said it all
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MotionError(
            f"{path} is not a calibration that can be read ({type(error).__name__}: {error}); "
            "give JSON, OpenCV yml or Pose2Sim toml."
        ) from error
    if len(cameras) < 2:
        raise MotionError(f"{path} holds {len(cameras)} cameras; at least two are needed to find depth.")
    cameras = [replace(c, translation=c.translation * scale) for c in cameras]
    apart = float(np.ptp([c.centre for c in cameras], axis=0).max())
    if not _NEAREST < apart < _FARTHEST:
        raise MotionError(
            f"The cameras of {path} stand {apart:.{0 if apart > 1 else 4}f} m apart; give its unit as the scale, 0.001 "
            "for millimetres."
        )
    return upright(cameras, up)


def upright(cameras: Sequence[Camera], up: Up = "auto") -> tuple[Camera, ...]:
    """The same cameras in a world that is turned so that its ``up`` axis becomes Y; see `load`."""
    if up not in get_args(Up):
        raise MotionError(f"The vertical axis must be one of {', '.join(get_args(Up))}, not {up!r}.")
    if up == "auto":
        skyward = -np.sum([c.rotation[1] for c in cameras], axis=0)
        axis, sign = int(np.argmax(np.abs(skyward))), float(np.sign(skyward[np.argmax(np.abs(skyward))]))
    else:
        axis, sign = "xyz".index(up[-1]), -1.0 if up[0] == "-" else 1.0
    turn = _to_y(axis, sign)
    return tuple(replace(c, rotation=c.rotation @ turn.T) for c in cameras)


def _to_y(axis: int, sign: float) -> np.ndarray:
    """(3, 3) the rotation that brings a signed axis to +Y: a quarter turn, a half turn about X, or none."""
    turn = np.eye(3)
    if axis == 1:
        return turn if sign > 0 else np.diag([1.0, -1.0, -1.0])
    turn[[1, axis]] = turn[[axis, 1]]
    turn[1] *= sign
    turn[axis] *= -sign
    return turn


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MotionError(f"The calibration needs {path}, which is missing; put it there.") from None


def _camera(
    name: str, matrix: object, rotation: object, translation: object, distortion: object, size: object, path: Path
) -> Camera:
    """A camera of what a file says, after checking it. rotation: a matrix or a rotation vector."""

    def numbers(value: object, what: str) -> np.ndarray:
        array = np.asarray(value, np.float64)
        if not np.isfinite(array).all():
            raise MotionError(f"The {what} of camera {name} in {path} holds NaN or infinite numbers; calibrate again.")
        return array

    k, r = numbers(matrix, "matrix"), numbers(rotation, "rotation")
    t, d = numbers(translation, "translation").reshape(-1), numbers(distortion, "distortion").reshape(-1)
    if r.size == 3:
        from scipy.spatial.transform import Rotation

        r = Rotation.from_rotvec(r.reshape(3)).as_matrix()
    if k.shape != (3, 3) or r.shape != (3, 3) or t.shape != (3,) or len(d) > 8:
        raise MotionError(
            f"Camera {name} in {path} needs a 3 x 3 matrix, a rotation, three numbers of translation and up to eight "
            "of distortion; export the calibration again."
        )
    if np.linalg.det(r) < 0 or np.abs(r @ r.T - np.eye(3)).max() > 1e-3:
        raise MotionError(f"The rotation of camera {name} in {path} is not a rotation; calibrate again.")
    if not (k[0, 0] > 0 and k[1, 1] > 0):
        raise MotionError(f"The focal length of camera {name} in {path} is not positive; calibrate again.")
    u, _, vt = np.linalg.svd(r)  # printed digits leave it a little off
    width_height = None if size is None else (int(size[0]), int(size[1]))  # type: ignore[index]
    if width_height is not None and min(width_height) <= 0:
        raise MotionError(f"The image size of camera {name} in {path} is not positive; correct it or leave it out.")
    return Camera(name, k, u @ vt, t, np.pad(d, (0, 8 - len(d))), width_height)


def _from_json(values: Mapping[str, object], path: Path) -> list[Camera]:
    """``{"cameras": {name: {"K", "R", "t", "distortion", "image_size"}}}``."""
    cameras = values["cameras"]
    if not isinstance(cameras, Mapping):
        raise TypeError("cameras must be an object")
    return [
        _camera(name, c["K"], c["R"], c["t"], c.get("distortion", ()), c.get("image_size"), path)
        for name, c in cameras.items()
    ]  # fmt: skip


def _from_pose2sim(values: Mapping[str, object], path: Path) -> list[Camera]:
    """One table a camera, with size, matrix, distortions and a rotation vector; ``metadata`` is none."""
    cameras = []
    for key, c in values.items():
        if not isinstance(c, Mapping) or "matrix" not in c:
            continue
        if c.get("fisheye"):
            raise MotionError(f"Camera {key} in {path} has a fisheye lens; undistort its images before detection.")
        name = str(c.get("name", key))
        lens, size = c.get("distortions", ()), c.get("size")
        cameras.append(_camera(name, c["matrix"], c["rotation"], c["translation"], lens, size, path))
    return cameras


_MATRIX = re.compile(
    r"^(\w+):\s*!!opencv-matrix\s+rows:\s*(\d+)\s+cols:\s*(\d+)\s+dt:\s*\w+\s+data:\s*\[(.*?)\]", re.M | re.S
)
_SCALAR = re.compile(r"^(\w+):\s*([-+.\deE]+)\s*$", re.M)


def _from_opencv(text: str, path: Path) -> list[Camera]:
    """K_name, dist_name, Rot_name (or R_name, a rotation vector), T_name and perhaps H_name, W_name."""
    found = {
        name: np.array([float(x) for x in data.replace("\n", " ").split(",")]).reshape(int(rows), int(columns))
        for name, rows, columns, data in _MATRIX.findall(text)
    }
    scalars = {name: float(value) for name, value in _SCALAR.findall(text)}
    names = [key[2:] for key in found if key.startswith("K_")]
    cameras = []
    for name in names:
        rotation = found.get(f"Rot_{name}", found.get(f"R_{name}"))
        if rotation is None or f"T_{name}" not in found:
            raise MotionError(f"{path} says nothing of where camera {name} stands; give extri.yml beside intri.yml.")
        size = (scalars[f"W_{name}"], scalars[f"H_{name}"]) if {f"W_{name}", f"H_{name}"} <= scalars.keys() else None
        cameras.append(
            _camera(name, found[f"K_{name}"], rotation, found[f"T_{name}"], found.get(f"dist_{name}", ()), size, path)
        )
    return cameras
