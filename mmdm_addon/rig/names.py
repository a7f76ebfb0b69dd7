"""Bone names reduced to what they mean, so that one preset fits every exporter's spelling."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_PREFIX = re.compile(
    r"^(?:mixamorig\d*[_ ]?|character\d+_|[mf]_avg_|valvebiped[._]bip\d+_|bip\d+[ _]|cc_base_|j_bip_c_|j_bip_)", re.I
)
_LAYER = re.compile(r"^(DEF|ORG|MCH|WGT|VIS)-")
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


class Key(NamedTuple):
    """What a bone name means: Rigify's layer, the side, and the lower-case rest."""

    layer: str
    side: str
    text: str

    def mirrored(self) -> Key:
        """The same bone on the other side."""
        return self._replace(side={"left": "right", "right": "left"}.get(self.side, self.side))


@lru_cache(maxsize=8192)
def key(name: str) -> Key:
    """``mixamorig:LeftUpLeg``, ``LeftUpLeg`` and ``Left up leg`` all give ``Key("", "left", "upleg")``."""
    text = name.rsplit(":", 1)[-1].rsplit("|", 1)[-1]
    layer = ""
    if match := _LAYER.match(text):
        layer, text = match[1], text[match.end() :]
    text = _PREFIX.sub("", text) or text
    words = [word.lower() for word in _WORD.findall(text)]
    side = ""
    for at in (0, len(words) - 1, len(words) - 2):  # the last but one: "thigh.L.001"
        numbered = at == len(words) - 2 and words[-1].isdigit()
        if len(words) > 1 and at >= 0 and words[at] in _SIDES and (at in (0, len(words) - 1) or numbered):
            side = _SIDES[words.pop(at)]
            break
    return Key(layer, side, "".join(words))
