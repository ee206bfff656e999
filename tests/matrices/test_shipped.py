"""The shipped matrices: clean, sourced, and right about combinations whose outcome is documented or measured."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import fnmatchcase

import pytest

from planner.check.evaluate import judge_state, problems
from planner.check.verdict import Verdict
from planner.cli.matrix import _verdict_on_nodes, _verdicts
from planner.data import data_dir
from planner.documents import parse_yaml
from planner.matrix.index import MatrixSet
from planner.matrix.lint import lint
from planner.matrix.schema import State
from planner.model.version import version_key

# Components and attributes as ARCHITECTURE.md names them.
COMPONENTS = [
    "kernel",
    "driver",
    "fabric_manager",
    "imex",
    "nscq",
    "cuda_toolkits",
    "cudnn",
    "nccl",
    "tensorrt",
    "container_toolkit",
]
# What other packages carry or what only a target speaks of, and what other hands change.
MORE = ["driver_flavour", "cuda_compat"]
HANDED = [
    "os",
    "driver_origin",
    "node_image",
    "toolkit_module",
    "cuda_runtime",
    "gpu_operator",
    "vgpu_host",
    "vgpu_guest",
]
ATTRIBUTES = [
    "os_family",
    "arch",
    "compute_capability",
    "gpu_model",
    "gpu_class",
    "nvswitch",
    "driver_owner",
    "secure_boot",
    "loaded_driver",
]

HGX: dict[str, tuple[str, ...]] = {
    "os": ("ubuntu-22.04",),
    "kernel": ("5.15.0-113-generic",),
    "driver": ("580.159.04",),
    "loaded_driver": ("580.159.04",),
    "fabric_manager": ("580.159.04",),
    "nscq": ("580.159.04",),
    "imex": (),
    "cuda_toolkits": ("12.8.1", "13.0.2"),
    "cudnn": ("9.12.0.46",),
    "nccl": ("2.28.9",),
    "tensorrt": (),
    "container_toolkit": ("1.19.1",),
    "nvswitch": ("yes",),
    "compute_capability": ("9.0",),
    "gpu_model": ("h100-sxm",),
    "driver_flavour": ("open",),
    "cuda_runtime": ("12.8.90",),
}
V100 = {
    **HGX,
    "compute_capability": ("7.0",),
    "gpu_model": ("v100",),
    "nvswitch": ("no",),
    "fabric_manager": (),
    "nscq": (),
    "driver_flavour": ("proprietary",),
    "cuda_toolkits": ("12.8.1",),
    "cudnn": ("9.10.2",),
    "nccl": ("2.27.7",),
}


def test_lint_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    report = lint((data_dir("matrices"),), _verdicts, _verdict_on_nodes)
    with capsys.disabled():
        print("\nmatrices:", ", ".join(f"{number} {name}" for name, number in report.counts.items()))
    assert [f"{f.subject} {f.code} {f.summary}" for f in report.findings] == []
    assert report.counts["claims"] >= 200
    assert report.counts["releases"] >= 250
    assert report.counts["gpu_models"] >= 25
    assert report.counts["examples"] >= 400


def test_state_speaks_the_documented_names(shipped: MatrixSet) -> None:
    for names, role in (((*COMPONENTS, *MORE, *HANDED), "component"), (ATTRIBUTES, "attribute")):
        assert [n for n in names if shipped.components[n].role != role] == []
    assert {n for n, c in shipped.components.items() if c.role == "component"} == {*COMPONENTS, *MORE, *HANDED}
    assert {n for n, c in shipped.components.items() if c.many} >= {
        "cuda_toolkits",
        "compute_capability",
        "gpu_model",
        "cuda_runtime",
    }


def test_every_component_can_be_moved_and_installed(shipped: MatrixSet) -> None:
    moved = {c for m in shipped.moves for c in m.components}
    packaged = {(p.component, p.manager) for p in shipped.packages}
    linked = {c for m in shipped.moves if m.act == "links" for c in m.components}
    assert linked == {name for name, c in shipped.components.items() if c.default_of}
    booted = {c for m in shipped.moves if m.act == "boot" for c in m.components}
    assert booted == {name for name, c in shipped.components.items() if c.loaded_of}
    assert moved == {*COMPONENTS, *MORE, *HANDED, *linked, *booted}
    by_packages = {c for m in shipped.moves if m.act == "packages" for c in m.components}
    assert by_packages == {*COMPONENTS, *MORE}
    assert [(c, m) for c in COMPONENTS for m in ("apt", "dnf") if (c, m) not in packaged] == []


def test_what_is_only_recalled_says_so(shipped: MatrixSet) -> None:
    confidence = Counter(c.provenance.confidence for c in shipped.claims)
    assert set(confidence) == {"documented", "measured", "derived", "recalled"}
    recalled = [c for c in shipped.claims if c.provenance.confidence == "recalled"]
    assert all(re.search("recalled|not found|device names|RELEASE.md", c.provenance.title) for c in recalled)


def blocking(state: State, matrices: MatrixSet) -> set[str]:
    return {j.rule for j in problems(state, matrices) if j.blocking}


@pytest.mark.parametrize(
    "state",
    [
        HGX,
        V100,
        {
            **HGX,
            "driver": ("535.309.01",),
            "loaded_driver": ("535.309.01",),
            "fabric_manager": ("535.309.01",),
            "nscq": ("535.309.01",),
            "cuda_toolkits": ("12.2.2",),
            "cudnn": ("8.9.7",),
            "nccl": ("2.18.3",),
        },
        {**HGX, "os": ("rhel-9.4",), "kernel": ("5.14.0-427.13.1.el9_4.x86_64",)},
        {**HGX, "os": ("debian-12",), "kernel": ("6.1.0-28-amd64",)},
        {**HGX, "gpu_model": ("b200",), "compute_capability": ("10.0",)},
        {
            **HGX,
            "gpu_model": ("l40s",),
            "compute_capability": ("8.9",),
            "nvswitch": ("no",),
            "fabric_manager": (),
            "nscq": (),
        },
        {
            "os": ("ubuntu-22.04",),
            "driver": (),
            "cuda_toolkits": ("12.4.1",),
            "compute_capability": (),
            "cudnn": (),
            "nccl": (),
        },
    ],
    ids=["hgx-580", "v100-580", "hgx-535", "rhel-9", "debian-12", "b200", "l40s", "build-host"],
)
def test_valid_stacks_are_left_alone(state: State, shipped: MatrixSet) -> None:
    assert blocking(state, shipped) == set()


# Measured on an H200 with driver 580.159: every runtime from 11.7 to 13.5 starts and works.
@pytest.mark.parametrize(
    "runtime", ["11.7.99", "11.8.89", "12.1.105", "12.4.127", "12.8.90", "13.0.96", "13.2.86", "13.5.37"]
)
def test_measured_runtimes_are_supported(runtime: str, shipped: MatrixSet) -> None:
    state = {**HGX, "gpu_model": ("h200-sxm",), "cuda_runtime": (runtime,)}
    assert blocking(state, shipped) == set()
    verdicts = {j.verdict for j in judge_state(state, shipped) if j.family == "cuda-runtime-driver"}
    assert verdicts == {Verdict.SUPPORTED}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"cuda_toolkits": ("13.0.2",), "driver": ("575.57.08",)}, "cuda-13-driver-floor"),
        ({"cuda_toolkits": ("12.8.1",), "driver": ("515.105.01",)}, "cuda-12-driver-floor"),
        ({"cuda_runtime": ("13.0.96",), "driver": ("570.211.01",)}, "cuda-13-runtime-floor"),
        ({"fabric_manager": ("580.159.03",)}, "fabric-manager-equals-driver"),
        ({"fabric_manager": ()}, "nvswitch-needs-fabric-manager"),
        (
            {"gpu_model": ("b200",), "compute_capability": ("10.0",), "driver_flavour": ("proprietary",)},
            "blackwell-needs-open-modules",
        ),
        ({"gpu_model": ("b200",), "compute_capability": ("10.0",), "driver": ("565.57.01",)}, "gpu-10.0-first-driver"),
        ({"driver": ("615.71.09",), "driver_flavour": ("proprietary",)}, "r615-open-modules-only"),
        ({"kernel": ("7.1.6-200.fc45.x86_64",), "driver": ("580.142",)}, "driver-580.142-kernel-7"),
        ({"cudnn": ("8.9.7",), "cuda_toolkits": ("13.0.2",)}, "cudnn-8.9-cuda"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_known_conflicts_are_found(change: dict[str, tuple[str, ...]], rule: str, shipped: MatrixSet) -> None:
    assert rule in blocking({**HGX, **change}, shipped)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"cuda_toolkits": ("12.8.1", "13.0.2")}, "gpu-7.0-last-toolkit"),
        ({"driver": ("590.48.01",)}, "gpu-7.0-last-driver"),
        ({"driver_flavour": ("open",)}, "pre-turing-needs-proprietary-modules"),
        ({"cudnn": ("9.12.0.46",)}, "cudnn-drops-pre-turing"),
        ({"compute_capability": ("7.0", "9.0"), "cuda_toolkits": ("13.0.2",)}, "gpu-7.0-last-toolkit"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_volta_stays_behind(change: dict[str, tuple[str, ...]], rule: str, shipped: MatrixSet) -> None:
    assert rule in blocking({**V100, **change}, shipped)


@pytest.mark.parametrize(
    ("change", "family"),
    [
        ({"driver": ("630.10.01",)}, "gpu-driver"),
        ({"driver": ("630.10.01",)}, "driver-os"),
        ({"cuda_toolkits": ("14.0.0",)}, "cuda-driver"),
        ({"cuda_toolkits": ("14.0.0",)}, "gpu-toolkit"),
        ({"os": ("gentoo-2.15",)}, "driver-os"),
        ({"compute_capability": ("13.0",)}, "gpu-driver"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_nobody_knows_is_unknown(change: dict[str, tuple[str, ...]], family: str, shipped: MatrixSet) -> None:
    found = {(j.rule, j.verdict) for j in judge_state({**HGX, **change}, shipped)}
    assert (family, Verdict.UNKNOWN) in found


def test_a_newer_branch_is_no_ceiling_for_old_toolkits(shipped: MatrixSet) -> None:
    """The release notes print upper bounds (< 580 for 12.x); they only end minor-version compatibility."""
    state = {
        **HGX,
        "driver": ("615.71.09",),
        "fabric_manager": ("615.71.09",),
        "nscq": ("615.71.09",),
        "cuda_toolkits": ("11.8.0",),
        "cudnn": ("9.10.2",),
        "nccl": (),
    }
    assert {r for r in blocking(state, shipped) if "cuda" in r} == set()


def test_ptx_beyond_the_driver_is_told_and_does_not_block(shipped: MatrixSet) -> None:
    state = {**HGX, "cuda_toolkits": ("13.1.0",)}
    told = [j for j in problems(state, shipped) if j.rule == "cuda-13.1-ptx"]
    assert [(j.severity, j.blocking) for j in told] == [("warning", False)]
    assert not [j for j in problems(HGX, shipped) if j.family == "cuda-ptx"]


def test_end_of_life_is_a_named_risk(shipped: MatrixSet) -> None:
    state = {**HGX, "driver": ("570.211.01",)}
    assert [j.risk for j in problems(state, shipped) if j.family == "support-lifetime"] == ["r570-end-of-life"]


@pytest.mark.parametrize(
    ("nvml", "name", "nvswitch"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm", True),
        ("NVIDIA H100 PCIe", "h100-pcie", False),
        ("NVIDIA H100 NVL", "h100-nvl", False),
        ("NVIDIA H200", "h200-sxm", True),
        ("NVIDIA H200 NVL", "h200-nvl", False),
        ("NVIDIA GH200 480GB", "gh200", False),
        ("NVIDIA B200", "b200", True),
        ("NVIDIA B300 SXM6 AC", "b300", True),
        ("NVIDIA GB200", "gb200", False),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4", True),
        ("A100-SXM4-40GB", "a100-sxm4", True),
        ("NVIDIA A100 80GB PCIe", "a100-pcie", False),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie", False),
        ("NVIDIA A10", "a10", False),
        ("NVIDIA A10G", "a10g", False),
        ("NVIDIA L4", "l4", False),
        ("NVIDIA L40S", "l40s", False),
        ("NVIDIA L40", "l40", False),
        ("Tesla V100-SXM2-32GB", "v100", False),
        ("Tesla V100-SXM3-32GB", "v100-sxm3", True),
        ("Tesla P100-PCIE-16GB", "p100", False),
        ("Tesla T4", "t4", False),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server", False),
        ("NVIDIA H20", "h20", True),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "rtx-pro-6000", False),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada", False),
        ("NVIDIA GeForce RTX 4090", "rtx-4090", False),
        ("NVIDIA H100 80GB HBM3 (stand-in)", "h100-sxm", True),
    ],
)
def test_device_names_find_their_model(nvml: str, name: str, nvswitch: bool, shipped: MatrixSet) -> None:
    model = shipped.gpu_model(nvml)
    assert model is not None
    assert (model.name, model.nvswitch) == (name, nvswitch)


def test_toolkits_carry_both_driver_numbers(shipped: MatrixSet) -> None:
    figures = {r.version: r.attributes for r in shipped.releases["cuda_toolkits"]}
    assert (figures["12.8.1"]["family_floor"], figures["12.8.1"]["paired_driver"]) == ("525.60.13", "570.124.06")
    assert (figures["13.0.2"]["family_floor"], figures["13.0.2"]["paired_driver"]) == ("580.65.06", "580.95.05")
    assert figures["13.4.2"]["paired_branch"] == "615"
    assert "paired_driver" not in figures["13.5.0"]  # no source names the pair
    assert not [v for v in figures if v.startswith("12.7")]
    for version, a in figures.items():
        if "paired_driver" in a:
            assert version_key(a["family_floor"]) <= version_key(a["paired_driver"]), version


def test_driver_releases_carry_their_branch(shipped: MatrixSet) -> None:
    release = shipped.release("driver", "580.65.06")
    assert release is not None
    assert (release.branch_type, release.eol, release.attributes["max_cuda"]) == ("LTSB", "2028-06", "13.0")
    per_branch: dict[str, set[tuple[str | None, str | None]]] = {}
    for item in shipped.releases["driver"]:
        per_branch.setdefault(item.version.split(".")[0], set()).add((item.branch_type, item.eol))
    assert [b for b, kinds in per_branch.items() if len(kinds) != 1] == []
    fixed = shipped.release("driver", "580.159.03")
    assert fixed is not None
    assert "CVE-2026-24187" in fixed.cves_fixed


def test_files_read_well() -> None:
    """Short enough to review, no tabs, quoted numbers only (an unquoted 12.8 would be a float)."""
    for path in sorted(data_dir("matrices").glob("*.yml")):
        text = path.read_text()
        assert "\t" not in text, path
        assert len(text.splitlines()) <= 400, path
        widest = 360 if path.name.startswith("messages-") else 140      # a pattern cannot be broken over lines
        assert max(map(len, text.splitlines())) <= widest, path
        assert not _numbers(parse_yaml(text, name=path.name)), path


def _numbers(value: object, key: str = "") -> list[object]:
    if isinstance(value, dict):
        return [n for k, v in value.items() for n in _numbers(v, k)]
    if isinstance(value, list):
        return [n for v in value for n in _numbers(v, key)]
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    counted = ("minutes", "parts", "prior", "times", "strength", "slot_parts", "timeout_percent")
    return [value] if plain and key not in counted else []


def test_version_and_readme_are_there() -> None:
    assert re.fullmatch(r"\d{4}\.\d{2}\.\d{2}\n", (data_dir("matrices") / "VERSION").read_text())
    readme = (data_dir("matrices") / "README.md").read_text()
    listed = re.findall(r"`([a-z0-9*.-]+\.yml)`", readme)
    names = [p.name for p in data_dir("matrices").glob("*.yml")]
    assert [n for n in names if not any(fnmatchcase(n, glob) for glob in listed)] == []
    assert [glob for glob in listed if not any(fnmatchcase(n, glob) for n in names)] == []
