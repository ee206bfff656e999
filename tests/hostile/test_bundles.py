"""A bundle is what was reviewed, byte for byte, or it is refused; and what is not a bundle is not overwritten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_desk import PLAN, Desk


def _first_play(bundle: Path) -> Path:
    return sorted((bundle / "plays").glob("*.yml"))[0]


def _append(bundle: Path) -> None:
    play = _first_play(bundle)
    play.write_text(play.read_text(encoding="utf-8") + "# one more thing\n", encoding="utf-8")


def _edit_plan(bundle: Path) -> None:
    plan = bundle / "plan.json"
    plan.write_text(plan.read_text(encoding="utf-8").replace("max_unavailable", "max_unavailablE", 1), encoding="utf-8")


def _edit_role(bundle: Path) -> None:
    task = sorted(bundle.glob("roles/*/tasks/main.yml"))[0]
    task.write_text(task.read_text(encoding="utf-8") + "\n", encoding="utf-8")


def _cut_manifest(bundle: Path) -> None:
    (bundle / "MANIFEST.json").write_text('{"schema":', encoding="utf-8")


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "play-edited": (_append, "plays/"),
    "plan-edited": (_edit_plan, "plan.json"),
    "role-edited": (_edit_role, "roles/"),
    "play-missing": (lambda b: _first_play(b).unlink(), "plays/"),
    "play-added": (lambda b: (b / "plays" / "w9-extra.yml").write_text("[]\n"), "w9-extra.yml"),
    "module-added": (lambda b: (b / "library" / "ping.py").write_text("x = 1\n"), "ping.py"),
    "manifest-cut": (_cut_manifest, "MANIFEST.json"),
    "manifest-missing": (lambda b: (b / "MANIFEST.json").unlink(), "MANIFEST.json"),
    "probe-swapped": (lambda b: (b / "files" / "probe.zip").write_bytes(b"PK"), "probe.zip"),
}


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_a_tampered_bundle_is_refused_by_the_file(desk: Desk, kind: str) -> None:
    """Whatever was changed, `show` and `apply` name it and do nothing."""
    assert desk.planner(*PLAN).code == 0
    tamper, named = TAMPERINGS[kind]
    tamper(desk.path / "bundle")
    desk.refuses("show", "bundle", code=1, says=(named, "hint:"))
    desk.refuses("apply", "bundle", "--canary", code=1, says=(named,))


def test_an_untouched_bundle_is_shown(desk: Desk) -> None:
    """The refusals above are about the tampering."""
    assert desk.planner(*PLAN).code == 0
    assert desk.planner("show", "bundle").code == 0


def test_a_directory_that_is_no_bundle_is_not_overwritten(desk: Desk) -> None:
    """Someone's own directory survives a wrong --out."""
    desk.write("bundle/thesis.tex", "ten years of work\n")
    desk.refuses(*PLAN, code=1, says=("bundle", "hint:"))


def test_a_file_in_place_of_the_bundle_is_kept(desk: Desk) -> None:
    """The same for a file."""
    desk.write("bundle", "a file\n")
    desk.refuses(*PLAN, code=1, says=("bundle",))


@pytest.mark.parametrize("verb", ["show", "apply", "status", "rehearse", "resume", "approve"])
def test_a_missing_bundle_is_named(desk: Desk, verb: str) -> None:
    """No verb invents a bundle."""
    desk.refuses(verb, "nowhere", code=1, says=("nowhere",))
