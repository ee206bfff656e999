"""What stands between planner and a node: free space, repositories, scheduler commands. Read only."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from typing import Any

from .observe_run import run_command

SPACES = ("/", "/var", "/boot", "/usr", "/tmp")
SCHEDULER_COMMANDS = ("scontrol", "sinfo", "squeue", "kubectl", "kubelet")
TOOLS = ("systemd-run", "systemctl", "dpkg", "apt-get", "apt-cache", "rpm", "dnf")
REPOSITORIES_MAX = 12


def observe_access(commands: dict[str, Any]) -> dict[str, Any]:
    """Return ``{"space", "tools", "scheduler", "repositories"}``.

    ``space`` is free MiB by mount point; ``repositories`` is a list of ``{"url", "ok", "error"}``, fetched with the
    package manager's own client so that its proxy and credentials apply.
    """
    return {
        "space": _space(),
        "tools": {name: shutil.which(name) for name in TOOLS},
        "scheduler": {name: shutil.which(name) for name in SCHEDULER_COMMANDS},
        "repositories": _apt() if "dpkg_packages" in commands and shutil.which("apt-get") else _dnf(),
    }


def _space() -> dict[str, int]:
    found = {}
    for path in SPACES:
        try:
            stat = os.statvfs(path)
        except OSError:
            continue
        found[path] = stat.f_bavail * stat.f_frsize // (1024 * 1024)
    return found


def _apt() -> list[dict[str, Any]]:
    """Fetch the release file of each configured repository with apt's own downloader."""
    listing = run_command(["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(URI)"], 30)
    bases = sorted({url for line in listing["stdout"].splitlines() if (url := _release_url(line))})
    helper = "/usr/lib/apt/apt-helper"
    if not os.path.exists(helper):
        return []
    results = []
    folder = tempfile.mkdtemp(prefix="planner-access-")
    try:
        os.chmod(folder, 0o755)          # apt fetches as a user of its own
        for number, url in enumerate(bases[:REPOSITORIES_MAX]):
            target = os.path.join(folder, str(number))
            fetch = [helper, "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10",
                     "-o", "Acquire::Retries=0", "-o", "APT::Sandbox::User=root", "download-file"]
            answer = run_command([*fetch, url, target], 30)
            if answer["rc"] != 0:        # older repositories sign in a file of its own
                answer = run_command([*fetch, url[: -len("InRelease")] + "Release", target], 30)
            results.append({"url": url, "ok": answer["rc"] == 0, "error": "" if answer["rc"] == 0 else _why(answer)})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return results


def _release_url(line: str) -> str | None:
    """Return the address of a repository's InRelease from a line of apt's index targets."""
    uri = line.rsplit("|", 1)[-1]
    found = re.match(r"^(.*/dists/.+?)/[^/]+/(?:binary-|source/|i18n/|dep11/|Contents-|cnf/)", uri)
    if found:
        return found.group(1) + "/InRelease"
    flat = re.match(r"^(.*?)/(?:\./)?Packages[^/]*$", uri)
    return flat.group(1) + "/InRelease" if flat else None


def _dnf() -> list[dict[str, Any]]:
    """Ask dnf for each enabled repository's metadata; one that fails is named by dnf itself."""
    if not shutil.which("dnf"):
        return []
    listing = run_command(["dnf", "-q", "repolist", "--enabled"], 60)
    names = [line.split()[0] for line in listing["stdout"].splitlines()[1:] if line.split()]
    results = []
    for name in names[:REPOSITORIES_MAX]:
        answer = run_command(["dnf", "-q", "--disablerepo=*", "--enablerepo=" + name, "makecache"], 60)
        results.append({"url": name, "ok": answer["rc"] == 0, "error": "" if answer["rc"] == 0 else _why(answer)})
    return results


def _why(answer: dict[str, Any]) -> str:
    lines = [line.strip() for line in (answer["stderr"] + "\n" + answer["stdout"]).splitlines() if line.strip()]
    errors = [line for line in lines if line[:2] in ("E:", "Er") or "rror" in line or "Failed" in line]
    return str(answer.get("error") or (errors or lines or ["no reason given"])[-1])[:300]
