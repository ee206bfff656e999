"""The command line as a process: what it loads, what it prints, how it exits."""

from __future__ import annotations

import subprocess
import sys

from planner import __version__
from planner.cli.main import VERBS, invoke

HEAVY = ("pydantic", "networkx", "sqlalchemy", "ansible_runner", "ansible", "rich", "yaml", "pynvml")


def _python(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_help_imports_no_heavy_module() -> None:
    """`planner --help` answers at once because it loads none of the libraries that the verbs need."""
    result = _python(
        "import sys; from planner.cli.main import invoke; code = invoke(['--help'])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)"
    )
    assert result.stderr.strip() == "[] 0"
    assert all(f"  {name} " in result.stdout for name in VERBS)


def test_help_lists_the_verbs_in_the_order_of_use() -> None:
    """Discovery comes before planning, and planning before applying."""
    result = _python("from planner.cli.main import invoke; invoke(['--help'])")
    positions = [result.stdout.index(f"\n  {name} ") for name in ("discover", "check", "plan", "apply", "status")]
    assert positions == sorted(positions)


def test_version_is_the_package_version() -> None:
    """`planner --version` is the version that the wheel carries."""
    result = subprocess.run([sys.executable, "-m", "planner", "--version"], capture_output=True, text=True, check=True)
    assert __version__ in result.stdout


def test_unknown_verb_is_a_usage_error_on_stderr() -> None:
    """Exit 2, nothing on stdout."""
    result = subprocess.run([sys.executable, "-m", "planner", "fly"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "fly" in result.stderr


def test_no_verb_shows_the_help() -> None:
    """A bare `planner` teaches instead of failing silently."""
    result = subprocess.run([sys.executable, "-m", "planner"], capture_output=True, text=True, check=False)
    assert "Commands:" in result.stdout + result.stderr


def test_python_without_asserts_is_refused() -> None:
    """Under -O the program's own consistency checks would be gone, so it does not start."""
    result = _python("from planner.cli.main import main; main(['--help'])", "-O")
    assert result.returncode == 1
    assert "python -O" in result.stderr


def test_a_closed_pipe_is_no_error() -> None:
    """`planner --help | head -1` ends quietly."""
    result = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m planner --help | head -n 1"], capture_output=True, text=True, check=False
    )
    assert result.stdout.startswith("Usage: planner")
    assert "Traceback" not in result.stderr


def test_invoke_returns_the_code_instead_of_exiting() -> None:
    """Other entry points (tests, notebooks) get the exit code as a value."""
    assert invoke(["no-such-verb"]) == 2
