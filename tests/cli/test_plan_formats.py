"""``plan``, ``show`` and ``simulate`` as people type them: every format, places, orders of cost, measured durations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.cli.main import invoke
from planner.emit.render import render_bundle
from planner.emit.write import write_bundle
from planner.execute.store import Store
from tests.emit.sample import ASSETS, document, finished

GOLDEN = Path(__file__).parent / "golden"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "02-one-node"
PLAN = ("plan", "--facts", str(EXAMPLE / "facts.json"), "--target", str(EXAMPLE / "target.yml"))
MARKS = {"table": "Paths", "json": '"planner.plan/1"', "yaml": "schema: planner.plan/1", "markdown": "# Plan ",
         "html": "<!doctype html>", "dot": "digraph ", "mermaid": "gantt"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle of the small plan."""
    write_bundle(render_bundle(finished(document()), ASSETS), tmp_path / "bundle")
    return tmp_path / "bundle"


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Return what a command prints on stdout."""
    assert invoke(list(words)) == code, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("form", MARKS)
def test_show_speaks_every_format(bundle: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    """To stdout, and the same to a file; only the table is laid out for a file of 100 columns there."""
    text = printed(capsys, "show", str(bundle), "-o", form)
    assert MARKS[form] in text
    out = bundle.parent / "out.txt"
    assert printed(capsys, "show", str(bundle), "-o", form, "--out", str(out)) == ""
    assert form == "table" or out.read_text(encoding="utf-8") == text


def test_json_and_yaml_are_the_plan_document(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Byte for byte what the bundle has, and the same as YAML."""
    text = printed(capsys, "show", str(bundle), "-o", "json")
    assert text == (bundle / "plan.json").read_text(encoding="utf-8")
    assert yaml.safe_load(printed(capsys, "show", str(bundle), "-o", "yaml")) == json.loads(text)


def test_markdown_is_the_review_of_the_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What PLAN.md says, not another text about the same."""
    assert printed(capsys, "show", str(bundle), "-o", "markdown") == (bundle / "PLAN.md").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with the next command, no traceback."""
    assert invoke(["show", str(bundle), "-o", "html", "--out", str(bundle / "no" / "plan.html")]) == 1
    assert "planner show BUNDLE --out FILE" in capsys.readouterr().err


def test_piped_output_has_no_colour_and_keeps_80_columns(bundle: Path) -> None:
    """As a process, with a terminal type and colours asked for by nobody."""
    environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    environment.pop("FORCE_COLOR", None)
    result = subprocess.run([sys.executable, "-m", "planner", "show", str(bundle)], capture_output=True, text=True,
                            check=True, env=environment)
    assert "\x1b" not in result.stdout
    assert "█" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


# --- planning -------------------------------------------------------------------------------------------------


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Return the plan document of the small example."""
    document: dict[str, Any] = json.loads(printed(capsys, *PLAN, "-o", "json", *words))
    return document


def test_the_order_of_cost_is_kept_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """People say time and risk; what is left out follows in the usual order, and the plan says all of it."""
    assert planned(capsys)["optimize"] == ["reboots", "risks", "steps", "minutes"]
    assert planned(capsys, "--optimize", "time,risk")["optimize"] == ["minutes", "risks", "reboots", "steps"]
    text = " ".join(printed(capsys, *PLAN, "--optimize", "risk").split())
    assert "cost of paths compared by risks, then reboots, then steps, then minutes" in text


@pytest.mark.parametrize("order", ["reboots", "time", "risk", "steps"])
def test_no_order_is_worse_in_its_own_field(capsys: pytest.CaptureFixture[str], order: str) -> None:
    """What comes first in the comparison is at most what any other order makes of it."""
    field = {"time": "minutes", "risk": "risks"}.get(order, order)
    costs = {name: planned(capsys, "--optimize", name)["cohorts"][0]["cost"]
             for name in ("reboots", "time", "risk", "steps")}
    assert costs[order][field] == min(cost[field] for cost in costs.values())


OVERLAY = """\
schema: planner.matrix/1
topic: an invented way to change the driver without a reboot, which takes long
moves:
  - {name: slow-driver, title: Reload the module, components: [driver], disruption: module-reload, minutes: 90}
"""


def test_the_order_decides_between_safe_paths(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A reboot of ten minutes or ninety minutes without one: each order takes what it asks for first."""
    (tmp_path / "slow.yml").write_text(OVERLAY, encoding="utf-8")
    moves = {order: [s["move"] for s in planned(capsys, "--matrix", str(tmp_path), "--optimize", order)["cohorts"][0][
        "steps"]] for order in ("reboots", "time", "risk,time")}
    assert "slow-driver" in moves["reboots"]
    assert "slow-driver" not in moves["time"]
    assert moves["risk,time"] == moves["time"]


@pytest.mark.parametrize("minutes", [100_001, 5_000_000_000, -1])
def test_an_overlay_whose_step_takes_no_sensible_time_is_refused(
        capsys: pytest.CaptureFixture[str], tmp_path: Path, minutes: int) -> None:
    """Sums of such times would run into the next field of a cost; the message names file, move and bound."""
    (tmp_path / "slow.yml").write_text(OVERLAY.replace("minutes: 90", f"minutes: {minutes}"), encoding="utf-8")
    assert invoke([*PLAN, "--matrix", str(tmp_path)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "slow.yml:4" in told
    assert "moves.0.minutes" in told
    assert ("less than or equal to 100000" if minutes > 0 else "greater than or equal to 0") in told
    assert "Traceback" not in told


def test_an_order_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with the words that may be used."""
    assert invoke([*PLAN, "--optimize", "money"]) == 2
    assert "'money' is none of reboots, risk, steps, time" in capsys.readouterr().err


def test_a_plan_says_what_is_expected_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Duration with its spread, capacity, gains: in the document, and the same bytes each time."""
    first, again = planned(capsys), planned(capsys)
    assert first == again
    assert first["eta"]["p10_minutes"] < first["eta"]["p50_minutes"] < first["eta"]["p90_minutes"]
    assert first["eta"]["peak_nodes_out"] == 1
    assert "measured" not in first
    review = printed(capsys, *PLAN, "-o", "markdown")
    assert "Expected are " in review
    assert "## What is gained\n\n- No more, in `" in review


def entries(seconds: int) -> Iterator[dict[str, Any]]:
    """Yield a hand-written journal, a stand-in for that of a rollout: three nodes, one after another."""
    for name in ("gpu01", "gpu02", "gpu03"):
        yield {"kind": "node", "node": name, "data": {"event": "preflight-begun"}, "second": 0}
        yield {"kind": "node", "node": name, "data": {"event": "facts-fit", "started": False}, "second": 1}
        yield {"kind": "node", "node": name, "data": {"event": "change-begun"}, "second": 1}
        yield {"kind": "phase", "node": name, "data": {"phase": "drain"}, "second": 1}
        yield {"kind": "phase", "node": name, "data": {"phase": "baseline"}, "second": 11}
        yield {"kind": "gate", "node": name, "data": {"verdict": "pass"}, "second": 11 + seconds}
        yield {"kind": "node", "node": name, "data": {"event": "gate-passed"}, "second": 12 + seconds}


def write_journal(place: Path, digest: str, seconds: int) -> None:
    """Keep the journal where ``apply`` keeps it."""
    place.mkdir(parents=True)
    store = Store(f"sqlite:///{place / 'state.db'}", digest)
    for entry in entries(seconds):
        second = entry.pop("second")
        store.append([entry], at=f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}+00:00")
    store.close()


def test_journals_of_earlier_rollouts_replace_planning_figures(bundle: Path, capsys: pytest.CaptureFixture[str]
                                                               ) -> None:
    """Measured times, their number, and the digest of the history are in the plan: another history, another input."""
    digest = json.loads((bundle / "plan.json").read_text(encoding="utf-8"))["digest"]
    write_journal(bundle.parent / ".planner" / digest.removeprefix("sha256:")[:16], digest, 1200)
    plan = planned(capsys, "--history", str(bundle))
    assert {(m["kind"], m.get("name")): m["median_minutes"] for m in plan["measured"]} == {
        ("move", "driver"): 15.0, ("move", "toolkit"): 5.0, ("drain", ""): 0.17}
    assert plan["eta"]["measured_nodes"] == 3
    assert plan["inputs"]["history"].startswith("sha256:")
    assert plan == planned(capsys, "--history", str(bundle), "--history", str(bundle))
    assert plan["inputs"].keys() - planned(capsys)["inputs"].keys() == {"history"}
    text = " ".join(printed(capsys, *PLAN, "--history", str(bundle)).split())
    assert "measured on 3 nodes of earlier rollouts" in text


def test_a_state_directory_is_a_history_and_a_simulated_one_is_none(bundle: Path, capsys: pytest.CaptureFixture[str]
                                                                    ) -> None:
    """A copy of the plan lies beside each journal; what was simulated is not read."""
    digest = json.loads((bundle / "plan.json").read_text(encoding="utf-8"))["digest"]
    for name in ("real", "one-simulated"):
        write_journal(bundle.parent / name, digest, 60)
        (bundle.parent / name / "plan.json").write_bytes((bundle / "plan.json").read_bytes())
    assert planned(capsys, "--history", str(bundle.parent))["eta"]["measured_nodes"] == 3
    assert invoke([*PLAN, "--history", str(bundle.parent / "one-simulated")]) == 1
    message = capsys.readouterr().err
    assert "no-history" in message
    assert "simulated rollouts prove nothing" in message


def test_apply_keeps_a_copy_of_the_plan_beside_its_journal(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal names nodes and waves alone; without the plan nobody could tell later what was done to them."""
    state = bundle.parent / "state"
    assert invoke(["apply", str(bundle), "--state", str(state), "--simulate", "1", "--canary"]) == 8
    (copy,) = state.glob("*/plan.json")
    assert copy.read_bytes() == (bundle / "plan.json").read_bytes()
    assert copy.parent.name.endswith("-simulated")
    assert invoke([*PLAN, "--history", str(state)]) == 1
    assert "no-history" in capsys.readouterr().err


# --- simulation -----------------------------------------------------------------------------------------------


def test_a_simulation_is_the_golden_one(bundle: Path, capsys: pytest.CaptureFixture[str],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed prints the same bytes, on any machine."""
    monkeypatch.setenv("COLUMNS", "80")
    words = ("simulate", str(bundle), "--seed", "7", "--runs", "500", "--failure-rate", "5%", "--failure-rate",
             "lost=1%", "--retries", "1")
    text = printed(capsys, *words)
    path = GOLDEN / "simulation.txt"
    if os.environ.get("PLANNER_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_a_simulation_as_json_names_what_was_assumed(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plan, seed, rates and people; the counts of ends add up."""
    words = ("simulate", str(bundle), "--seed", "7", "--runs", "200", "-o", "json")
    found = json.loads(printed(capsys, *words, "--failure-rate", "toolkit=10%"))
    assert found["schema"] == "planner.simulation/1"
    assert found["assumed"] == {"rates": {"gate": 0.0, "toolkit": 0.1}, "retries": 0, "answer_minutes": 30.0,
                                "approval_minutes": 0.0}
    assert sum(found["ends"].values()) == found["runs"] == 200
    assert found["plan"] == json.loads((bundle / "plan.json").read_text(encoding="utf-8"))["digest"]
    assert json.loads(printed(capsys, *words, "--failure-rate", "toolkit=0.1")) == found


@pytest.mark.parametrize("rate", ["2", "-1%", "driver=", "drivr=1%", "nan", "many"])
def test_rates_that_are_none_are_refused(bundle: Path, capsys: pytest.CaptureFixture[str], rate: str) -> None:
    """Exit 2; an unknown name is told the known ones."""
    assert invoke(["simulate", str(bundle), "--seed", "1", "--failure-rate", rate]) == 2
    message = capsys.readouterr().err
    assert "is no chance such as" in message or "driver, lost, toolkit, unreachable" in message
