"""PLAN.md: what a reviewer of a pull request needs to say yes or no. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from planner.emit.fences import constraint
from planner.schedule.canary import canary_sentences
from planner.schedule.fences import NEW, OLD, fence_mark
from planner.schedule.known import goal_problems
from planner.schedule.opening import begins, has_windows
from planner.schedule.pairs import pair_sentences, pairs_told, plan_domains
from planner.schedule.plan import Claimed, Cohort, Plan, Step, Wave
from planner.schedule.worst import outdone, worst_minutes

NAMES_SHOWN = 8
OPEN_MAX = 6        # longer lists are folded
_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "`": "'", "[": "\\[", "*": "\\*"})
_MERMAID = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "'"})


def render_review(plan: Plan) -> str:
    """Return the Markdown text: what changes, where, in which order, why, at what risk, and how to get back."""
    sections = (_head, _changes, _gains, _order, _mixed, _paths, _capacity, _risks, _known_problems, _way_back,
                _left_out, _running)
    return "\n\n".join(filter(None, ("\n".join(section(plan)) for section in sections))).rstrip() + "\n"


def _head(plan: Plan) -> Iterator[str]:
    moving = [c for c in plan.cohorts if c.steps]
    nodes = sum(len(c.nodes) for c in moving)
    yield f"# Plan {text(plan.name)}"
    yield ""
    yield (f"{count(nodes, 'node')} of {len(plan.nodes)} will change, in {count(len(plan.waves), 'wave')}, "
           f"{_at_worst(plan)}")
    if plan.eta is not None:
        eta = plan.eta
        yield (f"Expected are {hours(eta.p50_minutes)}, in four of five rollouts {hours(eta.p10_minutes)} to "
               f"{hours(eta.p90_minutes)}, and {count(eta.gpu_hours, 'GPU-hour')} out of service "
               f"({eta.gpu_hours_at_worst} at worst); {count(eta.peak_nodes_out, 'node')} out at once at most.")
    if told := begins(plan):
        yield f"It {text(told)}."
    yield ""
    yield from table(("", ""), [
        ("Policy", plan.policy), ("Plan", f"`{plan.digest}`"), ("Seal of the validator", f"`{text(plan.seal)}`"),
        *((f"Input: {text(name)}", f"`{text(value)}`") for name, value in sorted(plan.inputs.items())),
        ("Made by", f"planner {text(plan.planner_version)}"),
    ])


def _at_worst(plan: Plan) -> str:
    told, minutes = "soaks included, drains not", hours(worst_minutes(plan, plan.eta))
    if plan.eta is not None and plan.eta.at_worst_minutes is not None:
        told = "soaks and closed hours between windows included, drains not"
    elif has_windows(plan):
        told += ", nor is the time between windows"
    if outdone(plan, plan.eta):
        return f"in {minutes} by planning figures ({told}), and longer by what earlier rollouts took."
    return f"within {minutes} at worst ({told})."


def _changes(plan: Plan) -> Iterator[str]:
    yield "## What changes"
    yield ""
    rows = [
        (f"`{c.id}`", str(len(c.nodes)), text(c.gpu), text(", ".join(c.pools)),
         _difference(c) or "nothing: already there", str(len(c.steps)), str(c.cost.get("reboots", 0)),
         str(c.cost.get("minutes", 0)))
        for c in plan.cohorts
    ]
    yield from table(("cohort", "nodes", "GPUs", "pools", "changes", "steps", "reboots", "minutes a node"), rows)
    yield ""
    for cohort in plan.cohorts:
        yield f"- `{cohort.id}`: {names(cohort.nodes)}"


def _difference(cohort: Cohort) -> str:
    """Return every component whose values differ between start and goal."""
    parts = []
    for name in sorted(set(cohort.start) | set(cohort.goal)):
        old, new = cohort.start.get(name, ()), cohort.goal.get(name, ())
        if old != new and any(c.component == name for s in cohort.steps for c in s.changes):
            parts.append(f"{text(name)} {text(', '.join(old)) or '(none)'} → {text(', '.join(new)) or '(none)'}")
    return "<br>".join(parts)


def _gains(plan: Plan) -> Iterator[str]:
    if plan.gains:
        yield "## What is gained"
        yield ""
    for gain in plan.gains or ():
        yield f"- No more, in {', '.join(f'`{id_}`' for id_ in gain.cohorts)}: {claim(gain)}"


def _order(plan: Plan) -> Iterator[str]:
    yield "## In which order"
    yield ""
    yield "```mermaid"
    yield "flowchart LR"
    for place, wave in enumerate(plan.waves):
        nodes = sum(len(b.nodes) for b in wave.batches)
        size = f"{count(nodes, 'node')} in {count(len(wave.batches), 'batch', 'batches')}"
        yield f'  {_key(place)}["{label(wave.id)}: {wave.kind}<br>{size}"]'
        if place:
            before = plan.waves[place - 1]
            yield f'  {_key(place - 1)} -->|"{_between(before)}"| {_key(place)}'
    yield "```"
    yield ""
    domains = plan_domains(plan)
    rows = [(f"`{w.id}`", w.kind, f"`{b.id}`", names(b.nodes), str(b.minutes),
             _after(w, domains) if b is w.batches[-1] else "") for w in plan.waves for b in w.batches]
    yield from table(("wave", "kind", "batch", "nodes", "minutes", "then"), rows)


def _mixed(plan: Plan) -> Iterator[str]:
    if not plan.mixed:
        return
    yield "## Two versions in one job's reach"
    yield ""
    yield ("No job may span changed and other nodes of a communication domain from the first of these batches to the "
           "end of the last.")
    yield ""
    rows = [(text(w.domain), text(", ".join(w.components)), f"`{w.opens}` to `{w.closes}`", str(w.batches),
             hours(w.minutes) + ", and the wait for approval" * w.approval,
             ", ".join(w.fences) + f"; {count(w.unfenced, 'node')} by you" * bool(w.fences and w.unfenced)
             or "none: up to you") for w in plan.mixed]
    yield from table(("domain", "mixed in", "batches", "number", "minutes at worst", "fence"), rows)
    yield ""
    because = dict.fromkeys(claim(item) for w in plan.mixed for item in w.because)
    yield from (f"- Why: {told}" for told in because)
    kinds = {scheduler for w in plan.mixed for scheduler in w.fences}
    mark = text(fence_mark(plan))
    if "slurm" in kinds:
        yield (f"- Slurm: before a changed node goes back, it gets the feature `{mark}{NEW}`, and those that are not "
               f"changed yet get `{mark}{OLD}`. A job stays in one half with `{constraint(plan, 'slurm')}`; make that "
               "the default of your submit filter while the window is open.")
    if "kubernetes" in kinds:
        yield (f"- Kubernetes: the same as label `{mark}`, with the values `new` and `old`. A job stays in one half "
               f"when its pods require podAffinity for each other with `{constraint(plan, 'kubernetes')}`.")
    if kinds:
        yield ("- When the last node of a domain is done, and at the end of the rollout, the marks are taken off; all "
               "other features and labels stay. Jobs that wait with such a constraint then have to be told another.")
    if any(w.unfenced for w in plan.mixed):
        yield "- Where nothing fences them, keep jobs to one half yourself: the warnings below say why."


def _key(place: int) -> str:
    return f"wave{place + 1}"


def _between(wave: Wave) -> str:
    words = [f"soak {wave.soak_minutes} min"] * (wave.soak_minutes > 0) + ["approval"] * wave.approval
    return ", ".join(words) or "gates pass"


def _after(wave: Wave, domains: Mapping[str, tuple[str, ...]]) -> str:
    soak = [f"soak {wave.soak_minutes} minutes"] * (wave.soak_minutes > 0)
    pairs = [text(told) for told in pairs_told(wave, domains)]
    return ", ".join([*pairs, *soak, *["wait for a person's approval"] * wave.approval])


def _paths(plan: Plan) -> Iterator[str]:
    yield "## Why this path"
    for cohort in plan.cohorts:
        if not cohort.steps:
            continue
        yield ""
        yield f"### `{cohort.id}`: {count(len(cohort.nodes), 'node')} with {text(cohort.gpu)}"
        yield ""
        yield "```mermaid"
        yield from path_flowchart(cohort)
        yield "```"
        for step in cohort.steps:
            yield ""
            yield from _step(step)


def path_flowchart(cohort: Cohort) -> Iterator[str]:
    """Yield the lines of a Mermaid flowchart of one cohort's path, from today to back in service."""
    yield "flowchart LR"
    yield '  start(["today"])'
    before = "start"
    for number, step in enumerate(cohort.steps, start=1):
        gate = "<br>quick gate" if step.quick_gate else ""
        key = f"step{number}"
        yield f'  {key}["{label(step.id)}: {label(step.title)}<br>{step.disruption}, {step.minutes} min{gate}"]'
        yield f"  {before} --> {key}"
        before = key
    yield '  goal(["standard gate, back in service"])'
    yield f"  {before} --> goal"


def _step(step: Step) -> Iterator[str]:
    yield f"#### {text(step.id)}: {text(step.title)}"
    yield ""
    if step.packages.install or step.packages.remove:
        rows = [(f"`{name}`", f"`{version}`") for name, version in sorted(step.packages.install.items())]
        rows += [(f"`{name}`", "removed") for name in step.packages.remove]
        yield from table((f"package ({step.packages.manager})", "version"), rows)
        yield ""
    if step.packages.brings:
        yield f"- May bring along: {', '.join(f'`{glob}`' for glob in step.packages.brings)}."
    for link, goal in sorted(step.links.items()):
        yield f"- Link `{text(link)}` points to `{text(goal)}`."
    yield from _handed_over(step)
    if step.ends:
        yield ("- **Ends the plan:** what the nodes can have afterwards is not known before; when it is done, discover "
               "and plan again.")
    if step.unpredicted:
        yield f"- Changes, too, nobody knows to what beforehand: {text(', '.join(step.unpredicted))}."
    for item in step.refresh or ():
        yield f"- Made again where it is there: `{text(item.unit or item.file)}`."
    yield from (f"- **Note:** {text(remark)}" for remark in step.remarks or ())
    if step.restarts:
        yield f"- Restarted: {', '.join(f'`{text(unit)}`' for unit in step.restarts)}."
    yield from (f"- Why: {claim(item)}" for item in step.because)
    yield from (f"- **Risk accepted:** {text(risk)}" for risk in step.risks)
    yield from folded([f"Crossed: {text(note)}" for note in step.notes], "release notes crossed")


def _handed_over(step: Step) -> Iterator[str]:
    """Yield what people, or their own automation, do in a step that no package manager makes."""
    if not step.handover:
        return
    variable = f"planner_handover_{step.move.replace('-', '_')}"
    yield (f"- **Handed over.** The rollout stops there until it is done, unless `{variable}` in the inventory names "
           "a file of tasks or a role that does it:")
    yield from (f"  {number}. {text(told)}" for number, told in enumerate(step.instructions or (), start=1))
    for proof in step.proofs or ():
        place = proof.file or proof.variable or proof.argv[0]
        shows = " and ".join([*(f"shows {v}" for v in proof.wanted), *(f"no longer {v}" for v in proof.unwanted)])
        yield f"- Proved afterwards: {text(proof.component)} {text(shows)} (`{text(place)}`)."


def _capacity(plan: Plan) -> Iterator[str]:
    yield "## Capacity"
    yield ""
    rows = [(text(pool), str(p.nodes), str(p.max_unavailable),
             "" if p.max_unavailable_per_domain is None else str(p.max_unavailable_per_domain), names(p.already_down))
            for pool, p in sorted(plan.pools.items())]
    yield from table(("pool", "nodes", "unavailable at most", "per failure domain", "down already"), rows)
    rules = plan.rollout
    yield ""
    for pool, limit in sorted(plan.pools.items()):
        if limit.windows:
            yield f"Nodes of {text(pool)} leave service only in: {text('; '.join(limit.windows))}."
            yield ""
    for told in canary_sentences(plan):
        yield f"Before it goes back, {text(told)}."
        yield ""
    for told in pair_sentences(plan):
        yield f"NCCL: {text(told)}."
        yield ""
    left = "; `on_failure: rollback` is left to a person, see below" if rules.on_failure == "rollback" else ""
    yield (f"Failures tolerated: {text(str(rules.failure_budget))}; then the rollout will halt{left}. "
           f"A drain is waited for {hours(rules.drain_timeout_minutes)}, "
           f"a reboot {hours(rules.reboot_timeout_minutes)}.")


def _risks(plan: Plan) -> Iterator[str]:
    yield "## Risks and warnings"
    yield ""
    inherited = [(c, item) for c in plan.cohorts for item in c.inherited]
    lines = [f"- Accepted risk: {claim(item)}" for item in plan.risks]
    lines += [f"- Warning: {text(item)}" for item in plan.warnings]
    lines += [f"- Wrong already at the start, in `{c.id}`: {claim(item)}" for c, item in inherited]
    yield from lines or ["None is known."]


def _known_problems(plan: Plan) -> Iterator[str]:
    yield "## Known problems at the goal"
    yield ""
    found = goal_problems(plan.cohorts)
    if not found:
        yield "None is known."
        return
    yield "They block nothing; whoever approves the plan accepts them."
    yield ""
    for problem in found:
        ids = ", ".join(f"`{id_}`" for id_ in problem.cohorts)
        here = f" Here: {text('; '.join(problem.here))}." if problem.here else ""
        hint = f" Hint: {text(problem.hint)}." if problem.hint else ""
        source = f" — {text(problem.source)}" if problem.source else ""
        yield (f"- **{'Already there' if problem.at_start else 'New'}** in {ids}: {text(problem.statement)} "
               f"(`{text(problem.claim)}`).{here}{hint}{source}")


def _way_back(plan: Plan) -> Iterator[str]:
    yield "## The way back"
    yield ""
    yield ("Old packages are fetched before a node is drained, as far as a repository still has them; "
           "what could not be kept stands in the node's record.")
    for cohort in plan.cohorts:
        if not cohort.steps:
            continue
        yield ""
        yield f"### Back from `{cohort.id}`"
        yield ""
        if cohort.no_return_after:
            yield f"- **Point of no return: step {text(cohort.no_return_after)}.** {text(cohort.no_return_why)}"
        for step in cohort.way_back:
            acts = [f"`{n}={v}`" for n, v in sorted(step.packages.install.items())]
            acts += [f"remove `{n}`" for n in step.packages.remove]
            if step.handover:
                acts = [text(told) for told in step.instructions or ()]
            acts += [f"link `{text(link)}` to `{text(goal)}`" for link, goal in sorted(step.links.items())]
            yield f"- {text(step.title)} ({step.disruption}): {', '.join(acts) or 'no package'}"
        yield from folded([f"In no repository any more: `{text(name)}`" for name in cohort.no_return_packages],
                          "packages in no repository any more")


def _left_out(plan: Plan) -> Iterator[str]:
    yield "## Left out"
    yield ""
    rows = [(f"`{text(e.node)}`", text(e.reason), text(e.detail), text(e.hint)) for e in plan.excluded]
    if rows:
        yield from table(("node", "reason", "detail", "hint"), rows)
    else:
        yield "No node of the inventory."


def _running(plan: Plan) -> Iterator[str]:
    yield "## How it is run"
    yield ""
    yield ("With planner: canaries first, the rest after approval. "
           "Without planner, in this directory, one batch after another:")
    yield ""
    yield "```sh"
    yield "planner apply . --canary"
    for wave in plan.waves:
        for batch in wave.batches:
            yield f"ansible-playbook -i INVENTORY {wave.play} --limit {','.join(batch.nodes)}"
    yield "```"
    yield ""
    yield "A play refuses to start before the wave before it has passed; `--check` lets the package managers simulate."


def text(value: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return " ".join(value.split()).translate(_MARKDOWN)


def label(value: str) -> str:
    """Return a text for a quoted Mermaid label."""
    return " ".join(value.split()).translate(_MERMAID)


def claim(item: Claimed) -> str:
    """Return one claim with its name and source."""
    source = f" — {text(item.source)}" if item.source else ""
    return f"{text(item.statement)} (`{text(item.claim)}`){source}"


def folded(items: list[str], title: str) -> Iterator[str]:
    """Yield a list; a long one is folded away behind its length."""
    listed = [f"- {item}" for item in items]
    if len(listed) <= OPEN_MAX:
        yield from listed
    else:
        yield from ("", f"<details><summary>{len(listed)} {title}</summary>", "", *listed, "", "</details>")


def names(nodes: Iterable[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    listed = list(nodes)
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(text(n) for n in listed[:NAMES_SHOWN]) + more


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def hours(minutes: int) -> str:
    """Return minutes as people say them: 45 min, 3 h 20 min."""
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a Markdown table; cells are Markdown already."""
    yield f"| {' | '.join(header)} |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield f"| {' | '.join(row)} |"
