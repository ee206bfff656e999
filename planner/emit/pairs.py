"""The play that lets an upgraded node and one that waits do an all-reduce, beside the plays of the waves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.schedule.pairs import paired_domains
from planner.schedule.plan import Plan

PAIR_PLAY = "plays/pairs.yml"


def pair_plays(plan: Plan, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the plays; none where no domain is paired.

    Args:
        plan: The plan.
        variables: What every play of the bundle has: rollout, probe, owner, token.
    """
    names = sorted(name for nodes in paired_domains(plan).values() for name in nodes)
    if not names:
        return []
    ask = {"that": "planner_pair is defined", "quiet": True,
           "fail_msg": "give two nodes of one communication domain, as in -e planner_pair=a,b"}
    return [
        {"name": "Ask for a pair", "hosts": "localhost", "connection": "local", "gather_facts": False,
         "tasks": [{"name": "Refuse to run without a pair", "ansible.builtin.assert": ask}]},
        {"name": "All-reduce of an upgraded node and one that waits",
         "hosts": "{{ planner_pair | default('no_pair_given') }}",
         "gather_facts": False, "become": True, "strategy": "linear",
         "environment": {"PLANNER_RUN_ID": "{{ planner_run_id | default('by-hand') }}"},
         "vars": {
             "planner_machine_ids": {name: plan.nodes[name].machine_id for name in names},
             "planner_schedulers": {name: plan.nodes[name].scheduler for name in names},
             "planner_drain_timeout_s": plan.rollout.drain_timeout_minutes * 60,
             **variables,
             "planner_probe_zip": "{{ playbook_dir | dirname }}/files/probe.zip",
             "planner_nccl_out": "{{ playbook_dir | dirname }}/records/nccl",     # nothing else may lie in a bundle
         },
         "tasks": [{"name": "Sum over both, and give them back", "ansible.builtin.import_role": {
             "name": "planner_pair"}}]},
    ]
