"""Runs the gate on hosts of an inventory, past every rollout: sends the probe, runs it once, removes it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from planner.facts.collect import Answers, ask_nodes
from planner.facts.inventory import Inventory
from planner.runner.port import HostEvent, PlaybookRunner

# Templates of the play; the request lies beside the probe, the host's name makes each node's kernels its own.
ARGV = ("gate", "--request", "@{{ planner_probe_dir.path }}/request.json", "--host", "{{ inventory_hostname }}")


def run_gates(inventory: Inventory, runner: PlaybookRunner, request: Mapping[str, Any], *, forks: int, timeout_s: int,
              on_event: Callable[[HostEvent], None] | None = None
              ) -> tuple[Answers, Callable[[str], dict[str, Any]]]:
    """Return what each host's probe printed, and a function that gives a host's request.

    Args:
        inventory: Hosts to ask.
        runner: Runs the play.
        request: ``profile`` and everything else that all hosts are asked alike.
        forks: Hosts at the same time.
        timeout_s: Limit of one host's probe.
        on_event: Called for every event.

    Raises:
        FactsError: Ansible ended before any host was asked.
    """
    asked = {**request, "nonce": secrets.token_hex(16)}
    answers = ask_nodes(inventory, runner, request=asked, forks=forks, probe_argv=ARGV, probe_timeout_s=timeout_s,
                        on_event=on_event, parse=lambda text: {"text": text})
    return answers, lambda host: {**asked, "host": host}
