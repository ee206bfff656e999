"""What a person reads of a rollout where nothing can be redrawn."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from planner.execute.progress import LineReporter
from planner.model.target import RolloutPolicy

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def told(kind: str, label: str = "", **data: object) -> str:
    stream = io.StringIO()
    LineReporter(stream, label=label).event(kind, AT, **data)
    return stream.getvalue()


def test_lines_name_batch_nodes_gates_and_reasons() -> None:
    assert told("call-started", batch="w1b1", call="change", nodes=["a", "b"]).endswith(" w1b1 change: a b\n")
    assert told("gate", node="a", verdict="fail", reasons=["GPU 3 is gone"]).endswith("a gate: fail (GPU 3 is gone)\n")
    assert told("node", node="a", state="failed", reason="no disk").endswith("a failed: no disk\n")
    assert told("stopped", wave="w2", reason="approve it").endswith("w2 stopped approve it\n")


def test_what_nobody_notes_is_left_out() -> None:
    assert told("phase", node="a", phase="drain") == ""
    assert told("node", node="a", state="change-required") == ""
    assert told("call-started", batch="", call="release", nodes=["a"]) == ""


def test_a_simulation_is_marked_on_every_line() -> None:
    assert told("node", "simulated, nothing proved", node="a", state="done").endswith("a done (simulated)\n")


@pytest.mark.parametrize("growth", [float("inf"), float("nan"), 0.5])
def test_growth_is_a_number_from_one(growth: float) -> None:
    with pytest.raises(ValueError, match="growth"):
        RolloutPolicy(growth=growth)
