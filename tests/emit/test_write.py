"""A bundle on disk: whole, refused when anybody changed it, and nobody else's files are lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from planner.documents import canonical_json, digest
from planner.emit.render import render_bundle
from planner.emit.write import read_bundle, write_bundle
from planner.errors import BundleError
from tests.emit.sample import ASSETS, document, finished


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a written bundle."""
    write_bundle(render_bundle(finished(document()), ASSETS), tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_reads_back_as_its_plan(bundle: Path) -> None:
    assert read_bundle(bundle) == finished(document())
    assert sorted(p.name for p in bundle.parent.iterdir()) == ["bundle"]      # nothing temporary is left


def test_records_and_hidden_names_are_not_tampering(bundle: Path) -> None:
    """Runs write records into the bundle; git and linters keep hidden directories there."""
    (bundle / "records" / "w1").mkdir(parents=True)
    (bundle / "records" / "w1" / "gpu01.json").write_text("{}")
    (bundle / ".git").mkdir()
    (bundle / ".git" / "HEAD").write_text("ref")
    read_bundle(bundle)


@pytest.mark.parametrize("spelled", [".", "../bundle", "../bundle/../bundle"])
def test_an_older_bundle_is_replaced_however_it_is_spelled(
        bundle: Path, monkeypatch: pytest.MonkeyPatch, spelled: str) -> None:
    """A path through the bundle itself leads nowhere while that is moved aside."""
    monkeypatch.chdir(bundle)
    write_bundle(render_bundle(finished(document()), ASSETS), Path(spelled))
    read_bundle(bundle)
    assert sorted(p.name for p in bundle.parent.iterdir()) == ["bundle"]


def test_an_older_bundle_comes_back_when_the_new_one_cannot_take_its_place(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / "records").mkdir()
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == bundle and not self.name.endswith(".old"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(BundleError):
        write_bundle(render_bundle(finished(document()), ASSETS), bundle)
    read_bundle(bundle)
    assert (bundle / "records").is_dir()
    assert sorted(p.name for p in bundle.parent.iterdir()) == ["bundle"]


def _edit_plan_and_manifest(bundle: Path) -> None:
    """Change the plan as somebody would who knows of the manifest, but not of the plan's own digest."""
    plan = json.loads((bundle / "plan.json").read_text())
    plan["rollout"]["max_unavailable"] = "100%"
    (bundle / "plan.json").write_text(json.dumps(plan))
    manifest = json.loads((bundle / "MANIFEST.json").read_text())
    manifest["files"]["plan.json"] = digest((bundle / "plan.json").read_bytes())
    (bundle / "MANIFEST.json").write_text(json.dumps(manifest))


def _link(bundle: Path) -> None:
    (bundle / "PLAN.md").rename(bundle.parent / "elsewhere.md")
    (bundle / "PLAN.md").symlink_to(bundle.parent / "elsewhere.md")


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "changed": (lambda b: (b / "plays/w1-canary.yml").write_text("[]\n"), "plays/w1-canary.yml", "changed"),
    "missing": (lambda b: (b / "plays/w1-canary.yml").unlink(), "plays/w1-canary.yml", "missing"),
    "added": (lambda b: (b / "plays/group_vars.yml").write_text("a: 1\n"), "plays/group_vars.yml", "added"),
    "role": (lambda b: (b / "roles/planner_gate/tasks/main.yml").write_text("---\n"), "roles/planner_gate", "changed"),
    "probe": (lambda b: (b / "files/probe.zip").write_bytes(b"PK"), "files/probe.zip", "changed"),
    "link": (_link, "PLAN.md", "changed"),
    "plan-and-manifest": (_edit_plan_and_manifest, "plan.json", "changed"),
    "no-manifest": (lambda b: (b / "MANIFEST.json").unlink(), "MANIFEST.json", "read"),
    "broken-manifest": (lambda b: (b / "MANIFEST.json").write_text("{"), "MANIFEST.json", "read"),
    "manifest-of-another-kind": (lambda b: (b / "MANIFEST.json").write_text('{"schema": 1}'), "MANIFEST.json", "read"),
}


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_a_tampered_bundle_is_refused_by_the_file(bundle: Path, kind: str) -> None:
    tamper, subject, word = TAMPERINGS[kind]
    tamper(bundle)
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    assert subject in caught.value.diagnostics[0].subject
    assert word in caught.value.diagnostics[0].summary
    assert "planner plan" in caught.value.diagnostics[0].hint


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        read_bundle(tmp_path / "nowhere")
    assert "nowhere" in caught.value.diagnostics[0].subject


def test_an_older_bundle_is_replaced_and_its_records_stay(bundle: Path) -> None:
    (bundle / "records").mkdir()
    (bundle / "records" / "kept.json").write_text("{}")
    changed = document()
    changed["eta_minutes"] = 126
    write_bundle(render_bundle(finished(changed), ASSETS), bundle)
    assert read_bundle(bundle).eta_minutes == 126
    assert (bundle / "records" / "kept.json").read_text() == "{}"


@pytest.mark.parametrize("place", ["thesis.tex", "sub/thesis.tex"])
def test_foreign_files_are_not_overwritten(tmp_path: Path, bundle: Path, place: str) -> None:
    """Neither in a directory that is no bundle, nor inside one."""
    files = render_bundle(finished(document()), ASSETS)
    for directory in (tmp_path / "mine", bundle):
        (directory / place).parent.mkdir(parents=True, exist_ok=True)
        (directory / place).write_text("ten years of work")
        with pytest.raises(BundleError) as caught:
            write_bundle(files, directory)
        assert "thesis.tex" in caught.value.diagnostics[0].summary
        assert (directory / place).read_text() == "ten years of work"


def test_a_file_or_link_in_the_way_is_kept(tmp_path: Path) -> None:
    files = render_bundle(finished(document()), ASSETS)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(BundleError):
            write_bundle(files, tmp_path / name)
    assert (tmp_path / "file").read_text() == "x"


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    write_bundle(render_bundle(finished(document()), ASSETS), tmp_path / "new")
    read_bundle(tmp_path / "new")


def test_a_bundle_of_an_older_planner_is_read(bundle: Path) -> None:
    """Fields that came later are not in its plan; its digest is over what was written, and it still holds."""
    plan = json.loads((bundle / "plan.json").read_text())
    del plan["pools"]["train"]["already_down"], plan["warnings"]
    plan["digest"] = digest({**plan, "digest": ""})
    (bundle / "plan.json").write_text(canonical_json(plan))
    manifest = json.loads((bundle / "MANIFEST.json").read_text())
    manifest["plan"], manifest["files"]["plan.json"] = plan["digest"], digest((bundle / "plan.json").read_bytes())
    (bundle / "MANIFEST.json").write_text(canonical_json(manifest))
    assert read_bundle(bundle).warnings == ()
