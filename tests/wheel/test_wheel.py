"""The wheel alone is a working planner: built here, installed into an empty environment, used far from the checkout."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA_KINDS = ("playbooks", "inventories", "matrices", "examples")
EXAMPLE = "01-two-generations"


def run(*command: str | Path, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command without the checkout's environment; fail with its output."""
    # User and system configuration of this machine must not reach the program under test.
    environment = {"PATH": os.defpath, "HOME": str(cwd), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    if ok:
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def digests(root: Path) -> dict[str, str]:
    """Return relative path -> SHA-256 of every file under ``root`` that is not a cache."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {"__pycache__", ".ansible"}.intersection(path.relative_to(root).parts)
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the installed build backend: no isolation, so no network."""
    pytest.importorskip("hatchling", reason="hatchling is not installed (./run setup installs it)")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=ROOT)
    (built,) = out.glob("planner-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin directory of an environment that holds the wheel, and the locked libraries by one path entry."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index",
        "--disable-pip-version-check", wheel, cwd=home)  # fmt: skip
    site = next(home.glob("lib/python*/site-packages"))
    # A plain path entry gives the libraries; .pth files inside them, such as the editable install's, are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return home / "bin"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Return an empty working directory."""
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def package_dir(installed: Path, cwd: Path) -> Path:
    """Return where the environment's planner package lies."""
    code = "import planner, pathlib; print(pathlib.Path(planner.__file__).parent)"
    return Path(run(installed / "python", "-c", code, cwd=cwd).stdout.strip())


def test_the_checkout_is_out_of_sight(installed: Path, empty: Path) -> None:
    """The package under test is the one from the wheel."""
    location = package_dir(installed, empty)
    assert ROOT not in location.parents
    assert installed.parent in location.parents


@pytest.mark.parametrize("kind", DATA_KINDS)
def test_data_in_the_wheel_equal_the_checkout(kind: str, installed: Path, empty: Path) -> None:
    """Each data tree in the wheel has the files of the checkout, byte for byte, and planner finds it there."""
    code = f"from planner.data import data_dir; print(data_dir({kind!r}))"
    found = Path(run(installed / "python", "-c", code, cwd=empty).stdout.strip())
    assert package_dir(installed, empty) in found.parents
    expected = digests(ROOT / kind)
    assert expected
    assert digests(found) == expected


def test_the_wheel_plans_the_example_and_the_plan_is_the_same(installed: Path, empty: Path, tmp_path: Path) -> None:
    """From an empty directory the installed program plans the shipped example to the bytes that the checkout gives."""
    example = package_dir(installed, empty) / "_data" / "examples" / EXAMPLE
    run(installed / "planner", *plan_arguments(example, "bundle"), cwd=empty)
    theirs = digests(empty / "bundle")
    assert {"plan.json", "PLAN.md", "MANIFEST.json"} <= set(theirs)

    checkout = tmp_path / "checkout"
    checkout.mkdir()
    run(sys.executable, "-m", "planner", *plan_arguments(ROOT / "examples" / EXAMPLE, "bundle"), cwd=checkout)
    ours = digests(checkout / "bundle")
    assert theirs == ours


def plan_arguments(example: Path, out: str) -> list[str | Path]:
    """Return the arguments of the plan command for one example directory."""
    return ["plan", "--facts", example / "facts.json", "--target", example / "target.yml", "--out", out]


def test_the_wheel_carries_no_tests_and_no_caches(wheel: Path) -> None:
    """What is shipped is the program and its data."""
    names = zipfile.ZipFile(wheel).namelist()
    strays = [n for n in names if "__pycache__" in n or n.startswith(("tests/", "benchmarks/")) or n.endswith(".pyc")]
    assert strays == []
    assert any(name.endswith("LICENSE") for name in names)
