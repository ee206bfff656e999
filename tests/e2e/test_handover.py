"""Steps by other hands on a lab node: a person does one while the rollout is paused, the user's own tasks another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.lab.stacks import example_specs
from tests.e2e.conftest import Site, StartSite

pytestmark = pytest.mark.lab

NODE, DRIVER = "n01", "580.105.08"
TARGET: dict[str, Any] = {
    "want": {"driver": DRIVER, "toolkit_module": "12.8",
             "cuda_runtime": {"present": ["12.8"], "absent": ["12.4"]}},
    "rollout": {"max_unavailable": 1, "soak_minutes": 0},
}
# What a site would have: it notes what it was told, and does the work that its inventory then speaks of.
TASKS = """\
- name: Move the jobs of this node to the new images
  ansible.builtin.copy:
    dest: /etc/site-images
    content: "{{ planner_handover.move }} {{ planner_handover.title }}"
- name: Say so, as the site's inventory would
  ansible.builtin.set_fact:
    planner_workload_runtimes: ["12.8"]
"""


def declare(site: Site, **variables: Any) -> None:
    """Write variables of the node into the inventory, as a person does."""
    path = Path(site.lab.inventory_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    hosts = next(group["hosts"] for group in document.values() if NODE in group.get("hosts", {}))
    hosts[NODE].update(variables)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def test_a_rollout_waits_for_a_person_and_lets_the_sites_own_tasks_do_their_step(start_site: StartSite) -> None:
    site = start_site(example_specs(["apt"], ["h100"]))
    (Path(site.lab.inventory_path).parent / "images.yml").write_text(TASKS, encoding="utf-8")
    declare(site, planner_toolkit_module="12.4", planner_workload_runtimes=["12.4"],
            planner_handover_workload_runtime="images.yml")
    bundle = site.plan(TARGET)
    moves = [step.get("move") for step in json.loads((bundle / "plan.json").read_text())["cohorts"][0]["steps"]]
    assert {"module-default", "workload-runtime"} <= set(moves)

    assert moves.index("module-default") < moves.index("workload-runtime")

    paused = site.planner("apply", bundle, code=8).stderr
    assert "make cuda/12.8 the default of the module tree" in paused
    assert "planner resume" in paused
    assert site.status(bundle)["nodes"][NODE]["state"] != "done"
    assert "No such file" in site.say(NODE, "cat /etc/site-images")

    declare(site, planner_toolkit_module="12.8")
    site.planner("resume", bundle)
    assert site.say(NODE, "cat /etc/site-images").startswith("workload-runtime ")
    assert site.status(bundle)["nodes"][NODE]["state"] == "done"

    declare(site, planner_workload_runtimes=["12.8"])
    found = site.facts_of(site.discover("after.json"))[NODE]
    assert found["driver"]["loaded"] == DRIVER
    site.planner("plan", "--facts", "after.json", "--target", "target.yml", "--detailed-exitcode", code=0)
