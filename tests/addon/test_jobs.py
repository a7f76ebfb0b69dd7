"""The modal path without a window: timer ticks, Esc, everything else passing through, and how it ends.

The operator's methods are called as Blender's event loop would; tests/gui does it in a real window.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import bpy
import pytest
from operator_support import figure, same, state

from mmdm_addon import jobs
from mmdm_addon.operators.fill_gap import MMDM_OT_fill_gap

pytestmark = pytest.mark.usefixtures("standin")


class Session:
    """An operator instance and the context that an event loop would hand it."""

    kind, name = MMDM_OT_fill_gap, "fill_gap"
    own = ("prepare", "apply", "title", "panel_options")

    def __init__(self, **options):
        self.reports: list[tuple[str, str]] = []
        self.status: list[str | None] = []
        defaults = {p.identifier: p.default for p in getattr(bpy.ops.mmdm, self.name).get_rna_type().properties
                    if p.identifier != "rna_type"}  # fmt: skip
        members = {name: getattr(jobs.EngineOperator, name) for name in dir(jobs.EngineOperator) if name[:2] != "__"}
        members |= {name: getattr(self.kind, name) for name in self.own}
        members |= {
            "report": lambda _self, kind, text: self.reports.append((*kind, text)),
            "properties": SimpleNamespace(is_property_set=options.__contains__),
            "_has_window": lambda _self, _context: True,
        }
        self.operator = type("Operator", (), {**members, **defaults, **options})()
        manager = SimpleNamespace(
            mmdm=bpy.context.window_manager.mmdm,
            windows=[],
            event_timer_add=lambda *_, **__: None,
            modal_handler_add=lambda _: True,
        )
        self.context = SimpleNamespace(
            scene=bpy.context.scene,
            view_layer=bpy.context.view_layer,
            window_manager=manager,
            window=object(),
            workspace=SimpleNamespace(status_text_set=self.status.append),
        )

    def start(self):
        """As when a button is pressed."""
        assert self.operator.invoke(self.context, None) == {"RUNNING_MODAL"}

    def tick(self, kind="TIMER", value="NOTHING"):
        return self.operator.modal(self.context, SimpleNamespace(type=kind, value=value))

    def run(self):
        """Tick until it ends."""
        end = time.monotonic() + 60
        while (outcome := self.tick()) == {"PASS_THROUGH"}:
            assert time.monotonic() < end
            time.sleep(0.02)
        return outcome


@pytest.fixture
def session():
    figure()
    made = []

    def start(**options):
        made.append(Session(frame_start=20, frame_end=40, **options))
        made[-1].start()
        return made[-1]

    yield start
    jobs._running = None


def test_it_passes_events_through_and_applies_once_at_the_end(session):
    job = session()
    before = state(bpy.data.objects["Figure"])
    assert jobs.running() is not None
    for kind in ("MOUSEMOVE", "LEFTMOUSE", "SPACE", "A"):
        assert job.tick(kind, "PRESS") == {"PASS_THROUGH"}
    assert same(state(bpy.data.objects["Figure"]), before)
    assert job.run() == {"FINISHED"}
    assert jobs.running() is None
    assert len(bpy.data.actions) == 2
    assert job.reports[-1][0] == "INFO"
    assert "Filled 21-39" in job.reports[-1][1]


def test_while_it_runs_no_second_job_can_start_and_the_panel_shows_progress(session):
    job = session(label="slow")
    assert not bpy.ops.mmdm.fill_gap.poll()
    assert "Fill Gap is running" in jobs.unready(bpy.context)
    status = bpy.context.window_manager.mmdm
    end = time.monotonic() + 60
    while status.progress < 0.02 and time.monotonic() < end:
        assert job.tick() == {"PASS_THROUGH"}
        time.sleep(0.05)
    assert status.running
    assert "%" in status.text
    assert "s left" in status.text
    assert any("Esc: cancel" in text for text in job.status)
    assert bpy.ops.mmdm.cancel() == {"FINISHED"}
    assert job.run() == {"CANCELLED"}
    assert not status.running
    assert status.text == ""


def test_escape_cancels_within_a_second_and_changes_nothing(session):
    job = session(label="slow")
    armature = bpy.data.objects["Figure"]
    before = state(armature)
    while not job.operator._job.call.of:
        assert job.tick() == {"PASS_THROUGH"}
        time.sleep(0.02)
    started = time.monotonic()
    assert job.tick("ESC", "PRESS") == {"RUNNING_MODAL"}
    assert "cancelling" in bpy.context.window_manager.mmdm.text
    assert job.run() == {"CANCELLED"}
    assert time.monotonic() - started < 1
    assert job.reports == [("INFO", "Cancelled; nothing was changed.")]
    assert same(state(armature), before)
    assert len(bpy.data.actions) == 1


def test_deleting_the_rig_stops_the_computation(session):
    job = session(label="slow")
    bpy.data.objects.remove(bpy.data.objects["Figure"])
    started = time.monotonic()
    assert job.run() == {"CANCELLED"}
    assert time.monotonic() - started < 8  # the stand-in would take ten seconds
    assert job.reports == [("ERROR", "The armature 'Figure' is gone, so the result was dropped; nothing was changed.")]


def test_loading_a_file_cancels(session):
    job = session(label="slow")
    call = job.operator._job.call
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    job.context.window_manager.mmdm = bpy.context.window_manager.mmdm
    assert call.cancelling or call.finished
    job.operator.cancel(job.context)  # what Blender calls on operators whose window goes
    assert jobs.running() is None


def test_a_worker_that_dies_is_an_error_in_words(session):
    job = session(label="die")
    assert job.run() == {"CANCELLED"}
    assert job.reports[0][0] == "ERROR"
    assert "run again" in job.reports[0][1]
    assert jobs.running() is None


def test_from_the_window_the_panels_options_hold_unless_given(session):
    options = bpy.context.scene.mmdm
    options.takes, options.seed = 3, 11
    job = session(seed=5)
    assert job.run() == {"FINISHED"}
    takes = bpy.data.objects["Figure"].mmdm.takes
    assert len(takes) == 4
    assert "seed 6" in takes[2].detail


def test_what_cannot_start_is_an_error_in_words_and_leaves_no_job():
    figure()
    job = Session(frame_start=-20, frame_end=40)
    assert job.operator.invoke(job.context, None) == {"CANCELLED"}
    assert job.reports[0][0] == "ERROR"
    assert "Extend" in job.reports[0][1]
    assert jobs.running() is None


def test_the_mix_in_hides_nothing_of_blenders_operator():
    hooks = {"poll", "execute", "invoke", "modal", "cancel"}
    own = {name for name in vars(jobs.EngineOperator) if not name.startswith("__")} - hooks
    theirs = set(dir(bpy.types.Operator)) | set(bpy.types.Operator.bl_rna.properties.keys())
    assert not own & theirs
