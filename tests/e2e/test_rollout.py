"""A whole rollout on eight lab nodes, four of them under Slurm: kernel, driver, fabric manager, toolkit, NCCL.

Jobs may span the four under Slurm, so while some have the new NCCL and some the old, marks keep jobs to one half.

The lab, the rollout and everything that is looked at happen once, in ``story``; the tests say what must have been so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from planner.emit.write import read_bundle
from planner.lab.spec import NodeSpec
from planner.lab.stacks import HEAD, example_specs
from planner.schedule.fences import fence_mark
from tests.e2e.conftest import Site, StartSite, wait
from tests.e2e.watch import Record, Watch

pytestmark = pytest.mark.lab

HGX = ("n01", "n02", "n03", "n04")
PCIE = ("n05", "n06", "n07", "n08")
MOVING = HGX + PCIE
SPARE = "n09"                                   # in Slurm and in the inventory, its pool is skipped
# Without the limit per failure domain, the first batch after the canaries would be four nodes of one rack.
# The canaries, n01 and n05, stand in different racks: so they are chosen where there is a choice.
RACKS = {"rack-a": ("n01", "n02", "n03", "n06", "n07"), "rack-b": ("n04", "n05", "n08")}
LIMIT = 2
PERSON = "anna: bad fan"
FEATURE = "fast"                                # a person's, on n02
OLD_KERNEL, NEW_KERNEL = "6.8.0-85-generic", "6.8.0-87-generic"
OLD_DRIVER, NEW_DRIVER = "570.195.03", "580.105.08"
# Nodes without switches have a hold of a person's, and a timer that would upgrade them by itself. All of them have it:
# one that differs would be a kind of its own, with a canary of its own.
HELD_BY_A_PERSON = f"linux-image-{OLD_KERNEL}"
TARGET: dict[str, Any] = {
    "want": {"kernel": NEW_KERNEL, "driver": NEW_DRIVER, "nccl": "2.28.9",
             "cuda_toolkits": {"present": ["12.8", "13.0"], "default": "13.0"}},
    "pools": {"spare": {"skip": True}},
    "rollout": {"max_unavailable": LIMIT, "max_unavailable_per_domain": LIMIT, "canary": "auto", "soak_minutes": 0},
}
DRIVER_PACKAGES = {"nvidia-headless-580-server-open", "nvidia-dkms-580-server-open", "nvidia-kernel-common-580-server",
                   "libnvidia-compute-580-server", "nvidia-utils-580-server"}
# A job that ends only after the node is seen draining, and then tells in which boot it ended.
JOB = "until [ -e /var/tmp/go ]; do sleep 0.2; done; sleep 2; cat /proc/sys/kernel/random/boot_id > /var/tmp/job-ended"
UNITS = "/etc/systemd/system/dnf-automatic"
TIMER = f"""printf '[Timer]\\nOnCalendar=yearly\\n[Install]\\nWantedBy=timers.target\\n' > {UNITS}.timer
printf '[Service]\\nType=oneshot\\nExecStart=/bin/true\\n' > {UNITS}.service
systemctl daemon-reload && systemctl enable -q --now dnf-automatic.timer"""


@dataclass
class Story:
    """What was seen, in the order in which it happened."""

    site: Site
    bundle: Path
    seen: Record
    boots: dict[str, str]                                         # boot ids before the rollout
    before: dict[str, tuple[str, str]]                            # traces before the rollout
    after_canary: dict[str, Any] = field(default_factory=dict)
    features: dict[str, str] = field(default_factory=dict)        # after the canaries, as Slurm says
    jobs: dict[int, str] = field(default_factory=dict)            # what becomes of jobs of so many nodes in one half
    job: str = ""
    job_ended_in: str = ""
    draining_with_job: str = ""
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    before_again: dict[str, tuple[str, str]] = field(default_factory=dict)
    after_again: dict[str, tuple[str, str]] = field(default_factory=dict)
    again: str = ""
    plan_again: dict[str, Any] = field(default_factory=dict)
    plan_again_code: int = -1


def specs() -> list[NodeSpec]:
    """Return four HGX nodes, four without switches, one spare, and Slurm's head."""
    found = []
    for spec in example_specs(["apt"] * 9, ["h100"], head=True):
        rack = {"planner_failure_domain": "rack-a" if spec.name in RACKS["rack-a"] else "rack-b"}
        slurm = {"planner_scheduler": "slurm", "planner_slurm_host": HEAD, "planner_slurm_node": spec.name,
                 "planner_drain_poll_s": "1"}
        without = {name: version for name, version in spec.packages.items()
                   if "fabricmanager" not in name and "nscq" not in name}
        pcie = replace(spec, gpus=2, gpu_name="NVIDIA A100 80GB PCIe", compute_capability="8.0", memory_mib=81920,
                       nvswitch=False, packages=without)
        if spec.name == HEAD:
            found.append(replace(spec, machine_vars={"planner_role": "scheduler"}))
        elif spec.name in HGX:
            found.append(replace(spec, gpus=2, machine_vars={"planner_pool": "hgx", "planner_comm_domain": "ib", **rack,
                                                             **slurm}))
        elif spec.name in PCIE:
            found.append(replace(pcie, machine_vars={"planner_pool": "pcie", **rack}))
        else:
            found.append(replace(pcie, machine_vars={"planner_pool": "spare", **slurm}))
    return found


def slurm_says(site: Site, node: str) -> str:
    """Return a node's state and reason."""
    return site.say(HEAD, f"sinfo -h -n {node} -o '%T %E'")


def features(site: Site) -> dict[str, str]:
    """Return the features of Slurm's nodes, "" for none."""
    said = (line.partition(" ") for line in site.say(HEAD, "sinfo -h -N -o '%N %b'").splitlines())
    return {node: features.strip().replace("(null)", "") for node, _, features in said}


def traces(site: Site) -> dict[str, tuple[str, str]]:
    """Return what any package act or reboot would change: node -> (size of dpkg's log, boot id)."""
    return {node: (site.say(node, "stat -c %s /var/log/dpkg.log"), site.lab.boot_id(node)) for node in MOVING}


@pytest.fixture(scope="module")
def site(start_site: StartSite) -> Site:
    """The lab with Slurm, and what people have done to it before planner came."""
    site = start_site(specs())
    site.lab.slurm(HEAD, [*HGX, SPARE])
    site.lab.exec(HEAD, "scontrol", "update", f"NodeName={SPARE}", "State=DRAIN", f"Reason={PERSON}")
    site.lab.exec(HEAD, "scontrol", "update", "NodeName=n02",
                  f"AvailableFeatures={FEATURE}", f"ActiveFeatures={FEATURE}")
    for node in PCIE:
        site.lab.exec(node, "apt-mark", "hold", HELD_BY_A_PERSON)
        site.lab.exec(node, "sh", "-ec", TIMER)
    return site


def watch_of(site: Site) -> Watch:
    """Return a watch on pools and racks."""
    return Watch(site.lab, {"hgx": HGX, "pcie": PCIE, "spare": (SPARE,), **RACKS}, controller=HEAD)


@pytest.fixture(scope="module")
def story(site: Site) -> Story:
    """Everything, once."""
    bundle = site.plan(TARGET)
    watch = watch_of(site)
    boots = {node: site.lab.boot_id(node) for node in site.lab.nodes()}
    story = Story(site, bundle, watch.record, boots, traces(site))
    with watch.watching():
        canary(site, story)
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


def canary(site: Site, story: Story) -> None:
    """Apply the canary wave while a job runs on its Slurm node; exit code 8."""
    job = site.say(HEAD, f"sbatch --parsable -w n01 --gres=gpu:2 -o /var/tmp/job.out --wrap '{JOB}'")
    wait(lambda: site.say(HEAD, f"squeue -h -j {job} -o %T") == "RUNNING", "the job runs")
    running = site.start("apply", story.bundle, "--canary")
    wait(lambda: slurm_says(site, "n01").startswith("draining") or running.poll() is not None, "n01 drains", 120)
    story.draining_with_job = slurm_says(site, "n01")
    site.lab.exec("n01", "touch", "/var/tmp/go")
    site.finish(running, code=8)
    story.job = site.say(HEAD, f"scontrol -o show job {job}")
    story.job_ended_in = site.say("n01", "cat /var/tmp/job-ended")
    story.after_canary = site.status(story.bundle)
    story.features = features(site)
    mark = fence_mark(read_bundle(story.bundle))
    for nodes in (3, 4):
        asked = f"sbatch --parsable -N {nodes} --constraint='[{mark}-old|{mark}-new]' -o /dev/null --wrap true"
        story.jobs[nodes] = site.say(HEAD, asked)
    half = f"scontrol -o show job {story.jobs[3]}"
    wait(lambda: "JobState=COMPLETED" in site.say(HEAD, half), "a job of one half ends")
    story.jobs[3] = site.say(HEAD, half)


def test_the_watch_itself_sees_too_many_down(site: Site) -> None:
    """Three nodes of a pool lose their power: the watch that later has to stay silent says so, and who and why."""
    with watch_of(site).watching() as seen:
        wait(lambda: seen.samples > 1, "the watch looks")
        for node in ("n05", "n06", "n07"):
            site.lab.power(node, "cycle")
        wait(lambda: seen.most["pcie"] == 3, "the watch sees them down")
        # Whole again before anything else begins.
        wait(lambda: not set(watch_of(site).look()) & set(MOVING), "all nodes are up again")
    assert set(seen.beyond(LIMIT)) == {"pcie"}
    assert set(seen.worst["pcie"]) == {"n05", "n06", "n07"}
    assert all({"off", "no ssh"} & why for why in seen.worst["pcie"].values())
    assert seen.reasons[SPARE] == {"slurm drained"}


def test_canaries_of_every_class_move_first_and_stop_for_a_person(story: Story) -> None:
    """Exit code 8 was asserted on the way; the two canaries are done, everybody else is untouched."""
    nodes = story.after_canary["nodes"]
    assert story.after_canary["waits_for_approval"] == ["w1"]
    assert {name for name, node in nodes.items() if node["state"] == "done"} == {"n01", "n05"}
    assert {node["state"] for name, node in nodes.items() if name not in ("n01", "n05")} == {"pending"}


def test_while_the_domain_is_mixed_marks_keep_jobs_to_one_half(story: Story) -> None:
    """The canary is new, its domain's other nodes are old; a job of one half gets these, one of four is refused."""
    plan = read_bundle(story.bundle)
    assert [(w.domain, w.components, w.fences, w.unfenced) for w in plan.mixed or ()] == [
        ("ib", ("nccl",), ("slurm",), 0)]
    mark = fence_mark(plan)
    assert story.features == {"n01": f"{mark}-new", "n02": f"{FEATURE},{mark}-old", "n03": f"{mark}-old",
                              "n04": f"{mark}-old", SPARE: ""}
    assert " NodeList=n[02-04] " in story.jobs[3]
    assert "Requested node configuration is not available" in story.jobs[4]


def test_a_running_job_ends_undisturbed_before_its_node_reboots(story: Story) -> None:
    """Slurm drained under the job; it ended in the old boot, once, and completed."""
    assert story.draining_with_job == f"draining planner {rollout_of(story)}"
    assert "JobState=COMPLETED" in story.job
    assert "Restarts=0" in story.job
    assert "ExitCode=0:0" in story.job
    assert story.job_ended_in == story.boots["n01"]
    assert story.site.lab.boot_id("n01") != story.boots["n01"]


def test_never_more_down_than_allowed(story: Story) -> None:
    """Seen from outside, at no look more than the limit per pool and per rack; and the watch saw every node go."""
    seen = story.seen
    assert seen.beyond(LIMIT) == {}, seen.timeline
    assert {"hgx", "pcie", *RACKS} <= set(seen.most)
    assert (seen.most["hgx"], seen.most["pcie"]) == (LIMIT, LIMIT), seen.timeline     # batches use the room they have
    for node in MOVING:
        assert {"off", "driver"} & seen.reasons[node], (node, seen.timeline)
    assert all("slurm drained" in seen.reasons[node] and "marks" in seen.reasons[node] for node in HGX)
    assert seen.reasons[SPARE] == {"slurm drained"}


def test_all_nodes_are_at_the_target(story: Story) -> None:
    """By discovery, and by asking each node itself."""
    site = story.site
    for node in MOVING:
        facts = story.facts[node]
        assert facts["kernel"]["running"] == NEW_KERNEL
        assert facts["driver"]["loaded"] == NEW_DRIVER
        assert {t["version"] for t in facts["toolkits"]} == {"12.8.1", "13.0.2"}
        installed = dict(line.split("\t") for line in site.say(
            node, "dpkg-query -W -f '${Package}\\t${Version}\\n'").splitlines())
        assert {name for name in installed if "-580-server" in name} == DRIVER_PACKAGES
        assert not [name for name in installed if "-570" in name]
        assert {installed[name].split("-")[0] for name in DRIVER_PACKAGES} == {NEW_DRIVER}
        assert installed["libnccl2"] == "2.28.9-1+cuda13.0+standin"
        assert {"cuda-toolkit-12-8", "cuda-toolkit-13-0"} <= set(installed)
        assert {f"linux-image-{OLD_KERNEL}", f"linux-image-{NEW_KERNEL}"} <= set(installed)
        assert site.say(node, "uname -r; cat /sys/module/nvidia/version").split() == [NEW_KERNEL, NEW_DRIVER]
        assert site.say(node, "readlink -f /usr/local/cuda") == "/usr/local/cuda-13.0"
        assert site.say(node, "dpkg --audit; systemctl --failed --no-legend") == ""
    for node in HGX:
        assert site.say(node, "systemctl is-active nvidia-fabricmanager") == "active"
        assert story.facts[node]["fabric_manager"]["version"].startswith(NEW_DRIVER)
        assert site.lab.status()[node]["fabric_manager"] == NEW_DRIVER


def test_nothing_of_the_rollout_is_left(story: Story) -> None:
    """Leases, holds, timers, drains and units are gone on every node, and there had been some."""
    site = story.site
    for node in MOVING:
        assert site.lease(node) == {}
        assert not {"held", "timers", "drained"} & set(site.marks(node)[rollout_of(story)])
        assert site.say(node, "apt-mark showhold") == (HELD_BY_A_PERSON if node in PCIE else "")
        assert site.say(node, "systemctl list-units --all --no-legend 'planner-step-*'") == ""
        assert "held" in story.seen.mark_keys[node]
    for node in PCIE:
        said = site.say(node, "systemctl is-enabled dnf-automatic.timer; systemctl is-active dnf-automatic.timer")
        assert said.split() == ["enabled", "active"]
        assert "timers" in story.seen.mark_keys[node]
    assert {slurm_says(site, node) for node in HGX} == {"idle none"}
    assert features(site) == {**dict.fromkeys((*HGX, SPARE), ""), "n02": FEATURE}
    assert sorted(path.stem for path in (story.bundle / "records").rglob("n0*.json")) == sorted(MOVING)


def test_what_is_not_of_the_rollout_stays_as_it_was(story: Story) -> None:
    """The spare node keeps the person's drain; it, and Slurm's head, were never touched."""
    site = story.site
    assert slurm_says(site, SPARE) == f"drained {PERSON}"
    for node in (SPARE, HEAD):
        assert site.lab.boot_id(node) == story.boots[node]
        assert site.say(node, "test -e /var/lib/planner; echo $?") == "1"
    assert story.facts[SPARE]["driver"]["loaded"] == OLD_DRIVER


def test_a_second_apply_changes_nothing(story: Story) -> None:
    """Exit code 0 was asserted on the way; no package act, no reboot; and a fresh plan has nothing to do."""
    assert "nothing to do" in story.again
    assert story.after_again == story.before_again
    for node in MOVING:     # what was compared is something that the rollout did change
        assert all(old != new for old, new in zip(story.before[node], story.before_again[node], strict=True))
    assert story.plan_again_code == 0
    assert all(not cohort["steps"] for cohort in story.plan_again["cohorts"])
    assert {node for cohort in story.plan_again["cohorts"] for node in cohort["nodes"]} == set(MOVING)


def rollout_of(story: Story) -> str:
    """Return the rollout's name on nodes: the only one there is in the marks of a canary."""
    (name,) = story.site.marks("n01")
    return str(name)
