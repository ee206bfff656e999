"""What a rehearsal needs beside the engine: lab nodes like the plan's, the bundle's own files, the verdict. Pure.

A rehearsal proves that these playbooks, roles and modules bring nodes from the plan's start to the plan's goal over
real SSH, package managers and reboots. It proves nothing about NVIDIA's software: packages and GPUs are stand-ins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.diagnostics import Diagnostic
from planner.emit.render import MANIFEST, PLAN_FILE, REVIEW_FILE, render_bundle
from planner.errors import BundleError
from planner.execute.predict import FOLLOWS_AFTER_REBOOT, path_values
from planner.lab.mirror import manager_of, stand_in_version
from planner.lab.spec import NodeSpec
from planner.schedule.plan import Cohort, Plan

SCHEMA = "planner.rehearsal/1"
STAND_INS = ("packages and GPUs are stand-ins: names, versions, order, reboots and gates are proved, NVIDIA's own code "
             "is not")
SIMULATED = "simulated, nothing proved"

State = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class RehearsedNode:
    """One lab node: whom it stands for, and what came of it."""

    name: str
    stands_for: str
    cohort: str
    state: str
    verdict: str
    boots: int
    missed: tuple[str, ...] = ()      # components that are not where the plan says


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """The whole result."""

    plan: str
    digest: str
    simulated: bool
    exit_codes: tuple[tuple[str, int], ...]
    nodes: tuple[RehearsedNode, ...]
    assets: Mapping[str, str] = field(default_factory=dict)     # bundle path -> digest, equal in bundle and lab
    seconds: float = 0.0
    trouble: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Tell whether every step ended as it should and every node is at its goal."""
        reached = all(node.state == "done" and not node.missed for node in self.nodes)
        return reached and bool(self.nodes) and not self.trouble


def assets_of(files: Mapping[str, bytes], plan: Plan) -> dict[str, bytes]:
    """Return what a bundle carries beside plan and plays, unchanged; its plays must be what its plan renders to.

    Raises:
        BundleError: A play is not what this planner renders from the plan and the bundle's own roles.
    """
    plays = {name for name in files if name.startswith("plays/")}
    assets = {name: content for name, content in files.items()
              if name not in plays and name not in (MANIFEST, PLAN_FILE, REVIEW_FILE)}
    rendered = render_bundle(plan, assets)
    unlike = sorted(name for name in plays | {n for n in rendered if n.startswith("plays/")}
                    if files.get(name) != rendered.get(name))
    if unlike:
        raise BundleError(*(Diagnostic(
            code="play-differs", subject=name, summary="this play is not what plan.json and the roles render to",
            hint="write the bundle again with this planner: planner plan --facts FACTS --target TARGET --out BUNDLE",
        ) for name in unlike))
    return assets


def lab_names(chosen: Iterable[str]) -> dict[str, str]:
    """Return lab node -> real node; lab names are short and sort like the real ones they stand for."""
    return {f"r{number:02d}": real for number, real in enumerate(chosen, start=1)}


def specs_for(plan: Plan, names: Mapping[str, str]) -> tuple[NodeSpec, ...]:
    """Return lab nodes in the state that the plan's nodes start from."""
    cohort_of = {node: cohort for cohort in plan.cohorts for node in cohort.nodes}
    return tuple(_spec(lab, cohort_of[real]) for lab, real in names.items())


def _spec(name: str, cohort: Cohort) -> NodeSpec:
    manager = manager_of(cohort)
    os_id, _, os_version = (cohort.start.get("os") or ("",))[0].partition("-")
    release = {"ID": os_id, "VERSION_ID": os_version,
               "PRETTY_NAME": f"Stand-in for {os_id} {os_version} (planner lab, Debian userland)"}
    # While libraries and module do not fit, NVML answers nobody: such a node's GPUs are not known before its reboot.
    return NodeSpec(
        name=name, manager=manager, gpus=len(cohort.gpu_names) or int(_loads(cohort)),
        gpu_name=(cohort.gpu_names or ("",))[0].replace(" (stand-in)", ""),
        compute_capability=(cohort.start.get("compute_capability") or ("9.0",))[-1],
        nvswitch=cohort.start.get("nvswitch") == ("yes",),
        packages={n: stand_in_version(v, manager) for n, v in sorted(cohort.installed.items())},
        kernel=(cohort.start.get("kernel") or ("",))[0],
        os_release=release if os_id and os_version else {},
    )


def still_running(plan: Plan, names: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield lab node, "driver" or "kernel", and what still runs of it although another is installed and boots next."""
    cohort_of = {node: cohort for cohort in plan.cohorts for node in cohort.nodes}
    for lab, real in names.items():
        start = cohort_of[real].start
        if "next_kernel" in start and "kernel" in start:
            yield lab, "kernel", start["kernel"][0]
        if _loads(cohort_of[real]):
            yield lab, "driver", start["loaded_driver"][0]


def _loads(cohort: Cohort) -> bool:
    return any(change.component in FOLLOWS_AFTER_REBOOT for step in cohort.steps for change in step.changes)


def missed_goals(cohort: Cohort, found: State) -> tuple[str, ...]:
    """Return sentences about components that are not where the plan's last step leaves them."""
    wanted = {name: cohort.goal.get(name, ()) for name in sorted(path_values(cohort))}
    wanted |= {loaded: wanted[name] for loaded, name in FOLLOWS_AFTER_REBOOT.items() if name in wanted}
    return tuple(f"{name} is {_words(found.get(name, ('unknown',)))}, planned {_words(values)}"
                 for name, values in wanted.items() if set(found.get(name, ("?",))) != set(values))


def _words(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "absent"


def as_document(result: Rehearsal) -> dict[str, Any]:
    """Return the JSON form of a result."""
    return {
        "schema": SCHEMA, "plan": result.plan, "digest": result.digest, "passed": result.passed,
        "proves": SIMULATED if result.simulated else STAND_INS, "simulated": result.simulated,
        "exit_codes": [{"command": command, "code": code} for command, code in result.exit_codes],
        "nodes": [{"node": n.name, "stands_for": n.stands_for, "cohort": n.cohort, "state": n.state,
                   "gate": n.verdict, "boots": n.boots, "missed": list(n.missed)} for n in result.nodes],
        "assets": dict(sorted(result.assets.items())), "seconds": round(result.seconds, 1),
        "trouble": list(result.trouble),
    }


def as_markdown(result: Rehearsal) -> str:
    """Return the report for a pull request."""
    verdict = "passed" if result.passed else "FAILED"
    lines = [f"# Rehearsal of {result.plan}: {verdict}", "", f"Plan `{result.digest}`.", "",
             f"**{SIMULATED if result.simulated else STAND_INS}.**", ""]
    lines += [f"- {text}" for text in result.trouble] + [""] * bool(result.trouble)
    lines += ["| lab node | stands for | cohort | state | gate | boots | not at its goal |", "|" + " --- |" * 7]
    lines += [f"| {n.name} | {n.stands_for} | {n.cohort} | {n.state} | {n.verdict or '-'} | {n.boots} | "
              f"{'; '.join(n.missed) or '-'} |" for n in result.nodes]
    lines += ["", "| command | exit code |", "| --- | --- |"]
    lines += [f"| `{command}` | {code} |" for command, code in result.exit_codes]
    if result.assets:
        lines += ["", (f"{len(result.assets)} files of the bundle (roles, modules, probe) ran unchanged; their digests "
                      "are in rehearsal.json.")]
    return "\n".join([*lines, "", f"{result.seconds:.0f} seconds.", ""])
