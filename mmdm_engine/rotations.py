"""Rotations as unit quaternions (w, x, y, z), batched, for NumPy and torch alike.

Conventions, once: active rotations, right-handed, ``multiply(a, b)`` applies b first. 6D is the first two columns of
the matrix, one after the other (Zhou et al. 2019). Rotation vectors are axis times angle in radians. Every function
maps (..., k) arrays, never changes its input, and has finite gradients everywhere, the identity included.
"""

from __future__ import annotations

from typing import Any

from .arrays import constant, index, namespace

Array = Any

IDENTITY = (1.0, 0.0, 0.0, 0.0)


def _split(q: Array) -> tuple[Array, Array, Array, Array]:
    return q[..., 0], q[..., 1], q[..., 2], q[..., 3]


def norm(v: Array, floor: float = 1e-12) -> Array:
    """(..., k) → (..., 1) length, never below ``floor`` so that its gradient is finite at zero."""
    xp = namespace(v)
    square = xp.sum(v * v, axis=-1, keepdims=True)
    return xp.sqrt(xp.where(square > floor * floor, square, xp.full_like(square, floor * floor)))


def normalize(v: Array) -> Array:
    """(..., k) scaled to length one."""
    return v / norm(v)


def multiply(a: Array, b: Array) -> Array:
    """Hamilton product: the rotation that applies b, then a. (..., 4), (..., 4) → (..., 4)."""
    xp = namespace(a, b)
    aw, ax, ay, az = _split(a)
    bw, bx, by, bz = _split(b)
    return xp.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(q: Array) -> Array:
    """The inverse of a unit quaternion."""
    xp = namespace(q)
    return q * constant(xp, (1.0, -1.0, -1.0, -1.0), q)


def cross(a: Array, b: Array) -> Array:
    """Cross product over the last axis, with broadcasting. (..., 3), (..., 3) → (..., 3)."""
    xp = namespace(a, b)
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return xp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def rotate(q: Array, v: Array) -> Array:
    """Turn vectors: (..., 4), (..., 3) → (..., 3)."""
    xyz, w = q[..., 1:], q[..., :1]
    twice = 2.0 * cross(xyz, v)
    return v + w * twice + cross(xyz, twice)


def to_matrix(q: Array) -> Array:
    """(..., 4) → (..., 3, 3)."""
    xp = namespace(q)
    w, x, y, z = _split(q)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)


def from_matrix(m: Array) -> Array:
    """(..., 3, 3) → (..., 4) with w ≥ 0, by the best-conditioned of the four textbook forms (Shepperd 1978)."""
    xp = namespace(m)
    a, b, c = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # differences carry w times an axis component, sums two axis components
    dx, dy, dz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    rows = [
        [1 + a + b + c, dx, dy, dz],
        [dx, 1 + a - b - c, xy, xz],
        [dy, xy, 1 - a + b - c, yz],
        [dz, xz, yz, 1 - a - b + c],
    ]
    best = xp.argmax(xp.stack([rows[i][i] for i in range(4)], axis=-1), axis=-1)
    chosen = rows[0]
    for i in range(1, 4):
        chosen = [xp.where(best == i, own, other) for own, other in zip(rows[i], chosen, strict=True)]
    q = normalize(xp.stack(chosen, axis=-1))
    return xp.where(q[..., :1] < 0, -q, q)


def to_6d(q: Array) -> Array:
    """(..., 4) → (..., 6): first column of the matrix, then the second."""
    xp = namespace(q)
    w, x, y, z = _split(q)
    return xp.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y),
            2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x),
        ],
        axis=-1,
    )  # fmt: skip


def from_6d(d: Array) -> Array:
    """(..., 6) → (..., 4) by Gram-Schmidt; any two independent columns are accepted."""
    xp = namespace(d)
    x = normalize(d[..., :3])
    y = d[..., 3:] - xp.sum(x * d[..., 3:], axis=-1, keepdims=True) * x
    y = normalize(y)
    return from_matrix(xp.stack([x, y, cross(x, y)], axis=-1))


def exp(v: Array) -> Array:
    """Rotation vector (..., 3) → quaternion (..., 4)."""
    xp = namespace(v)
    square = xp.sum(v * v, axis=-1, keepdims=True)
    small = square < 1e-6
    angle = xp.sqrt(xp.where(small, xp.ones_like(square), square))
    # sin(x/2)/x by its series near zero, where the quotient loses digits and its gradient
    scale = xp.where(small, 0.5 - square / 48, xp.sin(angle / 2) / angle)
    w = xp.where(small, 1 - square / 8, xp.cos(angle / 2))
    return normalize(xp.concat([w, v * scale], axis=-1))


def log(q: Array) -> Array:
    """Quaternion (..., 4) → the shortest rotation vector (..., 3), length ≤ π."""
    xp = namespace(q)
    q = xp.where(q[..., :1] < 0, -q, q)
    xyz, w = q[..., 1:], q[..., :1]
    square = xp.sum(xyz * xyz, axis=-1, keepdims=True)
    small = square < 1e-8
    sine = xp.sqrt(xp.where(small, xp.ones_like(square), square))
    safe_w = xp.where(small, xp.ones_like(w), w)
    ratio = xp.where(
        small, 2 / xp.where(small, w, xp.ones_like(w)) * (1 - square / 3), 2 * xp.atan2(sine, safe_w) / sine
    )
    return xyz * ratio


def angle(a: Array, b: Array) -> Array:
    """Angle in radians between two rotations, in the atan2 form that stays exact for tiny angles. (...)."""
    xp = namespace(a, b)
    d = multiply(conjugate(a), b)
    square = xp.sum(d[..., 1:] * d[..., 1:], axis=-1)
    equal = square == 0  # where the root has no gradient
    sine = xp.where(equal, square, xp.sqrt(xp.where(equal, xp.ones_like(square), square)))
    return 2 * xp.atan2(sine, xp.abs(d[..., 0]))


def slerp(a: Array, b: Array, t: Array) -> Array:
    """The rotation a fraction t (..., or scalar) of the shortest way from a to b."""
    step = log(multiply(conjugate(a), b))
    if not isinstance(t, float | int):
        t = t[..., None]
    return multiply(a, exp(step * t))


def continuous(q: Array, axis: int = 0) -> Array:
    """Flip signs so that neighbours along ``axis`` lie in one hemisphere (no jump of the components)."""
    xp = namespace(q)
    q = xp.moveaxis(q, axis, 0)
    dots = xp.sum(q[1:, ...] * q[:-1, ...], axis=-1, keepdims=True)
    flips = xp.cumulative_sum(xp.where(dots < 0, xp.ones_like(dots), xp.zeros_like(dots)), axis=0)
    signs = xp.concat([xp.ones_like(q[:1, ..., :1]), 1 - 2 * (flips % 2)], axis=0)
    return xp.moveaxis(q * signs, 0, axis)


def shortest_arc(a: Array, b: Array) -> Array:
    """The smallest rotation that turns direction a into direction b. (..., 3), (..., 3) → (..., 4).

    Opposite directions turn half-way about an axis at right angles, chosen steadily.
    """
    xp = namespace(a, b)
    a, b = normalize(a), normalize(b)
    dot = xp.sum(a * b, axis=-1, keepdims=True)
    q = xp.concat([1 + dot, cross(a, b) + xp.zeros_like(a)], axis=-1)
    spare = xp.where(xp.abs(a[..., :1]) < 0.9, constant(xp, (1.0, 0.0, 0.0), a), constant(xp, (0.0, 1.0, 0.0), a))
    half_turn = xp.concat([xp.zeros_like(dot), normalize(cross(a, spare))], axis=-1)
    return xp.where(norm(q) < 4 * xp.finfo(q.dtype).eps ** 0.5, half_turn, normalize(q))


def about_y(angle_: Array) -> Array:
    """Yaw: (...) radians about +Y → (..., 4)."""
    xp = namespace(angle_)
    zero = xp.zeros_like(angle_)
    return xp.stack([xp.cos(angle_ / 2), zero, xp.sin(angle_ / 2), zero], axis=-1)


def heading(q: Array) -> Array:
    """Unit (sin, cos) of the facing direction of root rotations: (..., 4) → (..., 2) as (x, z) of where +Z points.

    Uses both the forward and the sideways axis, so a character that lies down still has a heading.
    """
    xp = namespace(q)
    forward = rotate(q, constant(xp, (0.0, 0.0, 1.0), q) + xp.zeros_like(q[..., :3]))
    side = rotate(q, constant(xp, (1.0, 0.0, 0.0), q) + xp.zeros_like(q[..., :3]))
    # +X turned a quarter about +Y gives −Z: the side axis (x, z) faces along (−z, x)
    flat = xp.stack([forward[..., 0] - side[..., 2], forward[..., 2] + side[..., 0]], axis=-1)
    return normalize(flat)


def take(x: Array, indices: Any, axis: int) -> Array:
    """Gather fixed positions along an axis, on whatever device x lives."""
    xp = namespace(x)
    return xp.take(x, index(xp, indices, x), axis=axis)
