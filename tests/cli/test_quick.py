"""A quick start may change nothing but the time: same answer, same exit code, and a way out where networkx differs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "02-one-node"
PLAN = ["plan", "--facts", str(EXAMPLE / "facts.json"), "--target", str(EXAMPLE / "target.yml"), "-o", "json"]
QUICK = [sys.executable, "-m", "planner"]
WHOLE = [sys.executable, "-c", "import sys; from planner.cli.main import invoke; sys.exit(invoke(sys.argv[1:]))"]


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_plan_is_the_same_as_with_the_whole_of_networkx() -> None:
    quick, whole = _run(*QUICK, *PLAN), _run(*WHOLE, *PLAN)
    assert quick.returncode == whole.returncode == 0, quick.stderr
    assert quick.stdout == whole.stdout
    assert '"schema": "planner.plan/' in quick.stdout


def test_exit_codes_and_messages_are_the_same() -> None:
    missing = ["plan", "--facts", "nowhere.json", "--target", "nowhere.yml"]
    for words in (["plan"], missing, [*PLAN, "--detailed-exitcode"]):
        quick, whole = _run(*QUICK, *words), _run(*WHOLE, *words)
        assert (quick.returncode, quick.stderr) == (whole.returncode, whole.stderr)
        assert quick.returncode != 0


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    script = f"{' '.join(QUICK)} {' '.join(PLAN)} | head -1; exit ${{PIPESTATUS[0]}}"
    ended = _run("bash", "-c", script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "{\n", "")


def test_nobody_listens_and_no_room_are_told_in_a_line() -> None:
    closed = _run("bash", "-c", f"{' '.join(QUICK)} {' '.join(PLAN)} >&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    full = _run("bash", "-c", f"{' '.join(QUICK)} {' '.join(PLAN)} >/dev/full")
    assert full.returncode == 1
    assert full.stderr.startswith("error: No space left on device")
    assert "Traceback" not in full.stderr


def test_only_a_part_of_networkx_is_read() -> None:
    ended = _run(sys.executable, "-c", """
import sys
from planner.cli.quick import import_search_part_of_networkx
assert import_search_part_of_networkx()
assert not import_search_part_of_networkx(), "it is there already"
import networkx as nx
graph = nx.DiGraph()
graph.add_weighted_edges_from([("a", "b", 1), ("b", "c", 1), ("a", "c", 3)])
assert nx.astar_path(graph, "a", "c", weight="weight") == ["a", "b", "c"]
try:
    nx.astar_path(graph, "c", "a")
except nx.NetworkXNoPath:
    print(sum(name.startswith("networkx") for name in sys.modules))
""")
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 60, "most of networkx was read"


def test_another_networkx_is_read_whole() -> None:
    ended = _run(sys.executable, "-c", """
import planner.cli.quick as quick
quick._USED = "networkx.algorithms.moved_elsewhere"
assert not quick.import_search_part_of_networkx()
import networkx
assert networkx.generators.__file__ and networkx.complete_graph(3).number_of_edges() == 3
print("whole")
""")
    assert (ended.returncode, ended.stdout) == (0, "whole\n"), ended.stderr
