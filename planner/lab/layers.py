"""The layers of a node's root file system, built once and cached: plain Debian, a flavour, a golden first state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from planner.diagnostics import Diagnostic
from planner.errors import LabError
from planner.lab.build import compiled
from planner.lab.catalogue import kernel_release
from planner.lab.spec import KERNEL, Manager, NodeSpec, os_release_text
from planner.lab.tools import HERE, build_place, cache_dir, digest_of, locked, remove_tree, run, source_digest

SUITE = "bookworm"
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "python3-apt", "sudo", "gpgv", "iproute2",
    "iputils-ping", "procps", "ca-certificates", "slurmd", "slurmctld", "slurm-client", "munge", "lsof", "psmisc",
    "rpm", "dnf",
)
_BUILD_LIMIT_S = 1800
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")     # a build whose starter was killed must not go on alone
_LAYER_LIMIT_S = 600


def base_tree() -> Path:
    """Return plain Debian with everything that nodes of both flavours need; the only step that uses the network."""
    final = cache_dir() / "rootfs" / digest_of(SUITE, PACKAGES)
    with locked("rootfs"):
        if final.is_dir():
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with build_place(final) as part:
            sources = final.with_name(final.name + ".list")
            sources.write_text(debian_sources(Path("/etc/apt")), encoding="utf-8")
            options = [f"--aptopt={o}" for o in ('APT::Install-Recommends "false"', 'Acquire::Languages "none"')]
            alone = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
            run(*_DIES_WITH_US, *alone, "mmdebstrap", "--variant=minbase", "--format=directory", *options,
                f"--include={','.join(PACKAGES)}", SUITE, part, sources, timeout_s=_BUILD_LIMIT_S)
    return final


def debian_sources(apt: Path) -> str:
    """Return this machine's own apt sources of the lab's Debian release, in the one-line format of sources.list.

    Args:
        apt: The machine's ``/etc/apt``.

    Returns:
        Lines for main; where the machine has none for this release, Debian's own address.
    """
    lines = []
    for file in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        lines += [line.strip() for line in text.splitlines()
                  if re.match(rf"\s*deb\s.*\s{SUITE}(-security|-updates)?\s", line)]
    for file in sorted(apt.glob("sources.list.d/*.sources")):
        for block in re.split(r"\n\s*\n", file.read_text(encoding="utf-8")):
            lines += _one_line(block)
    if not any(re.search(rf"\s{SUITE}\s", line) for line in lines):
        return f"deb http://deb.debian.org/debian {SUITE} main\n"
    return "".join(line + "\n" for line in dict.fromkeys(lines))


def _one_line(block: str) -> list[str]:
    """Return a deb822 block's entries of the lab's release as one-line entries."""
    keys = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", block, re.MULTILINE))
    if keys.get("Enabled", "yes") == "no" or "deb" not in keys.get("Types", "").split():
        return []
    signed = keys.get("Signed-By", "").strip()
    option = f"[signed-by={signed}] " if signed.startswith("/") else ""
    return [f"deb {option}{uri} {suite} {keys.get('Components', 'main')}" for uri in keys.get("URIs", "").split()
            for suite in keys.get("Suites", "").split() if re.fullmatch(rf"{SUITE}(-security|-updates)?", suite)]


def flavour_layers(manager: Manager) -> tuple[Path, ...]:
    """Return the layers of a flavour, topmost first."""
    base = base_tree()
    binaries = compiled()
    final = cache_dir() / "flavours" / f"{manager}-{digest_of(base.name, source_digest('node', 'standin'))}"
    with locked(f"flavour-{manager}"):
        if not final.is_dir():
            with build_place(final) as part:
                _run_layer((base,), part, {}, HERE / "node" / "tune.sh", "ROOT", manager, binaries)
    return (final / "upper", base)


def golden_layers(spec: NodeSpec, repository: Path, address: str, marks: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the layers of a node in its first state, topmost first; equal states share one golden layer.

    Args:
        spec: The node.
        repository: As ``build_repository`` returned it; it must be served at ``address`` now.
        address: Where the lab's HTTP server listens.
        marks: Environment that marks every process as this lab's.

    Raises:
        LabError: The packages cannot be installed together.
    """
    below = flavour_layers(spec.manager)
    kernel = running_kernel(spec)
    state = (below[0].parent.name, repository.name, sorted(spec.packages.items()), sorted(spec.links.items()), kernel,
             os_release_text(spec), source_digest("node/golden.sh", "node/layer.sh"))
    final = cache_dir() / "golden" / digest_of(*state)
    with locked(f"golden-{final.name}"):
        if final.is_dir():
            return (final / "upper", *below)
        glue = "=" if spec.manager == "apt" else "-"
        pins = [f"{name}{glue}{version}" for name, version in sorted(spec.packages.items())]
        links = [f"{link}={target}" for link, target in sorted(spec.links.items())]
        with build_place(final) as part:
            etc = part / "upper" / "etc"
            (etc / "apt").mkdir(parents=True)
            (etc / "os-release").write_text(os_release_text(spec), encoding="utf-8")
            keyrings = part / "upper" / "usr/share/keyrings"
            keyrings.mkdir(parents=True)
            (keyrings / "planner-lab.gpg").write_bytes((repository / "keyring.gpg").read_bytes())
            try:
                _run_layer(below, part, marks, HERE / "node" / "golden.sh", spec.manager, kernel, address, *pins, "--",
                           *links)
            except LabError as exc:
                raise LabError(Diagnostic(
                    code="lab-first-state", subject=f"node {spec.name}", why=exc.diagnostics[0].why,
                    summary="the packages of its first state cannot be installed together",
                    hint="name every package that these depend on, or leave one out")) from exc
    return (final / "upper", *below)


def running_kernel(spec: NodeSpec) -> str:
    """Return the release that a node runs at its start: as told, else of a kernel package, else the flavour's."""
    if spec.kernel:
        return spec.kernel
    found = sorted(r for n, v in spec.packages.items() if (r := kernel_release(n, v)))
    return found[-1] if found else KERNEL[spec.manager]


def _run_layer(below: tuple[Path, ...], part: Path, marks: Mapping[str, str], script: Path, *words: object) -> None:
    """Run a script over a stack of layers; what it writes stays in ``part/upper``. A word ROOT is the mounted tree."""
    lower = ":".join(str(path) for path in below)
    told = [part / "root" if word == "ROOT" else word for word in words]
    run(*_DIES_WITH_US, "bash", HERE / "node" / "layer.sh", lower, part, "bash", script, *told, env=marks,
        timeout_s=_LAYER_LIMIT_S)
    for name in ("work", "root"):
        remove_tree(part / name)
