"""Why a plan does not use some version, as people read it."""

from __future__ import annotations

from collections.abc import Iterable

from planner.report.layout import shortened, wrapped
from planner.schedule.why_not import WhyNot

_NODES_SHOWN = 4
_SOURCES_SHOWN = 8
_HEADS = {
    "chosen": "the plan does use it", "refused": "no safe path leads there",
    "worse": "there is a path, and it is worse", "not-asked": "there is a path as good as the planned one",
}


def why_not_lines(answers: Iterable[WhyNot], component: str, wanted: str, *, width: int = 100) -> list[str]:
    """Return one paragraph for each distinct answer; nodes with the same answer share it."""
    shared: dict[tuple[object, ...], list[WhyNot]] = {}
    for answer in answers:
        shared.setdefault((answer.verdict, answer.reasons, answer.sources, answer.nearest), []).append(answer)
    lines: list[str] = []
    for group in shared.values():
        first = group[0]
        names = sorted(name for a in group for name in a.nodes)
        gpus = " and ".join(dict.fromkeys(a.gpu for a in group))
        count = "1 node" if len(names) == 1 else f"{len(names)} nodes"
        listed = shortened(names, _NODES_SHOWN)
        texts = [(f"{component} {wanted} on {gpus}, {count} ({listed}): {_HEADS[first.verdict]}", ""),
                 *((reason, "  ") for reason in first.reasons),
                 *((f"source: {source}", "  ") for source in first.sources[:_SOURCES_SHOWN]),
                 *((f"nearest: {near}", "  ") for near in first.nearest[:3])]
        lines += [str(line) for text, indent in texts for line in wrapped(text, width, indent=indent)]
    return lines
