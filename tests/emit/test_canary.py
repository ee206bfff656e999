"""The site's own command in a bundle: its words reach the command sign by sign, whatever they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from planner.emit.assets import load_assets
from planner.emit.canary import CANARY_FILE, CANARY_VARS
from planner.emit.pairs import PAIR_PLAY
from planner.emit.render import render_bundle
from planner.emit.write import write_bundle
from planner.emit.yaml_text import Exact, dump_yaml
from planner.schedule.canary import SHOWN_CHARS, canary_sentences, command_words
from tests.emit.sample import ASSETS, document, finished
from tests.emit.test_render import Loader

GOLDEN = Path(__file__).parent / "golden-canary"
HOSTILE = ("{{ lookup('pipe', 'touch pwned') }}", "{% raw %}", "{# x #}", "", " a  b ", "a\nb\r\n\tc", "'\"`$(id)\\",
           "#jinja2: variable_start_string:'[[', variable_end_string:']]'\n[[ lookup('pipe', 'touch pwned') ]]",
           "é ✓ \U0001f600 \u2028 \x85 \x1b[31m \x07", "!unsafe x", "@/etc/passwd", "- x: 1", "null", "123", "0x1f",
           "1.5", "yes", "2026-01-01", "=", "<<", "~", "%d %s")
LONG = ("x" * 100_000, '"' * 100_000, "\n" * 100_000, "{{ 1 }}" * 14_000)


class PlainLoader(yaml.SafeLoader):
    """What Ansible reads with."""


class CLoader(yaml.CSafeLoader):
    """The same, where libyaml is there."""


for each in (PlainLoader, CLoader):
    each.add_constructor("!unsafe", lambda loader, node: loader.construct_sequence(node, deep=True))


def with_command(*argv: str, minutes: int = 15) -> dict[str, Any]:
    value = document()
    value["pools"]["train"] |= {"canary_command": list(argv), "canary_command_timeout_minutes": minutes}
    return value


def test_the_play_the_variables_and_the_review_are_the_golden_ones(update_golden: bool) -> None:
    files = render_bundle(finished(with_command("/opt/site/smoke-test", "--all", "{{ x }} | `y` <b>")), ASSETS)
    for name in ("plays/w2-batch.yml", CANARY_FILE, "PLAN.md"):
        path = GOLDEN / Path(name).name
        if update_golden:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(files[name])
        assert files[name].decode() == path.read_text(encoding="utf-8"), name


def test_the_play_of_pairs_is_the_golden_one_and_there_only_where_a_domain_is_paired(update_golden: bool) -> None:
    value = document()
    for name in ("gpu01", "gpu02", "gpu03"):
        value["nodes"][name]["comm_domain"] = "ib"
    assert PAIR_PLAY not in render_bundle(finished(value), ASSETS)
    value["rollout"]["nccl_pairs"] = True
    files = render_bundle(finished(value), ASSETS)
    path = GOLDEN / "pairs.yml"
    if update_golden:
        path.write_bytes(files[PAIR_PLAY])
    assert files[PAIR_PLAY].decode() == path.read_text(encoding="utf-8")
    assert "NCCL: after each wave that leaves ib mixed" in files["PLAN.md"].decode()
    value["nodes"]["gpu01"]["comm_domain"] = ""      # what is left of the domain changes in one wave
    files = render_bundle(finished(value), ASSETS)
    assert PAIR_PLAY not in files
    assert "nccl_pairs has nothing to do" in files["PLAN.md"].decode()


def test_only_pools_with_a_command_have_it_and_each_command_is_written_once() -> None:
    value = with_command("/opt/a")
    value["pools"]["other"] = {"nodes": 1, "max_unavailable": 1, "canary_command": ["/opt/b", "--x"],
                               "canary_command_timeout_minutes": 2}
    value["pools"]["plain"] = {"nodes": 1, "max_unavailable": 1}
    value["nodes"]["gpu02"]["pool"], value["nodes"]["gpu03"]["pool"] = "other", "plain"
    files = render_bundle(finished(value), ASSETS)
    assert yaml.load(files[CANARY_FILE], Loader=PlainLoader) == {"planner_canaries": {
        "c1": {"argv": ["/opt/a"], "seconds": 900}, "c2": {"argv": ["/opt/b", "--x"], "seconds": 120}}}
    (first,), (second,) = (yaml.load(files[f"plays/{name}.yml"], Loader=Loader) for name in ("w1-canary", "w2-batch"))
    assert (first["vars"]["planner_canary_of"], first["vars_files"]) == ({"gpu01": "c1"}, [CANARY_VARS])
    assert second["vars"]["planner_canary_of"] == {"gpu02": "c2"}
    for name, content in render_bundle(finished(document()), ASSETS).items():
        assert b"anary_of" not in content, name
        assert b"own command" not in content, name


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=300)))
def test_every_loader_gives_back_what_was_written(words: list[str]) -> None:
    text = dump_yaml({"argv": Exact(words)})
    assert yaml.load(text, Loader=PlainLoader) == yaml.load(text, Loader=CLoader) == {"argv": words}
    assert text.startswith("argv: !unsafe")


def test_people_read_one_line_of_it() -> None:
    assert command_words(("/opt/x", "a\nb \x1b[31m \u202e")) == '["/opt/x", "a\\nb \\u001b[31m \\u202e"]'
    long = command_words(("/opt/x", "y" * 100_000))
    assert len(long) < SHOWN_CHARS + 80
    assert long.endswith("… (100014 characters; all of it is in plan.json)")
    (told,) = canary_sentences(finished(with_command("/opt/x")))
    assert told.startswith('each node of train runs ["/opt/x"] after its standard gate, 15 min at most;')


# --- by plain ansible-playbook

def play(tmp_path: Path, argv: tuple[str, ...], **more: Any) -> tuple[subprocess.CompletedProcess[str],
                                                                      Mapping[str, Any]]:
    """Run the bundle's own task file on this machine, with the bundle's variables; return what the module said."""
    bundle = tmp_path / "bundle"
    write_bundle(render_bundle(finished(with_command(*argv, minutes=1)), load_assets()), bundle)
    out = tmp_path / "verdict.json"
    tasks = [
        {"name": "Try", "ansible.builtin.import_role": {"name": "planner_gate", "tasks_from": "canary"}},
        {"name": "Tell", "ansible.builtin.copy": {"content": "{{ planner_gate_canary_verdict | to_json }}",
                                                 "dest": str(out), "mode": "0600"}},
    ]
    written = [{"hosts": "gpu01", "gather_facts": False, "vars_files": [CANARY_VARS], "tasks": tasks, "vars": {
        "planner_canary_of": {"gpu01": "c1"}, "planner_probe_python": sys.executable,
        "planner_probe": str(bundle / "files" / "probe.zip"), "planner_nonce": "00ff", **more}}]
    (bundle / "plays" / "try.yml").write_text(yaml.safe_dump(written, sort_keys=False))
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"gpu01": local}}}))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")} | {"ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "../hosts.json", "plays/try.yml"], cwd=bundle,
        env=environment, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert not list(tmp_path.rglob("pwned"))
    return done, json.loads(out.read_text(encoding="utf-8"))


def test_hostile_words_arrive_as_they_are(tmp_path: Path) -> None:
    """Templates, quotes, newlines and 100 kB: the command gets its words sign by sign, and nothing runs them."""
    heard = tmp_path / "heard.json"
    script = f"import json, sys; open({str(heard)!r}, 'w').write(json.dumps(sys.argv[1:])); print(sys.argv[1])"
    _, verdict = play(tmp_path, (sys.executable, "-c", script, *HOSTILE, *LONG))
    assert (verdict["outcome"], verdict["code"]) == ("pass", "OK"), verdict
    assert json.loads(heard.read_text()) == [*HOSTILE, *LONG]


@pytest.mark.parametrize(("argv", "more", "words"), [
    ((sys.executable, "-c", "import sys; sys.exit('{{ lookup(\"pipe\", \"touch pwned\") }} no GPU')"), {},
     "exit status 1 after"),
    (("/opt/site/not-there",), {}, "No such file or directory"),
    (("true",), {"planner_probe": "/opt/no-probe.zip"}, "the probe gave no report: "),
    (("true",), {"planner_probe_python": "/opt/no-python"}, "the probe gave no report: "),
], ids=["fails", "no-command", "no-probe", "no-python"])
def test_what_does_not_pass_is_a_failure_with_words(tmp_path: Path, argv: tuple[str, ...], more: dict[str, Any],
                                                    words: str) -> None:
    _, verdict = play(tmp_path, argv, **more)
    assert (verdict["outcome"], verdict["code"]) == ("fail", "CANARY_FAILED")
    assert words in verdict["reasons"][0]
