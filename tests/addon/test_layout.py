"""What panels make of sentences and names that do not fit."""

from __future__ import annotations

import pytest

from mmdm_addon.ui import layout


def test_a_number_is_never_parted_from_its_unit():
    sentence = "Expected 5.2 cm / 6°, Bézier 6.3 cm / 5°, 12 s left"
    for characters in range(16, 60):
        lines = layout._lines(sentence, characters)
        assert not any(line[-1].isdigit() for line in lines)
        assert " ".join(lines).replace("\N{NO-BREAK SPACE}", " ") == sentence
        assert all(len(line) <= characters for line in lines)


@pytest.mark.parametrize(
    ("bone", "shown"),
    [("mixamorig:LeftArm", "LeftArm"), ("rig:char:arm_l", "arm_l"), ("upper_arm.L", "upper_arm.L"), ("odd:", "odd:")],
)
def test_a_column_shows_a_bone_without_its_namespace(bone, shown):
    assert layout.short(bone) == shown
