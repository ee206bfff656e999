"""Toolkits that lie on a node, and which of them counts where one has to be chosen."""

from __future__ import annotations

from planner.facts.schema import FactSet, ToolkitFacts
from planner.model.version import newest


def default_major(facts: FactSet) -> str:
    """Return the major number of the toolkit that is the default now, else of the newest; "" where there is none."""
    own = own_toolkits(facts)
    chosen = [t.version for t in own if t.default] or newest(t.version for t in own)
    return chosen[0].partition(".")[0] if chosen else ""


def own_toolkits(facts: FactSet) -> tuple[ToolkitFacts, ...]:
    """Return the toolkits that lie on a node for everybody: not those that only a module file names.

    A module tree is an offer, often one of a shared file system to nodes of several kinds: nobody has to load what a
    node's GPUs or driver cannot run, no package of the node brought it, and none takes it away.
    """
    return tuple(t for t in facts.toolkits if t.source != "module")
