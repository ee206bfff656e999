"""Random fleets: whatever is scheduled keeps the policy, by the verifier and by a check that shares nothing with it."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from planner.documents import canonical_json, dump_model
from planner.errors import ScheduleError
from planner.schedule.bound import bound_minutes
from planner.schedule.verify import verify_schedule
from tests.schedule.fleets import World, plain, world, worlds

pytestmark = pytest.mark.property
quick = settings(max_examples=150, deadline=None, derandomize=True, database=None,
                 suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def allowed(written, total):
    return written if isinstance(written, int) else max(1, math.floor(total * int(written[:-1]) / 100 + 1e-9))


def brute(given_world: World, made) -> None:
    """Assert the rules in their plainest form, node by node."""
    nodes, moving = given_world.nodes, {n for c in given_world.cohorts if c.steps for n in c.nodes}
    hardware = {n: c.hardware_class for c in given_world.cohorts for n in c.nodes}
    line = [(w.kind, set(b.nodes)) for w in made.waves for b in w.batches]
    assert sorted(n for _, b in line for n in b) == sorted(moving)
    kinds = [k for k, _ in line]
    assert kinds == [k for k in ("staging", "canary", "batch") for _ in range(kinds.count(k))]
    of_kind = {k: {n for kind, b in line if kind == k for n in b} for k in ("staging", "canary", "batch")}
    assert {n for n in moving if nodes[n].environment == "staging"} <= of_kind["staging"]
    size = {}
    for kind, batch in line:
        for n in batch:
            policy = given_world.own.get(nodes[n].pool, given_world.rollout)
            mates = {m for m in moving if nodes[m].nvlink_domain == nodes[n].nvlink_domain != ""}
            assert mates <= batch
            of_pool = [m for m in batch if nodes[m].pool == nodes[n].pool]
            down = len(given_world.down.get(nodes[n].pool, ()))
            pool_size = down + sum(m.pool == nodes[n].pool for m in nodes.values())
            assert len(of_pool) + down <= allowed(policy.max_unavailable, pool_size)
            if policy.max_unavailable_per_domain is not None and nodes[n].failure_domain:
                rack = [m for m in nodes if nodes[m].failure_domain == nodes[n].failure_domain]
                assert len(batch & set(rack)) <= allowed(policy.max_unavailable_per_domain, len(rack))
            assert len(batch) <= (policy.batch_max or len(batch))
            if kind == "batch":
                canaries = sum(nodes[m].pool == nodes[n].pool for m in of_kind["canary"])
                before = size.get(nodes[n].pool, max(1, canaries))
                assert len(of_pool) <= policy.growth * before + 1e-9 or set(of_pool) <= mates
        if kind == "batch":
            size |= Counter(nodes[n].pool for n in batch)
    left = moving - of_kind["staging"]
    for n in left:
        policy = given_world.own.get(nodes[n].pool, given_world.rollout)
        same = {m for m in left if given_world.own.get(nodes[m].pool, given_world.rollout).canary == policy.canary}
        alike = {m for m in same if hardware[m] == hardware[n]}
        want = 1 if policy.canary == "auto" else min(policy.canary, len(alike))
        assert len(alike & of_kind["canary"]) >= want
        if policy.canary == "auto":
            assert any(nodes[m].cohort == nodes[n].cohort for m in same & of_kind["canary"])
            assert any(nodes[m].pool == nodes[n].pool for m in of_kind["canary"])


def nothing_fits(drawn: World) -> bool:
    """Tell whether some unit is too large for an empty batch; only then may a schedule be refused."""
    nodes, moving = drawn.nodes, {n for c in drawn.cohorts if c.steps for n in c.nodes}
    for n in moving:
        policy, domain = drawn.own.get(nodes[n].pool, drawn.rollout), nodes[n].nvlink_domain
        unit = {m for m in moving if m == n or nodes[m].nvlink_domain == domain != ""}
        down = len(drawn.down.get(nodes[n].pool, ()))
        room = allowed(policy.max_unavailable, down + sum(m.pool == nodes[n].pool for m in nodes.values()))
        if sum(nodes[m].pool == nodes[n].pool for m in unit) + down > room:
            return True
        if policy.batch_max is not None and len(unit) > policy.batch_max:
            return True
        # A percentage comes to the number of the pool's smallest rack, not of the unit's own one.
        racks = {nodes[m].failure_domain for m in nodes if nodes[m].pool == nodes[n].pool} - {""}
        if policy.max_unavailable_per_domain is not None and nodes[n].failure_domain:
            least = min(allowed(policy.max_unavailable_per_domain, sum(m.failure_domain == r for m in nodes.values()))
                        for r in racks)
            if sum(nodes[m].failure_domain == nodes[n].failure_domain for m in unit) > least:
                return True
    return False


@quick
@given(worlds())
def test_every_schedule_keeps_every_rule(drawn: World) -> None:
    try:
        plan = drawn.plan()
    except ScheduleError as refused:
        event("refused")
        complaints = refused.diagnostics
    else:
        event(f"{len(plan.waves)} waves")
        assert verify_schedule(plan, drawn.own) == ()
        brute(drawn, plan)
        return
    assert all(d.hint for d in complaints)
    assert nothing_fits(drawn)


@quick
@given(worlds(), st.randoms(use_true_random=False))
def test_order_of_inputs_changes_no_byte(drawn: World, random) -> None:
    def shuffled(mapping):
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    def text(some: World) -> str:
        try:
            plan = some.plan()
        except ScheduleError as exc:
            return canonical_json([d.as_dict() for d in exc.diagnostics])
        return canonical_json([*(dump_model(w) for w in plan.waves), *map(dump_model, plan.pools.values()),
                               list(plan.pools), list(plan.warnings), plan.eta_minutes])

    cohorts = list(drawn.cohorts)
    random.shuffle(cohorts)
    other = World(tuple(cohorts), shuffled(drawn.nodes), drawn.rollout, shuffled(drawn.own), shuffled(drawn.down))
    assert text(drawn) == text(other)


@settings(quick, max_examples=60)
@given(worlds(), st.data())
def test_verifier_and_brute_check_agree_on_a_node_in_another_batch(drawn: World, data) -> None:
    """Whatever the brute check calls broken after a random move, the verifier names, too; and the other way round."""
    try:
        plan = drawn.plan()
    except ScheduleError:
        assume(False)
    spots = [(w, b) for w, wave in enumerate(plan.waves) for b in range(len(wave.batches))]
    assume(len(spots) > 1)
    (w1, b1), (w2, b2) = data.draw(st.permutations(spots))[:2]
    node = data.draw(st.sampled_from(plan.waves[w1].batches[b1].nodes))
    assume(len(plan.waves[w1].batches[b1].nodes) > 1)
    document = dump_model(plan)
    document["waves"][w1]["batches"][b1]["nodes"].remove(node)
    document["waves"][w2]["batches"][b2]["nodes"] = sorted([*document["waves"][w2]["batches"][b2]["nodes"], node])
    broken = type(plan).model_validate(document)
    complaints = [c for c in verify_schedule(broken, drawn.own) if "take" not in c or "nodes of" in c]
    try:
        brute(drawn, broken)
    except AssertionError:
        event("broken")
        assert complaints
    else:
        event("still sound")
        assert all("staging wave but are no staging" in c for c in complaints), complaints


def test_ten_thousand_nodes() -> None:
    """A large fleet is built whole, in few waves."""
    table = {
        f"n{i:05d}": {"cohort": f"c{i // 18 % 40:02d}", "pool": f"p{i // 18 % 5}", "failure_domain": f"r{i // 72}",
                      "nvlink_domain": f"d{i // 18}" if i < 5000 else "", "comm_domain": f"m{i // 360}",
                      "environment": "staging" if i < 36 else "production"}
        for i in range(10_000)}
    large = world(table, {f"c{i:02d}": {"component": "lib"} for i in range(40)}, max_unavailable_per_domain="50%")
    plan = large.plan()
    assert verify_schedule(plan) == ()
    assert 3 <= len(plan.waves) <= 20
    assert sum(len(b.nodes) for w in plan.waves for b in w.batches) == 10_000


def test_a_limit_of_one_gives_as_many_batches_as_nodes() -> None:
    plan = world(plain(30), max_unavailable=1).plan()
    assert [len(b.nodes) for w in plan.waves for b in w.batches] == [1] * 30
    assert len(plan.waves) == 2


@quick
@given(worlds())
def test_no_schedule_undercuts_the_bound(given_world: World) -> None:
    """Whatever the policy adds on top: canaries, growth and soaks only make it longer."""
    try:
        made = given_world.schedule()
    except ScheduleError:
        assume(False)
    bound = bound_minutes(given_world.cohorts, given_world.nodes, made.pools)
    event(f"bound known: {bound > 0}")
    assert bound <= sum(b.minutes for w in made.waves for b in w.batches)
