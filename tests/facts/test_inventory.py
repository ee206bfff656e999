"""Inventories: what is read, what is dropped, what is refused before Ansible sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.errors import InputError
from planner.facts.inventory import Host, load_inventory

HOSTILE = (
    "{{ 7*7 }}",
    "{{ lookup('pipe', 'touch pwned') }}",
    "a:&b",
    "$(touch pwned)",
    "a b",
    "../up",
    "-oProxyCommand=x",
    "all:!x",
    "x\ny",
    "käse",
    "a;b",
    "`id`",
)


def _write(folder: Path, text: str, name: str = "hosts.yml") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_names_groups_and_planner_variables_are_read(tmp_path: Path) -> None:
    """Ranges are Ansible's, group membership goes through children, and only planner_* variables are kept."""
    path = _write(
        tmp_path,
        """
all:
  vars: {planner_environment: staging, db_password: hush}
  children:
    rack1: {children: {h100: {}}}
    h100:
      hosts:
        gpu-[01:02]: {planner_pool: h100, planner_workloads: [train, serve], ansible_host: 10.0.0.7, api_token: hush}
  hosts:
    head: {planner_role: scheduler, ansible_connection: local, ansible_port: 2222, ansible_password: hush}
""",
    )
    inventory = load_inventory(path)
    assert [h.name for h in inventory.hosts] == ["gpu-01", "gpu-02", "head"]
    first, head = inventory.hosts[0], inventory.hosts[2]
    assert first.declared == {"environment": "staging", "pool": "h100", "workloads": ("train", "serve")}
    assert first.groups == ("h100", "rack1")
    assert head.connection == {"ansible_connection": "local", "ansible_port": "2222"}
    assert head.local
    assert not first.local
    assert "hush" not in repr(inventory)


def test_the_digest_covers_what_planner_reads_and_nothing_else(tmp_path: Path) -> None:
    """A changed secret changes nothing; a changed pool does."""

    def digest(pool: str, secret: str) -> str:
        return load_inventory(
            _write(tmp_path, f"all: {{hosts: {{a: {{planner_pool: {pool}, secret: {secret}}}}}}}")
        ).digest

    assert digest("x", "1") == digest("x", "2")
    assert digest("x", "1") != digest("y", "1")


def test_group_vars_vault_and_limit(tmp_path: Path) -> None:
    """A directory with group_vars and an inline vault value loads; a limit narrows it."""
    _write(tmp_path, "all: {children: {a100: {hosts: {n1: {}, n2: {}}}, v100: {hosts: {n3: {}}}}}", "inv/hosts.yml")
    _write(
        tmp_path,
        "planner_pool: a100\nsecret: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n",
        "inv/group_vars/a100.yml",
    )
    inventory = load_inventory(str(tmp_path / "inv"), limit="a100")
    assert [(h.name, h.declared) for h in inventory.hosts] == [("n1", {"pool": "a100"}), ("n2", {"pool": "a100"})]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The file is judged before any command runs, so nothing in it can be executed."""
    monkeypatch.chdir(tmp_path)
    path = _write(tmp_path, f"all:\n  hosts:\n    {json.dumps(name)}: {{ansible_connection: local}}\n")
    with pytest.raises(InputError, match="not a plain host name") as caught:
        load_inventory(path)
    assert caught.value.diagnostics[0].subject.startswith(path)
    assert caught.value.diagnostics[0].hint
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("line", ["{{ 7*7 }}", "a:&b planner_pool=x", "$(touch pwned)", "ok;rm"])
def test_hostile_names_in_an_ini_inventory(tmp_path: Path, line: str) -> None:
    """INI inventories are read line by line, and the line is named."""
    path = _write(
        tmp_path,
        f"[gpus]\ngpu-01 planner_pool=a\ngpu-[02:03]\n{line}\n[gpus:vars]\nplanner_environment=staging\n",
        "hosts.ini",
    )
    with pytest.raises(InputError, match="not a plain host name") as caught:
        load_inventory(path)
    assert caught.value.diagnostics[0].subject == f"{path}:4"


def test_an_ini_inventory_loads(tmp_path: Path) -> None:
    """Variables after the name, ranges, ports, comments."""
    path = _write(
        tmp_path,
        "; fleet\n[gpus]\ngpu-[01:02] planner_pool=a # first\nlast:2222\n[gpus:vars]\nplanner_role=worker\n",
        "hosts",
    )
    assert [(h.name, dict(h.declared)) for h in load_inventory(path).hosts] == [
        ("gpu-01", {"pool": "a", "role": "worker"}),
        ("gpu-02", {"pool": "a", "role": "worker"}),
        ("last", {"role": "worker"}),
    ]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("all:\n  hosts:\n    gpu-01: {\n", "bad-yaml", "hosts.yml:"),
        ("all:\n  hosts:\n   gpu-01:\n  bad indent\n", "bad-yaml", "hosts.yml:"),
        ("all:\n  hosts:\n    a: {}\n    a: {}\n", "bad-yaml", "hosts.yml:4"),
        ("", "empty-inventory", "hosts.yml"),
        ("all: {hosts: {}}\n", "empty-inventory", "hosts.yml"),
        ("all:\n  hosts:\n    a: {planner_pol: x}\n", "unknown-variable", "hosts.yml:3"),
        ("all:\n  hosts:\n    a: {planner_environment: prod}\n", "bad-variable", "hosts.yml:3"),
        ("all:\n  hosts:\n    a: {planner_pool: '{{ site }}'}\n", "bad-variable", "hosts.yml:3"),
        ("all:\n  hosts:\n    a: {planner_pool: {x: 1}}\n", "bad-variable", "hosts.yml:3"),
        ("- a\n- b\n", "bad-inventory", "hosts.yml"),
    ],
)
def test_broken_inventories_are_refused(tmp_path: Path, text: str, code: str, says: str) -> None:
    """Ansible would warn and go on with what it understood."""
    with pytest.raises(InputError) as caught:
        load_inventory(_write(tmp_path, text))
    item = caught.value.diagnostics[0]
    assert item.code == code
    assert says in item.subject
    assert item.hint


def test_settings_of_the_roles_are_accepted_and_not_kept(tmp_path: Path) -> None:
    """Their values are Ansible's business and may be templates."""
    text = "all: {hosts: {a: {planner_slurm_node: '{{ inventory_hostname }}', planner_drain_hook: /opt/drain}}}"
    host = load_inventory(_write(tmp_path, text)).hosts[0]
    assert host.declared == {}
    assert host.settings == ("slurm_node", "drain_hook")
    assert "/opt/drain" not in repr(host)


def test_a_missing_inventory_and_a_limit_that_matches_nothing(tmp_path: Path) -> None:
    """Both are told apart."""
    with pytest.raises(InputError, match="no such inventory"):
        load_inventory(str(tmp_path / "none.yml"))
    path = _write(tmp_path, "all: {hosts: {a: {}}}")
    with pytest.raises(InputError) as caught:
        load_inventory(path, limit="b*")
    assert "b*" in caught.value.diagnostics[0].summary


def test_a_misspelt_variable_has_a_suggestion(tmp_path: Path) -> None:
    """The nearest known variable is named."""
    with pytest.raises(InputError) as caught:
        load_inventory(_write(tmp_path, "all:\n  hosts:\n    a: {planner_pol: x}\n"))
    assert caught.value.diagnostics[0].hint == "did you mean planner_pool?"


def test_localhost_without_a_connection_is_local() -> None:
    """Ansible acts on it without SSH; every other name is remote."""
    assert Host("localhost").local
    assert not Host("localhost", connection={"ansible_connection": "ssh"}).local


def test_what_people_say_of_steps_by_other_hands_is_read(tmp_path: Path) -> None:
    """Words about what no probe sees are declared; the user's own tasks for a step are for the roles alone."""
    path = _write(tmp_path, """
all:
  hosts:
    gpu1:
      planner_gpu_operator: 25.3.2
      planner_gpu_operator_driver: pinned
      planner_node_image: gpu-2026.05
      planner_handover_os_release: /srv/tasks/upgrade.yml
""")
    assert load_inventory(path).hosts[0].declared == {
        "gpu_operator": "25.3.2", "gpu_operator_driver": "pinned", "node_image": "gpu-2026.05"}
    with pytest.raises(InputError, match="planner_handoverr_x"):
        load_inventory(_write(tmp_path, "all: {hosts: {gpu1: {planner_handoverr_x: y}}}", "other.yml"))
