"""The example stacks of ``planner lab up``: which nodes, with what installed, and what their repositories offer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from planner.diagnostics import Diagnostic
from planner.documents import parse_yaml
from planner.errors import LabError
from planner.lab.spec import Manager, NodeSpec
from planner.lab.tools import HERE

HEAD = "ctl"                # a node without GPUs, for a scheduler's controller
START = "start"


@cache
def _examples() -> dict[str, Any]:
    text = (HERE / "stacks.yml").read_text(encoding="utf-8")
    document: dict[str, Any] = parse_yaml(text, name="stacks.yml", error=LabError)
    return document


def gpu_kinds() -> tuple[str, ...]:
    """Return the words for GPUs that ``planner lab up`` takes."""
    return tuple(_examples()["gpus"])


def example_specs(
    managers: Sequence[Manager], kinds: Sequence[str], *, bare: bool = False, head: bool = False,
) -> list[NodeSpec]:
    """Return nodes ``n01`` … with the example stack installed.

    Args:
        managers: Package manager of each node.
        kinds: Words for GPUs, given out in turn; empty: the first one for all.
        bare: Install nothing.
        head: Add a node without GPUs.

    Raises:
        LabError: There is no such GPU.
    """
    known = _examples()["gpus"]
    unknown = [kind for kind in kinds if kind not in known]
    if unknown:
        raise LabError(Diagnostic(code="lab-spec", subject=unknown[0], summary="no stand-in for this GPU",
                                  why=(", ".join(known),), hint="planner lab up --help"))
    specs = []
    for index, manager in enumerate(managers):
        gpu = known[kinds[index % len(kinds)] if kinds else next(iter(known))]
        packages = {} if bare else _driver(manager, _examples()["drivers"][START], gpu) | _examples()[manager][START]
        specs.append(NodeSpec(
            f"n{index + 1:02d}", manager=manager, gpu_name=gpu["name"], compute_capability=gpu["compute_capability"],
            memory_mib=gpu["memory_mib"], nvswitch=gpu["nvswitch"], packages=packages))
    if head:
        specs.append(NodeSpec(HEAD, gpus=0))
    return specs


def example_packages(managers: Sequence[Manager]) -> dict[Manager, list[tuple[str, str]]]:
    """Return what the repositories offer: every example driver in both flavours, kernels, toolkits, libraries."""
    examples = _examples()
    drivers = [examples["drivers"][START], *examples["drivers"]["offered"]]
    offered: dict[Manager, list[tuple[str, str]]] = {}
    for manager in sorted(set(managers)):
        pairs = {tuple(pair) for pair in examples[manager]["offered"]} | set(examples[manager][START].items())
        for driver in drivers:
            for gpu in examples["gpus"].values():
                pairs |= set(_driver(manager, driver, {**gpu, "nvswitch": True}).items())
        offered[manager] = sorted(pairs)
    return offered


def _driver(manager: Manager, driver: str, gpu: dict[str, Any]) -> dict[str, str]:
    """Return a driver's packages with exact versions, companions included where the machine has switches."""
    mine = _examples()[manager]
    branch = driver.split(".", 1)[0]
    names = mine.get("fabric_names", {})
    words = {"driver": driver, "branch": branch, "open": "-open" if gpu["open"] else "",
             "rpm_flavour": "open" if gpu["open"] else "latest",
             "rpm_fabric": names.get(branch, names.get("default", ""))}
    templates = {**mine["driver"], **(mine["fabric"] if gpu["nvswitch"] else {})}
    return {name.format(**words): version.format(**words) for name, version in templates.items()}
