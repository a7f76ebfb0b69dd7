"""Figures of methods side by side: ratios to a reference with bootstrap bounds, and by kind of movement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import contacts, metrics
from ..contract import Motion, MotionError
from ..metrics import Score
from ..pack import Pack, resample
from .windows import Window, clips_of, stack

# Constants that `evaluate calibrate` prints for the CMU training pack, so that measuring needs no training data.
LAFAN1_DEVIATION = np.array(
    [
        (0.2112, 0.1945, 0.1015), (0.2143, 0.1759, 0.1075), (0.2162, 0.1779, 0.1077), (0.2112, 0.1945, 0.1015),
        (0.2399, 0.1901, 0.1340), (0.2455, 0.1904, 0.1365), (0.2089, 0.1791, 0.1006), (0.2761, 0.2052, 0.1479),
        (0.2852, 0.2026, 0.1574), (0.2108, 0.1786, 0.1041), (0.2779, 0.2040, 0.1548), (0.2886, 0.2013, 0.1662),
        (0.2199, 0.1762, 0.1116), (0.2230, 0.1762, 0.1128), (0.2223, 0.1761, 0.1134), (0.2267, 0.1759, 0.1183),
        (0.2338, 0.1811, 0.1315), (0.2358, 0.1869, 0.1306), (0.2664, 0.2346, 0.1663), (0.2720, 0.2445, 0.1669),
        (0.2857, 0.3343, 0.2088), (0.2961, 0.3536, 0.2161),
    ]
)  # fmt: skip
"""(22, 3) metres: spread of the joints' global coordinates, with which the `lafan1` family z-scores."""


def bootstrap_ratio(
    ours: Score, base: Score, clips: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """ours / base with the 2.5 and 97.5 % points of its paired bootstrap, clips drawn with replacement.

    clips: (N,) the clip of each sequence. Windows of one clip go together, since they resemble one another.
    """
    numbers = np.unique(clips, return_inverse=True)[1]
    sums = np.stack([np.bincount(numbers, weights=x) for x in (ours.total, ours.weight, base.total, base.weight)])
    count = sums.shape[1]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    a, aw, b, bw = sums @ drawn.T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (a / aw) / (b / bw)
    ratios = ratios[np.isfinite(ratios)]
    low, high = np.percentile(ratios, [2.5, 97.5]) if len(ratios) else (float("nan"), float("nan"))
    return ours.value / base.value if base.value else float("nan"), float(low), float(high)


def gap_figures(
    truth: Sequence[Motion], filled: Sequence[Motion], start: int, stop: int, deviation: np.ndarray
) -> dict[str, Score]:
    """All in-betweening figures on frames [start, stop); see `metrics`."""
    q_true, p_true, offsets = stack(truth)
    q, p, _ = stack(filled)
    inside = slice(start, stop)
    few = (q[:, inside], p[:, inside], q_true[:, inside], p_true[:, inside], offsets)
    out = {f"table5.{k}": v for k, v in metrics.table5(*few).items()}
    out |= {f"lafan1.{k}": v for k, v in metrics.lafan1(*few, q_true[:, start - 1, 0], deviation).items()}
    positions, positions_true = metrics.forward(q, p, offsets), metrics.forward(q_true, p_true, offsets)
    feet, edges = list(metrics.FEET), slice(start - 1, stop + 1)
    standing = np.stack([contacts.detect(m) for m in truth])[:, edges]
    out["mpjpe_mm"] = metrics.mpjpe(positions[:, inside], positions_true[:, inside])
    out["angle_deg"] = metrics.angle(q[:, inside], q_true[:, inside], metrics.BODY)
    out["leaf_angle_deg"] = metrics.angle(q[:, inside], q_true[:, inside], metrics.LEAVES)
    out["foot_slide_cm_s"] = metrics.foot_slide(positions[:, edges][:, :, feet], standing, truth[0].fps)
    return out


def clean_figures(truth: Sequence[Motion], cleaned: Sequence[Motion]) -> dict[str, Score]:
    """All refinement figures, on whole windows."""
    q_true, p_true, offsets = stack(truth)
    q, p, _ = stack(cleaned)
    positions, positions_true = metrics.forward(q, p, offsets), metrics.forward(q_true, p_true, offsets)
    return {
        "mpjpe_mm": metrics.mpjpe(positions, positions_true),
        "accel_mm": metrics.accel(positions, positions_true),
        "angle_deg": metrics.angle(q, q_true, metrics.BODY),
        "leaf_angle_deg": metrics.angle(q, q_true, metrics.LEAVES),
        "jitter_m_s3": metrics.jitter(positions, truth[0].fps),
    }


def summary(
    figures: Mapping[str, Mapping[str, Score]], clips: np.ndarray, reference: str, baselines_: Sequence[str]
) -> dict[str, Any]:
    """figures[method][figure] → values, ratios to the reference with bounds, ratio to the best baseline."""
    names = list(next(iter(figures.values())))
    out: dict[str, Any] = {}
    for name in names:
        values = {method: scores[name].value for method, scores in figures.items()}
        ratios = {
            method: bootstrap_ratio(scores[name], figures[reference][name], clips)
            for method, scores in figures.items()
            if method != reference
        }
        best = min((m for m in baselines_ if np.isfinite(values[m])), key=values.__getitem__, default=reference)
        entry: dict[str, Any] = {"values": values, f"ratio_to_{reference}": ratios, "best_baseline": best}
        if "ours" in figures:
            entry["ours_to_best"] = bootstrap_ratio(figures["ours"][name], figures[best][name], clips)
        out[name] = entry
    return out


def categories(
    figures: Mapping[str, Mapping[str, Score]], windows: Sequence[Window], reference: str, names: Sequence[str]
) -> dict[str, Any]:
    """The figures ``names`` per kind of movement; kinds with fewer than ten windows are put together as "other"."""
    sizes = Counter(w.category for w in windows)
    kinds = np.array([w.category if sizes[w.category] >= 10 and w.category else "other" for w in windows])
    clips = clips_of(windows)
    out: dict[str, Any] = {}
    if len(set(kinds)) < 2:
        return out
    for kind in sorted(set(kinds), key=lambda k: (k == "other", k)):
        rows = np.flatnonzero(kinds == kind)
        parts = {m: {n: s[n].of(rows) for n in names} for m, s in figures.items()}
        out[kind] = {
            "windows": len(rows),
            "clips": len(set(clips[rows])),
            "values": {n: {m: s[n].value for m, s in parts.items()} for n in names},
            f"ratio_to_{reference}": {
                n: {
                    m: bootstrap_ratio(s[n], parts[reference][n], clips[rows])
                    for m, s in parts.items()
                    if m != reference
                }
                for n in names
            },
        }
    return out


def mean_mpjpe(clean: Sequence[Motion], other: Sequence[Motion]) -> float:
    """Mean joint distance in millimetres between equally long motions."""
    q_true, p_true, offsets = stack(clean)
    q, p, _ = stack(other)
    return metrics.mpjpe(metrics.forward(q, p, offsets), metrics.forward(q_true, p_true, offsets)).value


def lafan1_deviation(pack: Pack) -> np.ndarray:
    """(22, 3) metres: the z-scoring of the `lafan1` family, from a training pack's windows of 50 frames, 20 apart."""
    windows: list[Motion] = []
    for clip in range(len(pack)):
        motion = resample(pack.decode(clip), 30.0)
        windows += [motion.slice(s, s + 50) for s in range(0, len(motion) - 49, 20)]
    if not windows:
        raise MotionError(f"No clip of {pack.path.name} holds 50 frames at 30 fps; calibrate on longer takes.")
    return metrics.lafan1_statistics(*stack(windows))
