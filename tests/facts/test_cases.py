"""Runs every recorded output under ``cases/<parser>/<case>.yml`` through its parser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from planner.facts.parse import kernel, packages, smi, software, system
from planner.probe.pid import mapped_libraries

CASES = Path(__file__).parent / "cases"


def _plain(value: Any) -> Any:
    """Return models and tuples as the YAML of a case has them; what a model does not know is left out."""
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _banner(raw: str) -> dict[str, Any]:
    banner = smi.parse_smi(raw)
    return {"smi": banner.smi, "driver": banner.driver, "cuda": banner.cuda, "error": banner.error}


def _nvml(raw: dict[str, Any]) -> dict[str, Any]:
    return {"cuda": smi.parse_cuda_number(raw.get("cuda")), "library": smi.parse_nvml_library(raw.get("nvml_version")),
            "gpus": smi.parse_nvml(raw)}


def _os_release(raw: str) -> dict[str, str]:
    keys = system.parse_os_release(raw)
    return {"id": keys.get("ID", ""), "version": keys.get("VERSION_ID", ""), "family": system.package_family(keys)}


def _dpkg(raw: dict[str, str]) -> dict[str, Any]:
    installed, problems = packages.parse_dpkg(raw["text"], raw["arch"])
    return {"installed": installed, "problems": problems}


def _library(raw: str) -> dict[str, str] | None:
    found = software.parse_library(raw)
    return None if found is None else {"name": found.name, "version": found.version}


def _env(raw: dict[str, Any]) -> dict[str, Any] | None:
    found = software.parse_env(raw)
    return None if found is None else found.model_dump()


PARSERS: dict[str, Callable[[Any], Any]] = {
    "smi": _banner,
    "smi_query": smi.parse_smi_query,
    "nvml": _nvml,
    "proc_version": lambda raw: {"version": kernel.parse_proc_version(raw), "flavour": kernel.parse_flavour(raw, "")},
    "modinfo": kernel.parse_modinfo,
    "next_boot": lambda raw: kernel.parse_next_boot(
        raw["bootable"], **{k: v for k, v in raw.items() if k != "bootable"}),
    "os_release": _os_release,
    "glibc": system.parse_glibc,
    "virtualisation": lambda raw: system.parse_virtualisation(raw["text"], raw["present"], raw["proc"]),
    "root": lambda raw: system.parse_root(raw["mount"], raw["upper"]),
    "secure_boot": lambda raw: system.parse_secure_boot(raw["text"], efi_byte=raw["efi"], present=raw["present"]),
    "units": lambda raw: {n: [u.active, u.enabled] for n, u in system.parse_units(raw).items()},
    "auto_upgrades": lambda raw: system.parse_auto_upgrades(
        raw["periodic"], system.parse_units(raw["units"]), raw["packages"]),
    "tool": system.parse_tool_version,
    "dpkg": _dpkg,
    "dpkg_audit": packages.parse_dpkg_audit,
    "dpkg_owners": packages.parse_dpkg_owners,
    "madison": lambda raw: packages.parse_madison(raw["text"], raw["arch"]),
    "rpm": lambda raw: packages.parse_rpm_versions(raw["text"], raw["machine"]),
    "holds": packages.parse_holds,
    "versionlock": packages.parse_versionlock,
    "version_json": software.parse_version_json,
    "version_txt": software.parse_version_txt,
    "nvcc": software.parse_nvcc,
    "toolkit": lambda raw: software.toolkit_version(raw["texts"], raw["nvcc"], raw["path"]),
    "library": _library,
    "userspace": software.parse_userspace,
    "python_env": _env,
    "maps": mapped_libraries,
}

FILES = sorted(CASES.glob("*/*.yml"))


@pytest.mark.parametrize("path", FILES, ids=[f"{p.parent.name}/{p.stem}" for p in FILES])
def test_case(path: Path) -> None:
    """The parser gives what the case expects."""
    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(case) == {"origin", "raw", "expected"}
    assert case["origin"].strip()
    assert _plain(PARSERS[path.parent.name](case["raw"])) == case["expected"]


def test_there_are_enough_cases_and_most_parsers_have_a_recorded_one() -> None:
    """A parser without a case is not tested, and cases must not be all invented."""
    assert {path.parent.name for path in FILES} == set(PARSERS)
    recorded = [p for p in FILES if not yaml.safe_load(p.read_text(encoding="utf-8"))["origin"].startswith("synthetic")]
    assert len(FILES) >= 40
    assert len(recorded) >= 40


TEXT_PARSERS = sorted({path.parent.name for path in FILES
                       if isinstance(yaml.safe_load(path.read_text(encoding="utf-8"))["raw"], str)})


@pytest.mark.parametrize("name", TEXT_PARSERS)
@pytest.mark.parametrize("noise", ["", "\n\n", "command not found", "\ufffd|||", "= : -> [N/A]", "{" * 50])
def test_parsers_survive_nonsense(name: str, noise: str) -> None:
    """Text of another program, binary noise or nothing gives no exception and no version."""
    assert not re.search(r"\d", str(_plain(PARSERS[name](noise))))
