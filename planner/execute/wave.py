"""Whether a wave as a whole became slower, though each of its GPUs passed alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from planner.gates.compare import Comparison, compare, compare_wave
from planner.gates.failures import Verdict
from planner.gates.figures import baseline_of, read_report


def slower(nodes: Iterable[str], before: Callable[[str], str], after: Callable[[str], str]) -> str:
    """Return what a wave lost, in one sentence; "" where nothing says that it did.

    Args:
        nodes: The wave's nodes that were changed.
        before: Node -> its report from before the change, "" where there is none.
        after: Node -> the report of its last gate, likewise.
    """
    found: list[Comparison] = []
    for node in nodes:
        try:
            found.append(compare(baseline_of(read_report(before(node))), baseline_of(read_report(after(node)))))
        except ValueError:
            continue        # not measured, or a quick gate: its own verdict has told what there was to tell
    lost = [f"{result.gate.removeprefix('wave:')}: {', '.join(result.evidence)}"
            for result, _ in compare_wave(found) if result.verdict is Verdict.FAIL]
    return "; ".join(lost)
