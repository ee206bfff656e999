"""From a path to steps: exact packages, links, reasons, release notes, and the way back."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from planner.check.judge import judgements_of
from planner.check.verdict import Judgement, Verdict
from planner.fleet.fleet import Node
from planner.fleet.packages import (
    Unresolvable,
    boot_entry_packages,
    brought_globs,
    fill,
    owner_set,
    resolve_install,
    resolve_remove,
)
from planner.fleet.parts import mixed_parts
from planner.fleet.state import asked_state, service_versions
from planner.matrix.conditions import matches_value
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Condition, State
from planner.model.target import ToolkitWant, Want
from planner.model.version import contains, newest, version_key
from planner.schedule.handover import handover_fields, step_fields, undo_by_hand
from planner.schedule.plan import Change, Claimed, Cohort, PackageAct, Step
from planner.search.problem import Path, Transition

UNASKED = "The target does not ask for this: without it no safe path leads there."
_Kind = TypeVar("_Kind", bound=tuple[object, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class StepList:
    """Steps of a path and its way back, or the first thing that cannot be turned into packages."""

    steps: tuple[Step, ...]
    way_back: tuple[Step, ...]
    no_return_after: str | None
    no_return_why: str
    no_return_packages: tuple[str, ...] = ()
    failure: str = ""


def build_steps(path: Path, node: Node, want: Want, matrices: MatrixSet, *, cuda_major: str,
                accepted: frozenset[str]) -> StepList:
    """Turn a path into steps with exact packages; the way back undoes them in reverse order."""
    installed, kept = dict(node.facts.packages), {**_lying(node, matrices), **kept_values(node, matrices)}
    steps: list[Step] = []
    back: list[Step] = []
    no_return: tuple[str, str, tuple[str, ...]] | None = None
    for number, transition in enumerate(path.transitions, start=1):
        before = dict(installed)
        move = next(m for m in matrices.moves if m.name == transition.move)
        act: PackageAct | str = PackageAct(manager="none")
        if move.act == "packages":
            becomes = carried_values(path.states[0], path.states[number], matrices)
            act = _package_act(transition, node, matrices, cuda_major, installed, path.states[number], becomes)
        if isinstance(act, str):
            return StepList(steps=(), way_back=(), no_return_after=None, no_return_why="", failure=act)
        for name in act.remove:
            installed.pop(name, None)
        installed.update(act.install)
        step = _step(f"s{number}", transition, act, path.states[number], matrices, accepted, kept)
        if not _asked_for(transition, want, matrices) and any(old != new for _, old, new in transition.changes):
            step = step.model_copy(update={"remarks": (*(step.remarks or ()), UNASKED)})
        if told := tuple(_in_the_way(transition, node)) if step.packages.install else ():
            step = step.model_copy(update={"remarks": (*(step.remarks or ()), *told)})
        steps.append(step)
        if step.handover:
            undo, why = undo_by_hand(step, move, path.states[number - 1])
            lost: tuple[str, ...] = ()
        else:
            undo, why, lost = _undo(step, before, node, matrices)
        back.insert(0, undo)
        if why and no_return is None:
            no_return = (step.id, why, lost)
    steps = _with_found_problems(_with_default_links(steps, path, node, want, matrices), node)
    after, why, lost = no_return or (None, "", ())
    return StepList(steps=tuple(steps), way_back=tuple(back), no_return_after=after, no_return_why=why,
                    no_return_packages=lost)


def carried_values(start: State, after: State, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return the values that packages of other components bring, as far as a step leaves them unlike the start."""
    return {name: after[name] for name, component in sorted(matrices.components.items())
            if component.carrier and name in after and after[name] != start.get(name)}


def _package_act(transition: Transition, node: Node, matrices: MatrixSet, cuda_major: str,
                 installed: Mapping[str, str], after: State, becomes: State) -> PackageAct | str:
    """Return the exact packages of one step; what other packages carry is brought by these, in their version."""
    install: dict[str, str] = {}
    remove: set[str] = set()
    brings: set[str] = set()
    manager = ""
    for component, old, new in _by_packages(transition.changes, after, matrices):
        turned = {n: v for n, v in becomes.items() if matrices.components[n].carrier == component}
        plan = resolve_install(component, new, node.facts, node.state, matrices, cuda_major=cuda_major,
                               installed=installed, becomes=turned) if new else \
            resolve_remove(component, old, node.facts, node.state, matrices, cuda_major=cuda_major, installed=installed)
        version = new or old
        if isinstance(plan, Unresolvable):
            return f"{component} {version}: {plan.reason}"
        install.update(plan.install)
        remove.update(plan.remove)
        brings |= brought_globs(component, [v for v in (old, new) if v], node.facts, node.state, matrices,
                                cuda_major=cuda_major)
        if turned:
            brings |= brought_globs(component, [new], node.facts, node.state, matrices, cuda_major=cuda_major,
                                    becomes=turned)
        manager = plan.manager
    assert manager in ("apt", "dnf"), f"unknown package manager {manager!r}"
    return PackageAct(manager="apt" if manager == "apt" else "dnf", install=dict(sorted(install.items())),
                      remove=tuple(sorted(remove - set(install))), brings=tuple(sorted(brings)))


def _by_packages(changes: Iterable[tuple[str, str, str]], after: State, matrices: MatrixSet
                 ) -> Iterator[tuple[str, str, str]]:
    """Yield the changes that packages make; one that other packages carry becomes theirs, at the version they have."""
    moving = {component for component, _, _ in changes}
    for component, old, new in changes:
        carrier = matrices.components[component].carrier if component in matrices.components else None
        if carrier is None:
            yield component, old, new
        elif carrier not in moving:
            yield from ((carrier, version, version) for version in after.get(carrier, ()))


def _asked_for(transition: Transition, want: Want, matrices: MatrixSet) -> bool:
    """Tell whether a target names a component of a step, or something that rules tie to one."""
    named = {c for c, _, _ in transition.changes}
    tied = {c for g in matrices.lockstep if named & set(g.components) for c in g.components}
    return not want.keys().isdisjoint(named | tied)


def kept_values(node: Node, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return what no step moves and no path is searched by, and what notes on steps may ask for all the same.

    Services that carry the version of something else are left out: they follow its packages.
    """
    found: dict[str, tuple[str, ...]] = {
        name: (text,) for name, text in sorted(node.facts.container_runtimes.items())
        if name in matrices.components and text[:1].isdecimal()}
    tied = {component for group in matrices.lockstep for component in group.components}
    found |= {name: versions for name, versions in service_versions(node.facts).items()
              if name in matrices.components and name not in tied and name not in node.state}
    if any(gpu.mig_enabled for gpu in node.facts.gpus):
        found["mig"] = ("yes",)
    return found | mixed_parts(node.facts, node.state, matrices)


def _with_found_problems(steps: list[Step], node: Node) -> list[Step]:
    """Say at the first step what discovery met on its nodes: half-installed packages, a GPU that does not answer."""
    if not steps or not node.facts.problems:
        return steps
    told = f"discovery met this on these nodes, look at it first: {'; '.join(node.facts.problems)}"
    return [steps[0].model_copy(update={"remarks": (*(steps[0].remarks or ()), told)}), *steps[1:]]


def _in_the_way(transition: Transition, node: Node) -> Iterator[str]:
    """Yield where the old version of a library lies that no package brought: packages come beside it."""
    for component, old, new in transition.changes:
        lost = {lib.path for lib in node.facts.libraries if lib.name == component and not lib.package
                and version_key(lib.version) == version_key(old)} if old and new else ()
        if lost:
            yield (f"{component} {old} lies in {', '.join(sorted(lost))}, brought by no package: it stays there, and "
                   "programs that find it first go on with it - move it away by hand")


def _lying(node: Node, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return what lies on a node side by side, in use or not: it counts for rules only where a target names it."""
    names = (name for name, component in matrices.components.items() if component.asked and component.many)
    return asked_state(names, node.facts, node.state, matrices)


def _step(step_id: str, transition: Transition, act: PackageAct, after: State, matrices: MatrixSet,
          accepted: frozenset[str], kept: State) -> Step:
    move = next(m for m in matrices.moves if m.name == transition.move)
    judged = judgements_of(after, matrices)
    because = tuple(
        Claimed(claim=j.rule, statement=j.statement,
                source=matrices.source_of(j.rule, j.provenance) if j.provenance else "")
        for j in judged if j.verdict is Verdict.SUPPORTED and j.severity == "error"
        and any(explains(j, change, after, matrices) for change in transition.changes)
    )
    risks = tuple(sorted({j.risk or j.rule for j in judged if j.verdict is not Verdict.SUPPORTED and j.blocking
                          and j.names & accepted}))
    more = step_fields(move, transition.changes, {**kept, **after}, matrices)
    if move.act == "handover":
        more |= handover_fields(move, transition.changes, after)
    return Step.model_validate({
        "id": step_id, "move": move.name, "title": _title(transition, by_hand=move.act == "handover"),
        "changes": tuple(Change.model_validate({"component": c, "from": a, "to": b})
                         for c, a, b in transition.changes),
        "packages": act, "disruption": move.disruption, "minutes": move.minutes,
        "quick_gate": move.disruption in ("reboot", "module-reload"), "because": because, "risks": risks, **more,
        "notes": _notes(transition, matrices),
    })


def explains(judgement: Judgement, change: tuple[str, str, str], after: State, matrices: MatrixSet) -> bool:
    """Tell whether a claim that holds after a step speaks of the very version that one of its changes brings.

    Of side-by-side versions each is judged by itself: what holds for those that were there before explains nothing,
    and where any of several would do, only the one that alone does explains it.
    """
    component, _, new = change
    if component not in judgement.components:
        return False
    claim = next((c for c in matrices.claims if c.name == judgement.rule), None)
    if claim is None or not matrices.is_many(component):
        return True

    def speaks(condition: Condition, version: str) -> bool:
        return matches_value(condition, version, text=matrices.is_text(component))

    if component in claim.if_:
        return new in judgement.values and speaks(claim.if_[component], new)
    others = (v for v in after.get(component, ()) if v != new)
    condition = claim.then[component]
    return bool(new) and speaks(condition, new) and not any(speaks(condition, v) for v in others)


def _title(transition: Transition, *, by_hand: bool = False) -> str:
    def words(names: str, old: str, new: str) -> str:
        if old and new:
            return f"{names} {old} -> {new}" if old != new else f"{names} {new} in another build"
        return f"add {names} {new}" if new else f"remove {names} {old}"

    listed = ", ".join(words(names, *versions) for versions, names in _alike(
        (component, (old, new)) for component, old, new in transition.changes))
    return f"{listed} (handed over)" if by_hand else listed


def _alike(components: Iterable[tuple[str, _Kind]]) -> Iterator[tuple[_Kind, str]]:
    """Gather components of the same kind, first come first; their names are joined: ``driver + nscq``."""
    found: dict[_Kind, list[str]] = {}
    for component, kind in components:
        found.setdefault(kind, []).append(component)
    for kind, names in found.items():
        yield kind, " + ".join(names)


def _notes(transition: Transition, matrices: MatrixSet) -> tuple[str, ...]:
    """Return release notes and fixed CVEs of every release crossed, newest first."""
    notes: list[str] = []
    for component, old, new in transition.changes:
        for release in reversed(matrices.releases.get(component, ())):
            key, first = version_key(release.version), version_key(old or new)
            if new and first <= key <= version_key(new) and key != version_key(old or " "):
                notes += [f"{component} {release.version}: {note}" for note in release.notes]
                if release.cves_fixed:
                    notes.append(f"{component} {release.version} fixes {', '.join(release.cves_fixed)}")
    return tuple(notes)


def _undo(step: Step, before: Mapping[str, str], node: Node, matrices: MatrixSet) -> tuple[Step, str, tuple[str, ...]]:
    """Return the step that undoes another, why its packages alone do not lead back, and those that no repository has.

    The reason is "" when they do.

    What the boot loader chooses among stays installed, new and old: removing what runs is refused by the packages
    themselves, and installing what is there already does nothing. That part of the way back is a person's.
    """
    named = (*step.packages.install, *step.packages.remove)
    entries = {c.component: boot_entry_packages(c.component, named, node.facts, node.state, matrices)
               for c in step.changes}
    by_hand = {component for component, names in entries.items() if names is not None}
    staying = {name for names in entries.values() for name in names or ()}
    old = {n: before[n] for n in named if n in before and n not in staying}
    available = node.facts.available or {}
    lost = tuple(f"{n} {v}" for n, v in sorted(old.items()) if v not in available.get(n, ()))
    gone = tuple(sorted(n for n in step.packages.install if n not in before and n not in staying))
    brings = frozenset(step.packages.brings).difference(*(
        brought_globs(c.component, (c.to,), node.facts, node.state, matrices, cuda_major="")
        for c in step.changes if c.component in by_hand))
    act = PackageAct(manager=step.packages.manager, install=dict(sorted(old.items())), remove=gone,
                     brings=tuple(sorted(brings))) if old or gone else PackageAct(manager="none")
    changes = tuple(Change.model_validate({"component": c.component, "from": c.to, "to": c.from_})
                    for c in step.changes)
    undo = step.model_copy(update={
        "id": f"{step.id}-undo", "title": _title_back(changes, by_hand),
        "changes": changes, "packages": act, "because": (), "notes": (), "remarks": None, "links": {}})
    why = [f"boot the previous {c.component} entry ({c.from_}) by hand: it is still installed, and packages do not "
           "choose what boots" for c in step.changes if c.component in by_hand]
    if lost:
        olds = _alike((c.component, (c.from_,)) for c in step.changes if c.from_ and c.component not in by_hand)
        names = ", ".join(f"{components} {version}" for (version,), components in olds) or step.title
        packages = "1 package is" if len(lost) == 1 else f"{len(lost)} packages are"
        why.append(f"{names} ({packages} in no repository any more; kept where prefetched)")
    return undo, "; ".join(why), lost


def _title_back(changes: Iterable[Change], by_hand: Container[str]) -> str:
    def words(names: str, now: str, then: str, hand: bool) -> str:
        if hand:
            return f"boot {names} {then} by hand"
        if now == then:
            return f"{names} {then} in the build before"
        return f"{names} back to {then}" if then else f"remove {names} {now}"

    return ", ".join(words(names, *kind) for kind, names in _alike(
        (c.component, (c.from_, c.to, c.component in by_hand)) for c in changes))


def _with_default_links(steps: list[Step], path: Path, node: Node, want: Want, matrices: MatrixSet) -> list[Step]:
    """Point the default link at the wanted version in the last step that changes a side-by-side component."""
    for component, wanted in want.items():
        if not isinstance(wanted, ToolkitWant) or not wanted.default:
            continue
        chosen = [v for v in newest(path.states[-1].get(component, ())) if contains(wanted.default, v)]
        package_set = owner_set(component, node.facts, node.state, matrices)
        last = max((i for i, s in enumerate(steps) if any(c.component == component for c in s.changes)), default=None)
        if chosen and package_set and last is not None:
            links = {link: fill(target, chosen[0], "") for link, target in package_set.default_links.items()}
            steps = [s.model_copy(update={"links": links}) if i == last else s for i, s in enumerate(steps)]
    return steps


def with_links_back(cohort: Cohort, node: Node) -> Cohort:
    """Return the cohort whose way back turns default links to where its nodes have them, in the steps that undo them.

    Facts tell of one default link; a node without one gets none: its packages may bring one, and nothing takes it off.
    """
    default = next((t.path for t in node.facts.toolkits if t.default), "")
    turned = {f"{s.id}-undo": dict.fromkeys(s.links, default) for s in cohort.steps
              if len(s.links) == 1 and default and default not in s.links.values()}
    if not turned:
        return cohort
    back = tuple(s.model_copy(update={"links": turned[s.id]}) if s.id in turned else s for s in cohort.way_back)
    return cohort.model_copy(update={
        "way_back": back, "links": {link: path for links in turned.values() for link, path in links.items()}})
