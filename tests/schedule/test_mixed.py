"""An upgrade that broke off: packages of two drivers on one machine."""

from __future__ import annotations

import pytest

from planner.errors import NoPathError
from planner.facts.schema import FactSet
from planner.fleet.fleet import build_fleet
from planner.schedule.plan import Cohort
from planner.stack.facts import views_of
from tests.schedule.machines import CONTAINER, NEW, OLD, document, offered, plan_for, shipped, target, ubuntu

KERNEL = {f"linux-{part}-5.15.0-161-generic": "5.15.0-161.171" for part in ("image", "headers", "modules")}


def broken_off(**packages: str) -> FactSet:
    """Return a machine whose libraries are of another version than its module, and whose libraries tell the driver."""
    facts = ubuntu(packages=CONTAINER)
    mixed = {**facts.packages, "nvidia-kernel-common-570-server": "570.195.03-0ubuntu0.22.04.1", **packages}
    return facts.model_copy(update={"packages": mixed, "available": {**(facts.available or {}), **offered(KERNEL)},
                                    "container_toolkit": "1.17.8"})


def cohort_of(facts: FactSet, **want: str) -> Cohort:
    (cohort,) = plan_for(facts, target(**want)).cohorts
    return cohort


def test_a_driver_that_is_there_in_part_is_not_taken_for_the_wanted_one() -> None:
    for want in ({"driver": OLD}, {"kernel": "5.15.0-161-generic"}):
        with pytest.raises(NoPathError) as refused:
            cohort_of(broken_off(), **want)
        (found,) = refused.value.diagnostics
        assert "nvidia-kernel-common-570-server 570.195.03" in found.why[0]
        assert "packages of two versions are mixed" in found.why[0]
    assert f"driver {NEW} instead of" in found.hint or "driver" not in found.hint


def test_a_step_to_another_driver_mends_it() -> None:
    cohort = cohort_of(broken_off(), driver=NEW)
    (step,) = cohort.steps
    assert {v.partition("-")[0] for v in step.packages.install.values()} == {NEW}
    assert "packages-of-two-drivers" not in {w.claim for w in cohort.warnings}


def test_what_touches_neither_the_driver_nor_reboots_goes_on_and_tells_it() -> None:
    cohort = cohort_of(broken_off(), container_toolkit="1.19.1")
    assert "packages-of-two-drivers" in {w.claim for w in cohort.warnings if w.at_start}


@pytest.mark.parametrize(("facts", "told"), [(broken_off(), ("570.195.03 and 570.211.01",)), (ubuntu(), None)])
def test_check_sees_it(facts: FactSet, told: tuple[str, ...] | None) -> None:
    node = build_fleet(document(facts), shipped()).nodes[0]
    view = views_of("n1", facts, node.state, "production", shipped())[0]
    assert view.state.get("driver_packages") == told
