"""Planning figures of what takes time beside the steps of paths, out of the matrices. Pure."""

from __future__ import annotations

from typing import NamedTuple

from planner.matrix.index import MatrixSet

PAIR, OWN_COMMAND = "pair", "own-command"     # names of times in the matrices


class Figures(NamedTuple):
    """Times of pairs, and of the site's own command as a share of its timeout; None where the matrices say nothing."""

    pair_minutes: int | None = None
    command_percent: int | None = None

    def command_minutes(self, timeout_minutes: int | None) -> int | None:
        """Return the planning figure of a command that may take some minutes; None where there is none."""
        if timeout_minutes is None or self.command_percent is None:
            return timeout_minutes
        return -(-timeout_minutes * self.command_percent // 100)


UNSAID = Figures()


def figures_of(matrices: MatrixSet) -> Figures:
    """Return the figures that the matrices have."""
    pair, command = matrices.times.get(PAIR), matrices.times.get(OWN_COMMAND)
    return Figures(pair.minutes if pair else None, command.timeout_percent if command else None)
