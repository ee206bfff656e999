"""From a plan to the text of a bundle. Pure: the same plan and assets give the same bytes.

Every value that comes from people or nodes is data: names are checked against an alphabet or refused, texts that could
be taken for a template are tagged unsafe, and YAML has one dumper. Nothing is spliced into YAML or Jinja text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from planner.diagnostics import Diagnostic
from planner.documents import canonical_json, digest, dump_model
from planner.emit.fences import FENCE_FILE, FENCE_VARS, fence_ids, fence_variables
from planner.emit.review import render_review
from planner.errors import BundleError
from planner.model.version import version_key
from planner.schedule.plan import Cohort, Plan, Step, Wave

BUNDLE_SCHEMA = "planner.bundle/1"
MANIFEST = "MANIFEST.json"
PLAN_FILE = "plan.json"
REVIEW_FILE = "PLAN.md"
PROBE_FILE = "files/probe.zip"
LIBRARIES = frozenset({"cudnn", "nccl", "tensorrt"})     # gates of the same names look for their files
NODE_DIR = "/var/lib/planner"
YAML_WIDTH = 120
_FOR_PEOPLE = ("because", "notes", "risks", "remarks")     # of a step, in PLAN.md and plan.json alone
UNIT_WAIT_FACTOR = 6        # a step's unit is waited for this many times its planned minutes, …
UNIT_WAIT_LEAST_S = 3600    # … at least this long

# Templates of our own; the engine overrides owner and token by extra variables.
OWN_TEMPLATES: Mapping[str, str] = {
    "planner_probe_python": "{{ planner_python | default(ansible_facts['discovered_interpreter_python'])"
                            " | default(ansible_python_interpreter) | default('python3') }}",
    "planner_owner": "{{ lookup('ansible.builtin.env', 'USER', default='somebody') }}, by hand",
}

_WORDS: Mapping[str, re.Pattern[str]] = {
    "host name": re.compile(r"(?!(?:all|ungrouped)$)[A-Za-z0-9_][A-Za-z0-9._-]*"),
    "id": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
    "play path": re.compile(r"plays/[A-Za-z0-9][A-Za-z0-9._-]*\.yml"),
    "package name": re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*"),
    "package glob": re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_*?\[\]-]*"),
    "package version": re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~^_-]*"),
    "unit name": re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:-]*"),
    "path": re.compile(r"(?:/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+"),
    "machine id": re.compile(r"[0-9A-Fa-f-]+"),
    "scheduler": re.compile(r"none|slurm|kubernetes|hook"),
}


class Unsafe(str):
    """A text that Ansible must not take for a template."""

    __slots__ = ()


class Shared(list[Any]):
    """A list that several plays of a file need: written out once, referred to by the others."""


class _Dumper(yaml.SafeDumper):
    """The one YAML dumper of bundles: block style, lists indented, anchors for ``Shared`` lists alone."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return not isinstance(data, Shared)


_Dumper.add_representer(Shared, lambda dumper, items: dumper.represent_list(items))
_Dumper.add_representer(Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


def dump_yaml(value: object) -> str:
    """Return the one YAML text of a value; keys keep their order, which is meaning in a play."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=YAML_WIDTH, allow_unicode=True,
                     default_flow_style=False)


class Blocks:
    """What all waves of a cohort carry alike, dumped once: in plays a word stands for it, and its text is set in last.

    The words hold the plan's digest, so no value of the plan can be taken for one.
    """

    def __init__(self, plan_digest: str) -> None:
        self._stem = "block-" + plan_digest.removeprefix("sha256:")
        self._texts: dict[str, str] = {}
        self._words: dict[tuple[str, str], str] = {}
        self._dumped: dict[tuple[str, str], str] = {}

    def of(self, cohort: str, key: str, make: Callable[[], Any]) -> Any:
        """Return what stands in a play for a value; an empty one stands for itself."""
        if (cohort, key) not in self._words:
            value = make()
            if not value:
                return value
            word = f"{self._stem}-{len(self._words)}-end"
            same = (key, json.dumps(value))      # cohorts are often alike in all that a play carries
            if same not in self._dumped:
                self._dumped[same] = dump_yaml(value)
            self._words[cohort, key], self._texts[word] = word, self._dumped[same]
        return self._words[cohort, key]

    def set_in(self, text: str) -> str:
        """Return YAML text with every word replaced by its block, two places further in than its key."""
        lines = []
        for line in text.splitlines(keepends=True):
            word = line.rpartition(" ")[2].rstrip("\n") if self._stem in line else ""
            if word in self._texts:
                key = line[: -len(word) - 2]
                indent = " " * (len(key) - len(key.lstrip(" ")) + 2)
                lines += [f"{key}\n", *(indent + part for part in self._texts[word].splitlines(keepends=True))]
            else:
                lines.append(line)
        return "".join(lines)


def rollout_id(plan: Plan) -> str:
    """Return the name of a rollout: leases, marks and units on nodes carry it. Another plan has another name."""
    return f"{plan.name}-{plan.digest.removeprefix('sha256:')[:8]}"


def probe_path(probe: bytes) -> str:
    """Return where the probe lies on a node; another probe has another path."""
    return f"{NODE_DIR}/probe-{hashlib.sha256(probe).hexdigest()[:12]}.zip"


def render_bundle(plan: Plan, assets: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return bundle path -> content, the manifest included.

    Args:
        plan: Sealed and finished.
        assets: What does not depend on the plan (``planner.emit.assets.load_assets``).

    Raises:
        BundleError: The plan has no seal or digest; or a name in it is not safe to hand to Ansible.
    """
    _require_finished(plan)
    _require_safe(plan)
    files = dict(assets)
    files[PLAN_FILE] = canonical_json(dump_model(plan)).encode()
    files[REVIEW_FILE] = render_review(plan).encode()
    predecessor: Wave | None = None
    common = Common(probe_path(assets[PROBE_FILE]), Blocks(plan.digest), fence_ids(plan))
    header = (f"---\n# generated by planner {plan.planner_version} from plan {plan.digest};\n"
              "# edit the target, not this file\n")
    if common.fences:
        files[FENCE_FILE] = (header + dump_yaml(_inert(fence_variables(plan)))).encode()
    for wave in plan.waves:
        plays = _plays(plan, wave, predecessor, common)
        if not plays:
            continue
        files[wave.play] = (header + common.blocks.set_in(dump_yaml(plays))).encode()
        predecessor = wave
    files[MANIFEST] = canonical_json({
        "schema": BUNDLE_SCHEMA, "plan": plan.digest, "files": {path: digest(files[path]) for path in sorted(files)},
    }).encode()
    return dict(sorted(files.items()))


def moving_nodes(plan: Plan, wave: Wave) -> tuple[str, ...]:
    """Return the nodes of a wave that have steps, sorted: those are the ones a play touches."""
    moving = {name for cohort in plan.cohorts if cohort.steps for name in cohort.nodes}
    return tuple(sorted(name for batch in wave.batches for name in batch.nodes if name in moving))


class Common(NamedTuple):
    """What all plays of a bundle have in common."""

    probe: str
    blocks: Blocks
    fences: Mapping[str, str]         # node -> id of the fence around its half of a mixed domain


class Before(NamedTuple):
    """The wave that has to have passed first; the first one has ``""`` and nobody."""

    wave: str
    hosts: list[Any]


def _plays(plan: Plan, wave: Wave, predecessor: Wave | None, common: Common) -> list[dict[str, Any]]:
    here = set(moving_nodes(plan, wave))
    before = Before("", []) if predecessor is None else Before(
        predecessor.id, Shared(_inert(list(moving_nodes(plan, predecessor)))))
    return [_play(plan, wave, before, cohort, tuple(n for n in cohort.nodes if n in here), common)
            for cohort in plan.cohorts if not here.isdisjoint(cohort.nodes)]


def _play(plan: Plan, wave: Wave, before: Before, cohort: Cohort, hosts: tuple[str, ...],
          common: Common) -> dict[str, Any]:
    noun, members = "node" if len(hosts) == 1 else "nodes", frozenset(hosts)
    return {
        "name": plain(f"Wave {wave.id} ({wave.kind}), cohort {cohort.id}: {len(hosts)} {noun} with {cohort.gpu}"),
        "hosts": list(hosts),
        "gather_facts": False,
        "become": True,
        "strategy": "linear",
        # By hand no more nodes move at once than in the plan's largest batch; the engine limits each call to one batch.
        "serial": max(len(members.intersection(batch.nodes)) for batch in wave.batches),
        "environment": {"PLANNER_RUN_ID": "{{ planner_run_id | default('by-hand') }}"},
        **({"vars_files": [FENCE_VARS]} if members & common.fences.keys() else {}),
        "vars": _vars(plan, wave, before, cohort, hosts, common),
        "tasks": common.blocks.of(cohort.id, "tasks", lambda: _tasks(cohort)),
    }


def _vars(plan: Plan, wave: Wave, before: Before, cohort: Cohort, hosts: tuple[str, ...],
          common: Common) -> dict[str, Any]:
    def shared(key: str, make: Callable[[], Any]) -> Any:
        return common.blocks.of(cohort.id, key, lambda: _inert(make()))

    fences = {name: common.fences[name] for name in hosts if name in common.fences}

    packages = {name for step in cohort.steps for name in (*step.packages.install, *step.packages.remove)}
    managers = [step.packages.manager for step in cohort.steps if step.packages.manager != "none"]
    proofs = [proof for step in cohort.steps for proof in step.proofs or ()]
    fixed: dict[str, Any] = _inert({
        "planner_rollout": rollout_id(plan),
        "planner_wave": wave.id,
        "planner_predecessor": before.wave,
        "planner_cohort": cohort.id,
        "planner_machine_ids": {name: plan.nodes[name].machine_id for name in hosts},
        "planner_schedulers": {name: plan.nodes[name].scheduler for name in hosts},
        "planner_drain_timeout_s": plan.rollout.drain_timeout_minutes * 60,
        "planner_reboot_timeout_s": plan.rollout.reboot_timeout_minutes * 60,
        "planner_change_timeout_s": max(UNIT_WAIT_LEAST_S, *(s.minutes * 60 * UNIT_WAIT_FACTOR for s in cohort.steps)),
        "planner_manager": managers[0] if managers else "none",
        "planner_steps": shared("planner_steps", lambda: [_step(step) for step in cohort.steps]),
        "planner_downgrades": [step.id for step in cohort.steps if is_downgrade(step)],
        "planner_expect": shared("planner_expect", lambda: expectations(cohort)),
        "planner_probe": common.probe,
        "planner_probe_request": shared("planner_probe_request",
                                        lambda: {"packages": sorted(packages | set(cohort.installed))}),
        **({"planner_fence_of": fences} if fences else {}),
        **({"planner_proofs": [dump_model(proof) for proof in proofs]} if proofs else {}),
    })
    return {**fixed, "planner_predecessor_hosts": before.hosts, **OWN_TEMPLATES, "planner_token": 0}


def _step(step: Step) -> dict[str, Any]:
    """Return a step as a play carries it; reasons and release notes are in PLAN.md and plan.json."""
    fields = dump_model(step)
    return {key: fields[key] for key in Step.model_fields if key in fields and key not in _FOR_PEOPLE}


def expectations(cohort: Cohort) -> dict[str, dict[str, Any]]:
    """Return what must be found on a node at the start and after each step: ``{"start": …, "s1": …}``.

    The kernel counts from the step on that moves it: which one ran before is not the rollout's business.
    """
    state = {name: values[0] for name, values in cohort.start.items() if len(values) == 1}
    names = ["driver", "fabric_manager"]
    found = {"start": _expected(state, names, cohort)}
    for place, step in enumerate(cohort.steps, start=1):
        for change in step.changes:
            state[change.component] = change.to
            names += ["kernel"] * (change.component == "kernel")
        for name in step.unpredicted or ():
            state.pop(name, None)
        dropped = _dropped(cohort.steps[:place])
        found[step.id] = {**_expected(state, names, cohort), **({"dropped": dropped} if dropped else {})}
    return found


def _expected(state: Mapping[str, str], names: Sequence[str], cohort: Cohort) -> dict[str, Any]:
    return {**{name: state[name] for name in names if state.get(name)}, "gpus": len(cohort.gpu_names)}


def _dropped(steps: Sequence[Step]) -> list[str]:
    """Return what the gate may miss after these steps: folders of toolkits that went, and libraries that changed."""
    changes = [change for step in steps for change in step.changes]
    toolkits = [change for change in changes if change.component == "cuda_toolkits"]
    gone = {_folder(change.from_) for change in toolkits if change.from_}
    return sorted(gone - {_folder(change.to) for change in toolkits}) + sorted(
        LIBRARIES & {change.component for change in changes})


def _folder(toolkit: str) -> str:
    return f"/usr/local/cuda-{'.'.join(toolkit.split('.')[:2])}"


def is_downgrade(step: Step) -> bool:
    """Tell whether a step takes some component back to an older version; of two words neither is the older one."""
    return any(c.from_[:1].isdigit() and c.to[:1].isdigit() and version_key(c.to) < version_key(c.from_)
               for c in step.changes)


def _tasks(cohort: Cohort) -> list[dict[str, Any]]:
    tasks = [
        _task("Check that each node may be touched, and read its facts again", "preflight"),
        _task("Fetch every package, new and old", "prefetch"),
        _task("Drain the nodes", "drain"),
        _task("Take a baseline before anything changes", "baseline"),
    ]
    for place, step in enumerate(cohort.steps):
        this = f"planner_steps[{place}]"
        tasks.append(_task(f"Step {step.id}: {step.title}", "change", planner_change_step=_template(this)))
        if step.disruption in ("reboot", "module-reload"):
            expected = {f"planner_reboot_{name}": _template(f"planner_expect[{this}.id].{name} | default('')")
                        for name in ("driver", "kernel")}
            tasks.append(_task(f"Step {step.id}: {step.disruption}", "reboot", planner_reboot_step=_template(this),
                               **expected))
        if step.refresh:
            tasks.append(_refresh_task(step, this))
        if step.quick_gate:
            tasks.append(_task(f"Step {step.id}: quick gate", "gate", planner_gate_profile="quick",
                               planner_gate_step=step.id))
    return [
        *tasks,
        _task("Standard gate", "gate", planner_gate_profile="standard", planner_gate_step=""),
        _task("Give the nodes back", "undrain"),
        _task("Keep the records", "record"),
    ]


def _refresh_task(step: Step, this: str) -> dict[str, Any]:
    """Return the task that makes again what was generated; after the reboot, where there is one."""
    phase = "reboot" if step.disruption in ("reboot", "module-reload") else "change"
    task = _task(f"Step {step.id}: make generated files again", phase, planner_change_step=_template(this))
    return {**task, "ansible.builtin.import_role": {"name": "planner_change", "tasks_from": "refresh"}}


def _task(name: str, phase: str, **variables: str) -> dict[str, Any]:
    task: dict[str, Any] = {"name": plain(name), "ansible.builtin.import_role": {"name": f"planner_{phase}"}}
    if variables:
        task["vars"] = variables
    return {**task, "tags": [phase]}


def _template(expression: str) -> str:
    """Return a template of our own around an expression that holds no value of anybody's."""
    return "{{ " + expression + " }}"


def plain(text: str) -> str:
    """Return text fit for the name of a play or task: one line, nothing that starts a template, capital first."""
    line = re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).translate(str.maketrans("{}%#", "()__")).strip()
    return line[:1].upper() + line[1:]


def _inert(value: Any) -> Any:
    """Return plain values with every text that has a brace tagged unsafe."""
    if isinstance(value, str):
        return Unsafe(value) if "{" in value else value
    if isinstance(value, dict):
        return {key: _inert(item) for key, item in value.items()}
    return [_inert(item) for item in value] if isinstance(value, list | tuple) else value


def _require_finished(plan: Plan) -> None:
    sealed = plan.seal and plan.digest == digest(dump_model(plan.model_copy(update={"digest": ""})))
    if not sealed:
        raise BundleError(Diagnostic(code="plan-not-sealed", subject=f"plan {plan.name}",
                                     summary="the plan has no seal of the validator, or its digest does not fit",
                                     hint="make it again: planner plan --facts FACTS --target TARGET --out DIR"))


def _require_safe(plan: Plan) -> None:
    """Refuse words that Ansible, a shell or a package manager could take for something else; all are reported."""
    bad = sorted({(kind, word) for kind, word in _words(plan) if not _WORDS[kind].fullmatch(word)})
    if bad:
        raise BundleError(*(Diagnostic(
            code="unsafe-name", subject=f"{kind} {word!r}", summary=f"this {kind} cannot be handed to Ansible safely",
            why=(f"allowed is: {_WORDS[kind].pattern}",),
            hint="rename it in the inventory or the matrices, then plan again",
        ) for kind, word in bad))


def _paths(step: Step) -> list[str]:
    return [proof.file for proof in step.proofs or ()] + [item.file for item in step.refresh or ()]


def _words(plan: Plan) -> list[tuple[str, str]]:
    words = [("host name", name) for name in plan.nodes] + [("id", plan.name)]
    words += [("machine id", n.machine_id) for n in plan.nodes.values() if n.machine_id]
    words += [("scheduler", n.scheduler) for n in plan.nodes.values()]
    for wave in plan.waves:
        words += [("id", wave.id), ("play path", wave.play), *(("host name", n) for b in wave.batches for n in b.nodes)]
    for cohort in plan.cohorts:
        words += [("id", cohort.id), *(("host name", name) for name in cohort.nodes)]
        for step in cohort.steps:
            words += [("id", step.id), *(("unit name", unit) for unit in step.restarts)]
            words += [("package name", name) for name in (*step.packages.install, *step.packages.remove)]
            words += [("package version", version) for version in step.packages.install.values()]
            words += [("package glob", glob) for glob in step.packages.brings]
            words += [("path", path) for pair in step.links.items() for path in pair]
            words += [("path", path) for path in _paths(step) if path]
            words += [("id", step.move), *(("unit name", item.unit) for item in step.refresh or () if item.unit)]
    return words
