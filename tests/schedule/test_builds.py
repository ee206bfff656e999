"""Libraries built for one CUDA major: their build goes along when the last toolkit of that major leaves."""

from __future__ import annotations

from planner.emit.render import is_downgrade
from planner.facts.schema import FactSet, LibraryFacts, ToolkitFacts
from planner.schedule.plan import Cohort, Step
from tests.schedule.machines import NEW, offered, plan_for, target, ubuntu

TOOLKIT = {major: {f"cuda-toolkit-{major}-{minor}": f"{major}.{minor}.1-1"} for major, minor in ((12, 9), (13, 0))}
CUDNN = {major: {f"libcudnn9-cuda-{major}": "9.15.1.9-1", f"libcudnn9-dev-cuda-{major}": "9.15.1.9-1"}
         for major in (12, 13)}
NCCL = {12: {"libnccl2": "2.28.9-1+cuda12.9"}, 13: {"libnccl2": "2.28.9-1+cuda13.0"}}
PLACES = {12: ToolkitFacts(version="12.9.1", path="/usr/local/cuda-12.9", source="usr-local"),
          13: ToolkitFacts(version="13.0.1", path="/usr/local/cuda-13.0", source="usr-local")}
WITHOUT_12 = {"present": ["13.0"], "absent": ["12.*"], "default": "13.0"}


def machine(major: int = 12, builds: tuple[int, ...] = (12, 13)) -> FactSet:
    """Return a machine whose toolkit and libraries are of one major; ``builds``: what its repositories have."""
    facts = ubuntu(version=NEW, packages={**TOOLKIT[major], **CUDNN[major], **NCCL[major]},
                   toolkits=(PLACES[major].model_copy(update={"default": True}),))
    more = [*TOOLKIT.values(), *(part for b in builds for part in (CUDNN[b], NCCL[b]))]
    return facts.model_copy(update={"available": {**(facts.available or {}), **offered(*more)}})


def cohort_of(facts: FactSet, **want: object) -> Cohort:
    (cohort,) = plan_for(facts, target(**{"driver": NEW, "cuda_toolkits": WITHOUT_12, **want})).cohorts
    return cohort


def by_move(cohort: Cohort) -> dict[str, Step]:
    return {step.move: step for step in cohort.steps if step.move != "toolkit"}


def test_the_build_follows_before_the_last_toolkit_of_its_major_goes() -> None:
    cohort = cohort_of(machine())
    assert [s.title for s in cohort.steps] == [
        "add cuda_toolkits 13.0.1", "cudnn 9.15.1.9 in another build", "nccl 2.28.9 in another build",
        "remove cuda_toolkits 12.9.1"]
    steps = by_move(cohort)
    assert dict(steps["cudnn"].packages.install) == CUDNN[13]
    assert set(steps["cudnn"].packages.remove) == set(CUDNN[12])
    assert dict(steps["nccl"].packages.install) == NCCL[13]
    assert [["built for cuda_toolkits 12" in text for text in step.remarks or ()] for step in steps.values()] == [
        [True], [True]]
    back = {step.move: step for step in cohort.way_back}
    assert dict(back["nccl"].packages.install) == NCCL[12]
    assert back["nccl"].title == "nccl 2.28.9 in the build before"
    assert cohort.cost["steps"] == len(cohort.steps)
    assert cohort.cost["minutes"] == sum(step.minutes for step in cohort.steps)


def test_packages_of_another_build_may_go_down() -> None:
    cohort = cohort_of(machine())
    assert [is_downgrade(step) for step in cohort.steps] == [False, True, True, False]
    assert all(is_downgrade(step) for step in cohort.way_back if step.move in ("cudnn", "nccl"))


def test_a_build_that_nobody_offers_is_told() -> None:
    cohort = cohort_of(machine(builds=(12,)))
    assert by_move(cohort) == {}
    told = [text for text in cohort.steps[-1].remarks or () if "is built for cuda_toolkits 12" in text]
    assert len(told) == 2
    assert "nccl 2.28.9 is built for cuda_toolkits 12, the last of which goes, and stays so: the repo" in told[1]


def test_a_build_stays_while_a_toolkit_of_its_major_does() -> None:
    cohort = cohort_of(machine(), cuda_toolkits={"present": ["13.0"], "default": "13.0"})
    assert [s.title for s in cohort.steps] == ["add cuda_toolkits 13.0.1"]


def test_a_library_that_moves_itself_has_no_second_step() -> None:
    newer = {n.replace("12", "13"): "9.16.0.29-1" for n in CUDNN[12]}
    facts = machine()
    facts = facts.model_copy(update={"available": {**(facts.available or {}), **offered(CUDNN[13], newer)}})
    steps = cohort_of(facts, cudnn="9.16").steps
    assert [s.title for s in steps if s.move == "cudnn"] == ["cudnn 9.15.1.9 -> 9.16.0.29"]
    assert steps[-1].title == "remove cuda_toolkits 12.9.1"


def test_a_build_that_only_the_package_version_tells_is_known_too() -> None:
    old = {"cuda-toolkit-11-8": "11.8.0-1", "libcudnn8": "8.9.7.29-1+cuda11.8"}
    facts = ubuntu(version=NEW, packages=old, libraries=(LibraryFacts(
        name="cudnn", version="8.9.7", path="/usr/lib/x86_64-linux-gnu/libcudnn.so.8.9.7", package="libcudnn8"),),
        toolkits=(ToolkitFacts(version="11.8.0", path="/usr/local/cuda-11.8", source="usr-local", default=True),))
    newer = {"cuda-toolkit-12-6": "12.6.3-1"}
    facts = facts.model_copy(update={"available": {**(facts.available or {}), **offered(newer, old)}})
    wanted = {"present": ["12.6"], "absent": ["11.*"], "default": "12.6"}
    last = cohort_of(facts, cuda_toolkits=wanted).steps[-1]
    assert any("cudnn 8.9.7 is built for cuda_toolkits 11" in text for text in last.remarks or ())
