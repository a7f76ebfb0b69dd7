"""Filters as tuned for MPJPE on the CMU training subjects, for every kind of bad capture that `noise` makes."""

from __future__ import annotations

from collections.abc import Mapping

from ..baselines import Filter

KEPT: Mapping[str, tuple[Filter, ...]] = {
    "noise 5° and 2 cm per axis": (
        Filter("savitzky_golay", {"window": 0.37, "order": 1}, {"window": 0.3, "order": 1}),
        Filter("butterworth", {"cutoff": 1.75, "order": 2}, {"cutoff": 2, "order": 2}),
        Filter("gaussian", {"sigma": 0.1}, {"sigma": 0.08}),
        Filter("one_euro", {"min_cutoff": 0.5, "beta": 2}, {"min_cutoff": 0.01, "beta": 12}),
    ),
    "noise 2° and 1 cm per axis": (
        Filter("butterworth", {"cutoff": 2.25, "order": 2}, {"cutoff": 2.5, "order": 2}),
        Filter("savitzky_golay", {"window": 0.57, "order": 3}, {"window": 0.5, "order": 2}),
        Filter("gaussian", {"sigma": 0.07}, {"sigma": 0.06}),
        Filter("one_euro", {"min_cutoff": 0.01, "beta": 12}, {"min_cutoff": 4, "beta": 12}),
    ),
    "noise 10° and 4 cm per axis": (
        Filter("savitzky_golay", {"window": 0.57, "order": 1}, {"window": 0.43, "order": 1}),
        Filter("gaussian", {"sigma": 0.15}, {"sigma": 0.12}),
        Filter("butterworth", {"cutoff": 1.25, "order": 1}, {"cutoff": 1.5, "order": 2}),
        Filter("one_euro", {"min_cutoff": 0.2, "beta": 0.7}, {"min_cutoff": 0.2, "beta": 4}),
    ),
    "root shaken by 2 cm": (
        Filter("butterworth", {"cutoff": 8, "order": 1}, {"cutoff": 2, "order": 2}),
        Filter("savitzky_golay", {"window": 0.1, "order": 2}, {"window": 0.63, "order": 2}),
        Filter("gaussian", {"sigma": 0.02}, {"sigma": 0.08}),
        Filter("one_euro", {"min_cutoff": 4, "beta": 12}, {"min_cutoff": 0.01, "beta": 12}),
    ),
    "joints shaken by 1 cm, bones turned to follow": (
        Filter("butterworth", {"cutoff": 3, "order": 2}, {"cutoff": 2.5, "order": 2}),
        Filter("savitzky_golay", {"window": 0.43, "order": 2}, {"window": 0.5, "order": 2}),
        Filter("gaussian", {"sigma": 0.06}, {"sigma": 0.06}),
        Filter("one_euro", {"min_cutoff": 4, "beta": 4}, {"min_cutoff": 4, "beta": 12}),
    ),
    "one limb shaken by 5°": (
        Filter("butterworth", {"cutoff": 4, "order": 2}, {"cutoff": 8, "order": 2}),
        Filter("savitzky_golay", {"window": 0.3, "order": 3}, {"window": 0.1, "order": 2}),
        Filter("gaussian", {"sigma": 0.04}, {"sigma": 0.015}),
        Filter("one_euro", {"min_cutoff": 4, "beta": 12}, {"min_cutoff": 4, "beta": 12}),
    ),
    "spikes of 20° in one joint of a hundred": (
        Filter("savitzky_golay", {"window": 0.1, "order": 2}, {"window": 0.1, "order": 2}),
        Filter("gaussian", {"sigma": 0.01}, {"sigma": 0.01}),
        Filter("butterworth", {"cutoff": 8, "order": 1}, {"cutoff": 8, "order": 2}),
        Filter("one_euro", {"min_cutoff": 4, "beta": 12}, {"min_cutoff": 4, "beta": 12}),
    ),
    "frozen for 0.2 s every second": (
        Filter("savitzky_golay", {"window": 0.1, "order": 2}, {"window": 0.1, "order": 2}),
        Filter("gaussian", {"sigma": 0.01}, {"sigma": 0.01}),
        Filter("butterworth", {"cutoff": 8, "order": 1}, {"cutoff": 8, "order": 1}),
        Filter("one_euro", {"min_cutoff": 4, "beta": 12}, {"min_cutoff": 4, "beta": 12}),
    ),
    "joints drift by 4°": (
        Filter("butterworth", {"cutoff": 2.25, "order": 1}, {"cutoff": 8, "order": 2}),
        Filter("gaussian", {"sigma": 0.09}, {"sigma": 0.01}),
        Filter("savitzky_golay", {"window": 0.3, "order": 1}, {"window": 0.1, "order": 2}),
        Filter("one_euro", {"min_cutoff": 0.2, "beta": 12}, {"min_cutoff": 4, "beta": 12}),
    ),
}
"""By what the capture suffers from, in the words of `noise.chosen`, at 30 fps: every kind of filter, the best first.

Printed by ``evaluate calibrate --data train.npz``, with ``--windows 100`` but for the usual jitter.
"""

TUNED = KEPT["noise 5° and 2 cm per axis"]
"""Those for the usual jitter."""
