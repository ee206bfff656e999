"""The package databases and repositories of a node, read only: dpkg and apt, rpm and dnf."""

from __future__ import annotations

import glob
import os
import re
from fnmatch import translate
from typing import Any, Pattern

from .observe_run import read_text, run_command

# Beside the globs of the request: whatever the driver's owner, kernels, schedulers and runtimes may be called.
ALWAYS = (
    "*nvidia*", "*cuda*", "*cudnn*", "*nccl*", "*tensorrt*", "libnvinfer*", "*fabric*manager*", "*imex*",
    "datacenter-gpu-manager*", "linux-image-*", "kernel", "kernel-core", "slurm*", "kubelet", "docker-ce",
    "docker.io", "containerd*", "enroot*", "apptainer*", "dkms", "unattended-upgrades", "dnf-automatic",
    "nvlsm", "libnvsdm*",
)
LOCK_FILES = (
    "/etc/dnf/plugins/versionlock.list", "/etc/yum/pluginconf.d/versionlock.list",
    "/etc/dnf/versionlock.toml",
)
DPKG_FORMAT = "${Package}|${Version}|${Architecture}|${db:Status-Abbrev}\n"
RPM_FORMAT = "%{NAME}|%{EPOCHNUM}|%{VERSION}-%{RELEASE}|%{ARCH}\n"
DNF_FORMAT = "%{name}|%{epoch}|%{version}-%{release}|%{arch}\n"


def observe_packages(globs: list[str], commands: dict[str, Any], files: dict[str, str], paths: list[str]) -> None:
    """Add package facts to ``commands`` and ``files``.

    Args:
        globs: Package names of interest, from the request.
        commands: Name -> answer of a command; filled here. Lists are cut to the names of interest on the node, so
            that a document stays small: ``filtered`` says so.
        files: Path -> text; filled with what holds packages back.
        paths: Files whose owning package is wanted.
    """
    wanted = re.compile("|".join(translate(g) for g in sorted(set(globs) | set(ALWAYS))))
    offered = re.compile("|".join(translate(g) for g in sorted(set(globs))) if globs else r"\b\B")
    _dpkg(wanted, offered, commands, paths)
    _rpm(wanted, globs, commands, paths)
    for path in LOCK_FILES:
        text = read_text(path)
        if text is not None:
            files[path] = text


def _dpkg(wanted: Pattern[str], offered: Pattern[str], commands: dict[str, Any], paths: list[str]) -> None:
    if not os.path.exists("/var/lib/dpkg/status"):
        return
    listing = run_command(["dpkg-query", "-W", "-f", DPKG_FORMAT], 60)
    commands["dpkg_packages"] = _filtered(listing, wanted)
    commands["dpkg_arch"] = run_command(["dpkg", "--print-architecture"])
    commands["dpkg_audit"] = run_command(["dpkg", "--audit"], 60)
    commands["apt_holds"] = run_command(["apt-mark", "showhold"])
    if paths:
        commands["dpkg_owners"] = run_command(["dpkg-query", "-S", *_spellings(paths)], 60)
    names = run_command(["apt-cache", "pkgnames"], 60)
    lists = [p for p in glob.glob("/var/lib/apt/lists/*") if "_Packages" in p]
    found = sorted(n for n in names["stdout"].split() if offered.match(n))
    if names["rc"] != 0 or not lists:
        names["stdout"] = ""
        names.setdefault("error", "no package lists" if not lists else "failed")
        commands["apt_available"] = names
    elif found:
        commands["apt_available"] = run_command(["apt-cache", "madison", *found], 120)
    else:
        commands["apt_available"] = dict(names, argv=["apt-cache", "madison"], stdout="")


def _spellings(paths: list[str]) -> list[str]:
    """Return each path as it may be recorded: before and after /lib became a link to /usr/lib."""
    both = []
    for path in paths:
        both.append(path)
        if path.startswith("/usr/lib"):
            both.append(path[len("/usr"):])
        elif path.startswith("/lib"):
            both.append("/usr" + path)
    return both


def _rpm(wanted: Pattern[str], globs: list[str], commands: dict[str, Any], paths: list[str]) -> None:
    if not (os.path.isdir("/var/lib/rpm") or os.path.isdir("/usr/lib/sysimage/rpm")):
        return
    commands["rpm_packages"] = _filtered(run_command(["rpm", "-qa", "--qf", RPM_FORMAT], 120), wanted)
    if paths and commands["rpm_packages"]["stdout"]:
        commands["rpm_owners"] = _rpm_owners(paths)
    if not globs:
        return
    query = ["-q", "repoquery", "--available", "--show-duplicates", "--qf", DNF_FORMAT, *sorted(set(globs))]
    answer = run_command(["dnf", *query], 180)
    if answer["rc"] not in (0, None):
        cached = run_command(["dnf", "-C", *query], 60)      # a mirror that is down must not hide what is cached
        answer = cached if cached["rc"] == 0 else answer
    commands["dnf_available"] = answer


def _rpm_owners(paths: list[str]) -> dict[str, Any]:
    """Ask for one path at a time: several owners of one file would shift the lines of a common answer."""
    lines = []
    for path in paths:
        answer = run_command(["rpm", "-qf", "--qf", "%{NAME}\n", path])
        if answer["rc"] == 0 and answer["stdout"].strip():
            lines.append("%s|%s\n" % (path, answer["stdout"].split()[0]))
    return {"argv": ["rpm", "-qf"], "rc": 0, "stdout": "".join(lines), "stderr": ""}


def _filtered(answer: dict[str, Any], wanted: Pattern[str]) -> dict[str, Any]:
    lines = [line for line in answer["stdout"].splitlines() if wanted.match(line.split("|", 1)[0])]
    answer["stdout"] = "".join(line + "\n" for line in lines)
    answer["filtered"] = True
    return answer
