"""The linters are part of the suite, so that there is no second list of commands to forget."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = BIN / tool
    if not program.is_file():
        pytest.skip(f"{tool} is not installed beside this Python (./run setup installs it)")
    # Tools that start other tools (ansible-lint starts ansible-playbook) must find those of this environment.
    # The modules beside the roles are known to Ansible by their configuration alone.
    environment = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}", NO_COLOR="1",
                       ANSIBLE_CONFIG=str(ROOT / "playbooks" / "ansible.cfg"))
    return subprocess.run(
        [str(program), *arguments], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("mypy",), ("lint-imports", "--no-cache")],
    ids=lambda command: command[0],
)
def test_linter_is_content(command: tuple[str, ...]) -> None:
    """Style, types and import contracts hold for the whole project."""
    result = _run(*command)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


def test_shell_scripts_parse() -> None:
    """`run` is plain POSIX shell: the strictest shell at hand can parse it."""
    shell = next((s for s in ("/bin/dash", "/usr/bin/dash") if Path(s).is_file()), None)
    if shell is None:
        pytest.skip("dash is not installed")
    assert subprocess.run([shell, "-n", str(ROOT / "run")], check=False).returncode == 0


def test_playbooks_pass_the_production_profile() -> None:
    """Roles and modules pass ansible-lint's strictest profile, offline."""
    result = _run("ansible-lint", "--offline", "--nocolor", "--profile", "production", "playbooks")
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
