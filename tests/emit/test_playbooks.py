"""The very bundle that is shipped parses and passes Ansible's linter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from planner.emit.assets import load_assets
from planner.emit.render import render_bundle
from planner.emit.write import write_bundle
from tests.emit.sample import document, finished

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with the shipped roles and modules; one title has a template in it."""
    value = document()
    first = value["cohorts"][0]["steps"][0]
    value["rollout"]["nccl_pairs"] = True
    value["pools"]["train"] |= {"canary_command": ["/opt/{{ 1 }}", "null"], "canary_command_timeout_minutes": 5}
    for node in value["nodes"].values():
        node["comm_domain"] = "ib"
    value["cohorts"][0]["steps"][0] = {**first, "title": "evil {{ lookup('pipe', 'touch pwned') }}"}
    directory = tmp_path_factory.mktemp("playbooks") / "bundle"
    write_bundle(render_bundle(finished(value), load_assets()), directory)
    settings = f"{{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}"
    hosts = "".join(f"    gpu0{n}: {settings}\n" for n in (1, 2, 3))
    (directory.parent / "hosts.yml").write_text("all:\n  hosts:\n" + hosts)
    return directory


def run(bundle: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(tool, path=str(BIN))
    if program is None:
        pytest.skip(f"{tool} is not installed beside this Python (./run setup installs it)")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    environment |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run([program, *arguments], cwd=bundle, env=environment, stdin=subprocess.DEVNULL, check=False,
                          capture_output=True, text=True, timeout=300)


def test_every_play_parses(bundle: Path) -> None:
    """Roles and modules are found from the bundle's own directory."""
    plays = sorted(p.relative_to(bundle).as_posix() for p in (bundle / "plays").glob("*.yml"))
    result = run(bundle, "ansible-playbook", "-i", "../hosts.yml", "--syntax-check", *plays)
    assert result.returncode == 0, result.stdout + result.stderr


def test_phases_reach_their_tasks(bundle: Path) -> None:
    """The tags that the engine passes select the tasks inside the roles, and those alone."""
    result = run(bundle, "ansible-playbook", "-i", "../hosts.yml", "--list-tasks", "--tags", "undrain,record",
                 "plays/w2-batch.yml")
    assert result.returncode == 0, result.stderr
    listed = [line.split("TAGS:")[1].strip() for line in result.stdout.splitlines() if "TAGS: [" in line][1:]
    assert set(listed) == {"[undrain]", "[record]"}
    assert "Keep the record" in result.stdout


def test_the_bundle_passes_the_production_profile(bundle: Path) -> None:
    """A reviewer's own pipeline has nothing to complain about."""
    result = run(bundle, "ansible-lint", "--offline", "--nocolor", "--profile", "production", "plays", "roles")
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


def test_the_play_refuses_the_controller_and_runs_no_text_of_people(bundle: Path) -> None:
    """A local connection is refused before anything is written, and the title's template is never evaluated."""
    result = run(bundle, "ansible-playbook", "-i", "../hosts.yml", "--limit", "gpu01", "--tags", "preflight", "--check",
                 "-e", '{"planner_machine_ids": {"gpu01": ""}, "ansible_become": false}', "plays/w1-canary.yml")
    assert result.returncode == 2, result.stdout + result.stderr
    assert "this node is the machine that runs Ansible" in result.stdout, result.stdout
    assert not list(bundle.parent.rglob("pwned"))
