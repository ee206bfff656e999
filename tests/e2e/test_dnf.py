"""A whole rollout on two dnf nodes: kernel, driver, renamed fabric manager, toolkit, NCCL."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from planner.lab.stacks import example_specs
from tests.e2e.conftest import Site, StartSite
from tests.e2e.watch import Record, Watch

pytestmark = pytest.mark.lab

NODES = ("n01", "n02")
OLD_KERNEL, NEW_KERNEL = "5.14.0-503.11.1.el9_5.x86_64", "5.14.0-503.15.1.el9_5.x86_64"
DRIVER = "580.105.08"
TARGET: dict[str, Any] = {
    "want": {"kernel": NEW_KERNEL, "driver": DRIVER, "nccl": "2.28.9",
             "cuda_toolkits": {"present": ["12.8", "13.0"], "default": "13.0"}},
    "rollout": {"max_unavailable": 1, "canary": "auto", "soak_minutes": 0},
}
NEW = {
    "kmod-nvidia-open-dkms": f"3:{DRIVER}-1.el9.standin", "nvidia-driver-cuda": f"3:{DRIVER}-1.el9.standin",
    "nvidia-driver-cuda-libs": f"3:{DRIVER}-1.el9.standin", "nvidia-kmod-common": f"3:{DRIVER}-1.el9.standin",
    "nvidia-fabricmanager": f"{DRIVER}-1.standin", "libnvidia-nscq-580": f"{DRIVER}-1.standin",
    "libnccl": "2.28.9-1+cuda13.0.standin", "cuda-toolkit-12-8": "12.8.1-1.standin",
    "cuda-toolkit-13-0": "13.0.2-1.standin",
}
GONE = {"nvidia-fabric-manager", "libnvidia-nscq-570"}


@dataclass
class Story:
    """What was seen."""

    site: Site
    bundle: Path
    seen: Record
    before: dict[str, tuple[str, ...]]
    after_canary: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    before_again: dict[str, tuple[str, ...]] = field(default_factory=dict)
    after_again: dict[str, tuple[str, ...]] = field(default_factory=dict)
    again: str = ""
    plan_again: dict[str, Any] = field(default_factory=dict)
    plan_again_code: int = -1


def traces(site: Site) -> dict[str, tuple[str, ...]]:
    """Return what any package act or reboot would change: node -> (lines of dnf's history, its packages, boot id)."""
    return {node: (site.say(node, "dnf -C -q history list | wc -l"), site.say(node, "rpm -qa --last | sort | md5sum"),
                   site.lab.boot_id(node)) for node in NODES}


@pytest.fixture(scope="module")
def story(start_site: StartSite) -> Story:
    """Everything, once; exit codes are asserted on the way."""
    site = start_site([replace(spec, gpus=2) for spec in example_specs(["dnf", "dnf"], ["h100"])])
    bundle = site.plan(TARGET)
    watch = Watch(site.lab, {"all": NODES})
    story = Story(site, bundle, watch.record, traces(site))
    with watch.watching():
        site.planner("apply", bundle, "--canary", code=8)
        story.after_canary = site.status(bundle)
        site.planner("approve", bundle, "--because", "looked at")
        site.planner("resume", bundle)
    story.facts = site.facts_of(site.discover("after.json"))
    story.before_again = traces(site)
    story.again = site.planner("apply", bundle).stderr
    story.after_again = traces(site)
    done = site.planner("plan", "--facts", "after.json", "--target", "target.yml", "--detailed-exitcode", "-o", "json",
                        code=None)
    story.plan_again_code, story.plan_again = done.returncode, json.loads(done.stdout)
    return story


def test_canary_first_and_never_both_down(story: Story) -> None:
    """One node at a time, seen from outside; and each was seen going."""
    assert {name: node["state"] for name, node in story.after_canary["nodes"].items()} == {
        "n01": "done", "n02": "pending"}
    assert story.seen.beyond(1) == {}, story.seen.timeline
    for node in NODES:
        assert {"off", "driver"} & story.seen.reasons[node], story.seen.timeline


def test_nodes_are_at_the_target(story: Story) -> None:
    """By discovery, and by asking each node itself; the old kernel stays beside the new one."""
    site = story.site
    for node in NODES:
        facts = story.facts[node]
        assert (facts["kernel"]["running"], facts["driver"]["loaded"]) == (NEW_KERNEL, DRIVER)
        assert {t["version"] for t in facts["toolkits"]} == {"12.8.1", "13.0.2"}
        lines = site.say(node, "rpm -qa --qf '%{NAME}\\t%{EPOCH}:%{VERSION}-%{RELEASE}\\n'").splitlines()
        installed = [(name, version.removeprefix("(none):")) for name, version in (line.split("\t") for line in lines)]
        assert set(NEW.items()) <= set(installed)
        assert not GONE & {name for name, _ in installed}
        assert {version for name, version in installed if name == "kernel-core"} == {
            "5.14.0-503.11.1.el9_5.standin", "5.14.0-503.15.1.el9_5.standin"}
        assert site.say(node, "uname -r; cat /sys/module/nvidia/version").split() == [NEW_KERNEL, DRIVER]
        assert site.say(node, "systemctl is-active nvidia-fabricmanager") == "active"
        assert site.lab.status()[node]["fabric_manager"] == DRIVER
        assert site.say(node, "readlink -f /usr/local/cuda") == "/usr/local/cuda-13.0"
        assert site.say(node, "systemctl --failed --no-legend") == ""


def test_nothing_is_left_and_a_second_apply_changes_nothing(story: Story) -> None:
    """No lease, no drain, no hold, no unit; nothing to do for the same bundle and for a fresh plan."""
    site = story.site
    for node in NODES:
        assert site.lease(node) == {}
        (marks,) = site.marks(node).values()
        assert not {"held", "timers", "drained"} & set(marks)
        assert marks["gate"]["verdict"] == "pass"
        assert site.say(node, "cat /etc/dnf/plugins/versionlock.list 2>/dev/null") == ""
        assert site.say(node, "systemctl list-units --all --no-legend 'planner-step-*'") == ""
        assert all(old != new for old, new in zip(story.before[node], story.before_again[node], strict=True))
    assert "nothing to do" in story.again
    assert story.after_again == story.before_again
    assert story.plan_again_code == 0
    assert all(not cohort["steps"] for cohort in story.plan_again["cohorts"])
    assert {node for cohort in story.plan_again["cohorts"] for node in cohort["nodes"]} == set(NODES)
