"""Panels drawn without a window: what they would show, and what of it is greyed out."""

from __future__ import annotations

from types import SimpleNamespace

import bpy

from mmdm_addon.ui import layout as parts


class Drawing:
    """Stands in for a UILayout; every item is (kind, text, enabled, settings)."""

    def __init__(self, above: Drawing | None = None) -> None:
        self.items = above.items if above else []
        self._above = above
        self.enabled = True

    @property
    def _open(self) -> bool:
        return self.enabled and (self._above is None or self._above._open)

    def _sub(self, *_args, **_options) -> Drawing:
        return Drawing(self)

    row = column = split = box = _sub

    def _add(self, kind: str, text: str) -> SimpleNamespace:
        settings = SimpleNamespace()
        self.items.append((kind, text, self._open, settings))
        return settings

    def label(self, *, text="", icon="NONE") -> None:
        self._add("label", text)

    def operator(self, name, text="", **_options) -> SimpleNamespace:
        settings = self._add("operator", name)
        settings.button = text
        return settings

    def prop(self, _owner, name, **_options) -> None:
        self._add("prop", name)

    def template_list(self, kind, _id, data, name, active, active_name, **_options) -> None:
        assert hasattr(bpy.types, kind)
        assert len(getattr(data, name)) > 0
        assert isinstance(getattr(active, active_name), int)
        self._add("list", name)

    def texts(self, kind: str) -> list[str]:
        """What was drawn of a kind."""
        return [text for what, text, _, _ in self.items if what == kind]

    def enabled_operators(self) -> list[tuple[str, str]]:
        """Buttons that can be pressed as (operator, method)."""
        return [(t, getattr(s, "method", "")) for what, t, on, s in self.items if what == "operator" and on]


def drawn(panel: type, monkeypatch) -> Drawing:
    """A panel of ours as it would be drawn now; its paragraphs are labels of one line."""
    import sys

    drawing = Drawing()
    module = sys.modules[panel.__module__]
    monkeypatch.setattr(module, "paragraph", lambda layout, text, icon="NONE": layout.label(text=text))
    itself = SimpleNamespace(layout=drawing)
    itself.tool_layout = lambda: parts.Panel.tool_layout(itself)
    panel.draw(itself, bpy.context)
    return drawing
