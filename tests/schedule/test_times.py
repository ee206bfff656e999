"""Time beside the steps of paths: pairs of half upgraded domains, and the site's own command."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

import pytest

from planner.emit.review import render_review
from planner.execute.history import digest_samples, samples_of
from planner.execute.montecarlo import COMMAND, PAIR, Rates, rate_names, simulate
from planner.execute.predict import minutes_left
from planner.execute.states import Entry, start_state
from planner.execute.trial import End, Person
from planner.report.plan_view import PlanView
from planner.schedule.canary import canary_sentences, command_digest
from planner.schedule.estimate import FACTOR, forecast
from planner.schedule.figures import Figures, figures_of
from planner.schedule.pairs import Pair, expected_pairs
from planner.schedule.plan import Plan
from planner.schedule.verify import verify_schedule
from planner.validate.replay import seal_of, validate_plan
from tests.schedule.fleets import plain, world
from tests.schedule.machines import NEW, fleet, raw, shipped, target, ubuntu

ARGV = ("/opt/site/smoke-test", "--all")
FIGURES = Figures(pair_minutes=10, command_percent=50)


def planned(count: int = 7, **rollout: Any) -> Plan:
    """Return a plan of one domain: a canary, then batches of 2 and 4; ten minutes a node."""
    made = world(plain(count, comm_domain="ib"), max_unavailable=4, **{"soak_minutes": 5, "batch_soak_minutes": 5,
                                                                      **rollout})
    made.figures = FIGURES
    return made.plan()


def test_the_matrices_have_the_figures_and_say_where_from() -> None:
    times = shipped().times
    assert figures_of(shipped()) == Figures(times["pair"].minutes, times["own-command"].timeout_percent)
    assert all(time.provenance.title and time.provenance.kind == "derived" for time in times.values())


def test_pairs_count_as_far_as_they_are_longer_than_the_soak() -> None:
    """Two waves are followed by a pair of ten minutes in a soak of five; the last one by nothing."""
    assert planned().eta_minutes == 3 * 10 + 2 * 5
    made = planned(nccl_pairs=True)
    assert [len(b.nodes) for w in made.waves for b in w.batches] == [1, 2, 4]
    assert (made.pair_minutes, made.eta_minutes) == (10, 3 * 10 + 2 * 10)
    assert planned(nccl_pairs=True, soak_minutes=60, batch_soak_minutes=60).eta_minutes == 3 * 10 + 2 * 60
    assert minutes_left(made, start_state(made)) == made.eta_minutes


def test_the_expected_course_has_the_pairs_that_the_engine_would_try() -> None:
    made = planned(nccl_pairs=True, soak_minutes=60)
    assert expected_pairs(made) == {"w1": (Pair("ib", ("n00", "n06")),), "w2": (Pair("ib", ("n02", "n05")),)}
    spans = forecast(made).spans
    assert [(s.kind, s.wave) for s in spans] == [
        ("batch", "w1"), ("pair", "w1"), ("soak", "w1"), ("batch", "w2"), ("pair", "w2"), ("batch", "w3")]
    assert all(a.end == b.start for a, b in pairwise(spans))
    pair, soak = spans[1], spans[2]
    assert pair.end - pair.start == pytest.approx(10 * math.exp(FACTOR.mu))
    assert soak.end - pair.start == pytest.approx(60), "the soak runs meanwhile"
    assert forecast(made).peak_of_pool == {"p": 4}
    alone = planned(nccl_pairs=True, soak_minutes=60).model_copy(update={"rollout": made.rollout.model_copy(
        update={"nccl_pairs": None})})
    assert forecast(made).eta.gpu_hours_at_worst >= forecast(alone).eta.gpu_hours_at_worst


def test_a_pair_without_room_is_not_expected() -> None:
    table = world(plain(3, comm_domain="ib"), max_unavailable=1, nccl_pairs=True)
    table.figures = FIGURES
    assert expected_pairs(table.plan()) == {}


def test_both_verifiers_find_another_time_of_pairs() -> None:
    made = planned(nccl_pairs=True)
    assert verify_schedule(made) == ()
    assert any("and pairs take" in s for s in verify_schedule(made.model_copy(update={"pair_minutes": 30})))
    assert any("policy has none" in s for s in verify_schedule(planned().model_copy(update={"pair_minutes": 10})))
    assert any("instead of" in s or "is said to take" in s for s in verify_schedule(
        made.model_copy(update={"eta_minutes": made.eta_minutes - 5})))


def real(**rollout: Any) -> tuple[Plan, Any]:
    from planner.schedule.assemble import make_plan

    facts = ubuntu()
    wanted = target(driver=NEW).model_copy(update={"rollout": target().rollout.model_copy(update=rollout)})
    nodes = {f"n{i}": (facts, {"comm_domain": "ib", "pool": "a"}) for i in range(4)}
    return make_plan(fleet(nodes), wanted, shipped(), planner_version="0"), wanted


def test_the_replay_holds_figures_against_the_raw_matrices() -> None:
    made, wanted = real(nccl_pairs=True, canary_command=ARGV, max_unavailable=3)
    assert validate_plan(made, wanted, raw()) == ()
    assert (made.pair_minutes, made.pools["a"].canary_command_minutes) == (10, 8)
    assert any("a pair is said" in s for s in validate_plan(
        made.model_copy(update={"pair_minutes": 9}), wanted, raw()))
    pool = made.pools["a"].model_copy(update={"canary_command_minutes": 1})
    other = made.model_copy(update={"pools": {"a": pool}})
    assert any("the command of pool a" in s for s in validate_plan(other, wanted, raw()))
    assert len({seal_of(made), seal_of(other), seal_of(made.model_copy(update={"pair_minutes": 9}))}) == 3


def command_plan(**more: Any) -> Plan:
    made = world(plain(5), max_unavailable=4, canary_command=ARGV, canary_command_timeout_minutes=60, **more)
    made.figures = FIGURES
    return made.plan()


def test_a_command_counts_half_its_timeout_and_in_the_worst_case_all_of_it() -> None:
    made, without = command_plan(), world(plain(5), max_unavailable=4).plan()
    assert made.eta_minutes - without.eta_minutes == 60 * sum(len(w.batches) for w in made.waves)
    batches = [s.end - s.start for s in forecast(made).spans if s.kind == "batch"]
    assert batches == [pytest.approx((10 + 30) * math.exp(FACTOR.mu))] * len(batches)
    assert "60 min at most, counted with 30 until a rollout has measured it" in canary_sentences(made)[0]


def test_what_a_command_took_before_replaces_the_guess() -> None:
    name = command_digest(ARGV)
    measured = {"kind": "command", "name": name, "nodes": 9, "median_minutes": 2.0, "p90_minutes": 2.2}
    made = command_plan()
    made = Plan.model_validate({**made.model_dump(by_alias=True, exclude_none=True), "measured": [measured]})
    batches = [s.end - s.start for s in forecast(made).spans if s.kind == "batch"]
    assert all(length < 10 * math.exp(FACTOR.mu) + 3 for length in batches)
    assert "60 min at most and about 2 by 9 measurements" in canary_sentences(made)[0]
    eta = forecast(made).eta
    assert eta.measured_nodes == 9
    assert eta.guessed, "the steps were never measured"
    assert "the rest by planning figures" in text_of(made.model_copy(update={"eta": eta}))


def text_of(plan: Plan) -> str:
    return " ".join(" ".join(line.plain for line in PlanView(plan).lines(200, "utf-8")).split())


def at(second: float, kind: str, **fields: Any) -> Entry:
    return Entry(seq=0, at=f"2026-01-01T00:{int(second) // 60:02d}:{second % 60:06.3f}+00:00", kind=kind, **fields)


def test_a_history_of_other_moves_is_said_to_tell_nothing() -> None:
    measured = [{"kind": "move", "name": "firmware", "nodes": 40, "median_minutes": 1.0, "p90_minutes": 2.0}]
    made = Plan.model_validate({**planned().model_dump(by_alias=True, exclude_none=True), "measured": measured})
    eta = forecast(made).eta
    assert (eta.measured_nodes, eta.p50_minutes) == (0, forecast(planned()).eta.p50_minutes)
    assert "earlier rollouts tell nothing of these steps" in text_of(made.model_copy(update={"eta": eta}))


def test_journals_tell_how_long_commands_and_pairs_took() -> None:
    plan = command_plan()
    way = [at(0, "call-started", data={"call": "change", "nodes": ["n00"]}),
           at(0, "node", node="n00", data={"event": "facts-fit"}), at(1, "node", node="n00", data={
               "event": "change-begun"}), at(2, "phase", node="n00", data={"phase": "change"}),
           at(302, "gate", node="n00", data={"verdict": "pass"}), at(362, "canary", node="n00", data={}),
           at(363, "node", node="n00", data={"event": "gate-passed"}),
           at(363, "call-ended", data={"call": "change", "status": "successful"})]
    pair = [at(400, "call-started", data={"call": "pair", "nodes": ["n00", "n01"], "domain": "ib"}),
            at(490, "pair", data={"pair": ["n00", "n01"], "domain": "ib", "code": "OK"})]
    hung = [at(500, "call-started", data={"call": "pair", "nodes": ["n00", "n01"], "domain": "ib"}),
            at(900, "pair", data={"pair": ["n00", "n01"], "domain": "ib", "code": "NCCL_HANG"})]
    samples = samples_of(plan, [*way, *pair, *hung])
    assert samples["move", "engine"] == [5.0], "up to the gate"
    assert samples["command", command_digest(ARGV)] == [1.0]
    assert samples["pair", ""] == [1.5], "one that hung tells nothing of those that work"
    found = digest_samples([samples] * 3)
    assert [(m.kind, m.median_minutes) for m in found] == [("command", 1.0), ("move", 5.0), ("pair", 1.5)]


def test_simulated_pairs_and_commands_fail_as_often_as_they_are_told_to() -> None:
    made = planned(nccl_pairs=True, failure_budget=0)
    assert rate_names(made) == ("engine", "lost", PAIR, "unreachable")
    assert rate_names(command_plan()) == (COMMAND, "engine", "lost", "unreachable")
    never, always = (simulate(made, Rates(moves={PAIR: rate}), runs=50, chance=random.Random(1)) for rate in (0.0, 1.0))
    assert (never.ends, always.ends) == ({End.FINISHED: 50}, {End.PAIR_FAILED: 50})
    assert always.seen_in == {"w1": 50}
    assert never.makespan is not None
    assert never.makespan.p50 == pytest.approx(forecast(made).eta.p50_minutes, rel=0.1)
    halted = simulate(command_plan(), Rates(moves={COMMAND: 1.0}), runs=20, chance=random.Random(1))
    assert halted.ends == {End.HALTED: 20}
    assert halted.until_stop is not None
    assert halted.until_stop.p50 >= 20, "step and command: it fails at its end"
    unsaid = simulate(made, Rates(node=0.0), runs=20, chance=random.Random(1))
    assert unsaid.ends == {End.FINISHED: 20}
    inherited = simulate(made, Rates(node=1.0, moves={"engine": 0.0}), runs=20, chance=random.Random(1))
    assert inherited.ends == {End.HALTED: 20}


def test_a_person_who_tries_again_gets_past_a_pair_that_failed_once() -> None:
    made = planned(nccl_pairs=True)
    rates, person = Rates(moves={PAIR: 0.3}), Person(retries=5)
    alone, helped = (simulate(made, rates, runs=300, chance=random.Random(2), person=who) for who in (None, person))
    assert alone.ends[End.FINISHED] == pytest.approx(300 * 0.49, rel=0.2)
    assert helped.ends[End.FINISHED] > 290


def test_the_review_says_pairs_and_when_it_may_begin() -> None:
    made = planned(nccl_pairs=True, not_before="2027-01-04T02:00:00+01:00", windows=("daily 03:00-06:00 UTC",))
    text = render_review(made)
    assert "It begins at 2027-01-04T02:00:00+01:00 at the earliest; its first window opens Mon 2027-01-04 03:00 UTC." \
        in text
    assert "| a pair of ib, soak 5 minutes" in text
    assert "drained for about 10 minutes by planning figures" in text
    assert "+ pair" in text_of(made)


def test_the_worst_case_counts_the_hours_between_windows() -> None:
    """One batch a night: three nights, the last ten minutes of the third."""
    made = planned(windows=("daily 03:00-03:15 UTC",), not_before="2027-01-04T02:00:00Z")
    eta = forecast(made).eta
    assert (made.eta_minutes, eta.at_worst_minutes) == (40, 2 * 1440 + 10)
    assert eta.p90_minutes <= 2 * 1440 + 10
    made = made.model_copy(update={"eta": eta})
    assert "within 48 h 10 min at worst (soaks and closed hours between windows included, drains not)" in \
        render_review(made)
    assert "at worst 2 d 0 h by planning figures, closed hours between windows counted" in text_of(made)
    assert forecast(planned()).eta.at_worst_minutes is None


def test_what_took_longer_before_makes_planning_figures_no_worst_case() -> None:
    measured = [{"kind": "move", "name": "engine", "nodes": 40, "median_minutes": 30.0, "p90_minutes": 40.0}]
    made = Plan.model_validate({**planned().model_dump(by_alias=True, exclude_none=True), "measured": measured})
    made = made.model_copy(update={"eta": forecast(made).eta})
    assert "in 40 min by planning figures (soaks included, drains not), and longer by what earlier rollouts took." in \
        render_review(made)
    assert "40 min by planning figures, drains not: earlier rollouts took longer" in text_of(made)
    assert "at worst" not in text_of(made).partition("every state")[0]
