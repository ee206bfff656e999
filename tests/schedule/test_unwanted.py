"""A pool that the target wants nothing of."""

from __future__ import annotations

from planner.model.target import Target
from planner.schedule.assemble import make_plan
from planner.validate.replay import validate_plan
from tests.schedule.machines import NEW, fleet, raw, shipped, ubuntu


def test_a_pool_that_nothing_is_wanted_for_is_left_as_it_is() -> None:
    """What is wrong there is told by check; it does not stand in the way of other pools."""
    broken = ubuntu(flavour="open", model="Tesla V100-SXM2-16GB", capability="7.0")
    wanted = Target.model_validate({"schema": "planner.target/1", "name": "t", "want": {},
                                    "pools": {"other": {"want": {"driver": NEW}}}})
    facts = fleet({"a": (broken, {"pool": "left"}), "b": (ubuntu(), {"pool": "other"})})
    made = make_plan(facts, wanted, shipped(), planner_version="0")
    assert validate_plan(made, wanted, raw()) == ()
    assert {c.pools: len(c.steps) for c in made.cohorts} == {("left",): 0, ("other",): 1}
    (inherited,) = {i.claim for c in made.cohorts for i in c.inherited}
    assert inherited == "pre-turing-needs-proprietary-modules"
