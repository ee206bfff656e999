"""A quick start and a quick end of a command that plans: together a fourth of the time that one node takes."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Final, NoReturn

# What ``import networkx`` brings beside graphs: some 300 modules, a third of the time of planning one node.
_LEFT_OUT: Final = ("algorithms", "drawing", "generators", "linalg", "readwrite")
_USED: Final = "networkx.algorithms.shortest_paths.astar"


def import_search_part_of_networkx() -> bool:
    """Import networkx with its graphs and A*, and without the rest; say whether that was possible.

    For the command line's own process alone: whatever is imported there afterwards finds a networkx without its other
    algorithms. A networkx that is built in another way is imported whole; it is then slower, and no less right.
    """
    if "networkx" in sys.modules:
        return False
    try:
        found = importlib.util.find_spec("networkx")
        places = found.submodule_search_locations or () if found else ()
        for name in _LEFT_OUT:
            empty = ModuleType(f"networkx.{name}")
            empty.__path__ = [f"{place}/{name}" for place in places]
            sys.modules[empty.__name__] = empty
        networkx = importlib.import_module("networkx")
        networkx.astar_path = importlib.import_module(_USED).astar_path     # type: ignore[attr-defined]
    except Exception:
        for name in [n for n in sys.modules if n.partition(".")[0] == "networkx"]:
            del sys.modules[name]
        return False
    return True


def end_at_once(code: int) -> NoReturn:
    """End the process after what was asked for its end, but without taking thousands of modules apart.

    For commands that start no thread and leave nothing open: everything they write is written and closed by then.
    """
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BrokenPipeError:     # the reader has seen enough, as with ``planner plan | head``
        pass
    except OSError as exc:
        sys.stderr.write(f"error: {exc.strerror or exc}: standard output\n")
        code = code or 1
    sys.stderr.flush()
    os._exit(code)
