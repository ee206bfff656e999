"""What package managers say and are told: parsing of simulations, exact argument vectors. Nothing here is run."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import glob
import os
import re
from fnmatch import fnmatchcase

APT_LINE = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+))?")
NOT_FOUND = ("was not found", "Unable to locate", "No match for argument", "Unable to find a match",
             "Can't find a source")
APT_QUERY = ["dpkg-query", "-W", "-f", "${Package}\t${db:Status-Status}\t${Version}\n"]
RPM_QUERY = ["rpm", "-q", "--qf", "%{NAME}\tinstalled\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\n"]
APT_RENEW = ["apt-get", "-q", "-o", "Acquire::Retries=3", "update"]
DNF_RENEW = ["dnf", "-q", "makecache"]
# Never a package that nobody named: neither dependencies that became unused nor old kernels beyond the usual three.
DNF_KEEP = ["--setopt=clean_requirements_on_remove=False", "--setopt=installonly_limit=0"]
# Nobody is there to answer: neither debconf, ucf and apt-listchanges nor needrestart may ask, nor restart services.
UNIT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "NEEDRESTART_MODE": "l",
                    "UCF_FORCE_CONFFOLD": "1", "APT_LISTCHANGES_FRONTEND": "none", "HOME": "/root", "LC_ALL": "C.UTF-8"}
LOCK_WAIT_S = 900           # an automatic upgrade that is under way ends first
DNF_SECTIONS = (("install", ("Installing", "Upgrading", "Reinstalling")), ("downgrade", ("Downgrading",)),
                ("remove", ("Removing",)))


def parse_apt(text):
    """Return what ``apt-get -s`` would do: ``{"install": {name: version}, "downgrade": {…}, "remove": [name]}``.

    Packages that are only configured do not count: their files are there already.
    """
    acts = {"install": {}, "downgrade": {}, "remove": []}
    down = re.search(r"^The following packages will be DOWNGRADED:\n((?:  .*\n)+)", text, re.MULTILINE)
    downgraded = set(down.group(1).split()) if down else set()
    for line in text.splitlines():
        found = APT_LINE.match(line)
        if found and found.group(1) == "Inst":
            acts["downgrade" if found.group(2) in downgraded else "install"][found.group(2)] = found.group(4) or ""
        elif found:
            acts["remove"].append(found.group(2))
    return acts


def parse_dnf(text):
    """Return what a ``dnf --assumeno`` output would do, in the form of ``parse_apt``.

    Rows are ``name arch version repository size``; a long name may stand on a line of its own. ``replacing name.arch``
    is a removal, unless the same name is installed. What stands under Removing goes even then: of packages that lie
    beside each other (kernels) another version may be installed in the same transaction.
    """
    acts = {"install": {}, "downgrade": {}, "remove": []}
    kind, pending, replaced = "", [], []
    for line in text.splitlines():
        if line.rstrip().endswith(":") and not line.startswith(" "):
            kind = next((k for k, heads in DNF_SECTIONS if line.startswith(heads)), "")
            pending = []
        elif not line.strip() or not line.startswith(" "):
            kind = "" if not line.strip() else kind
        elif kind and line.split()[0] == "replacing":
            replaced.append(line.split()[1].rsplit(".", 1)[0])
        elif kind:
            pending += line.split()
            if len(pending) >= 4:
                name, _arch, version = pending[:3]
                pending = []
                if kind == "remove":
                    acts["remove"].append(name)
                else:
                    acts[kind][name] = version
    named = set(acts["install"]) | set(acts["downgrade"])
    acts["remove"] += [name for name in replaced if name not in named]
    return acts


def same_version(one, other):
    """Tell whether two package versions are equal, an epoch of zero or one that is not written left aside."""
    if ":" in one and ":" in other:
        return re.sub(r"^0:", "", one) == re.sub(r"^0:", "", other)
    return one.split(":", 1)[-1] == other.split(":", 1)[-1]


def may_come(name, brings):
    """Tell whether a package is a dependency that a step may bring along; one of another architecture never is."""
    return ":" not in name and any(fnmatchcase(name, pattern) for pattern in brings)


def foreign_acts(acts, install, remove, allow_downgrade, brings=()):
    """Return one line for each act that the plan does not allow; empty means that the simulation keeps to the plan.

    Dependencies that match a glob of ``brings`` may come, be upgraded and go; what the plan names keeps to its word.
    """
    found = []
    for word in ("install", "downgrade"):
        for name, version in sorted(acts[word].items()):
            if name not in install and (name in remove or not may_come(name, brings)):
                found.append("%s %s %s" % (word, name, version))
            elif name in install and not same_version(install[name], version):
                found.append("%s %s %s instead of %s" % (word, name, version, install[name]))
            elif word == "downgrade" and not allow_downgrade:
                found.append("downgrade %s to %s" % (name, version))
    return found + ["remove %s" % name for name in sorted(acts["remove"])
                    if name not in remove and (name in install or not may_come(name, brings))]


def unreached(acts, wanted, unwanted):
    """Return one line for each pin or removal that the simulation does not bring about."""
    planned = dict(acts["install"], **acts["downgrade"])
    lines = ["install %s %s" % (n, v) for n, v in sorted(wanted.items()) if not same_version(planned.get(n, ""), v)]
    return lines + ["remove %s" % name for name in sorted(unwanted) if name not in acts["remove"]]


def act_lines(acts):
    """Return acts for people and for the journal, one line a package."""
    lines = ["%s %s %s" % (word, n, v) for word in ("install", "downgrade") for n, v in sorted(acts[word].items())]
    return lines + ["remove %s" % name for name in sorted(acts["remove"])]


def parse_installed(text):
    """Return name -> set of versions from lines ``name<TAB>status<TAB>version``.

    What is unpacked or half configured is not installed, and neither is it gone: its status stands before the version.
    """
    found = {}
    for name, status, version in (line.split("\t") for line in text.splitlines() if line.count("\t") == 2):
        if status not in ("not-installed", "config-files"):
            found.setdefault(name, set()).add(version if status == "installed" else status + " " + version)
    return found


def parse_audit(text):
    """Return the packages that ``dpkg --audit`` complains about: each stands at the start of an indented line."""
    return sorted({line.split()[0].split(":")[0] for line in text.splitlines() if re.match(r"^ [a-z0-9]", line)})


def unit_name(rollout, step):
    """Return the name of a step's unit, which is also its lock on the node."""
    return "planner-step-%s-%s" % (rollout, step)


def unit_options(name, run_id):
    """Return the options of ``systemd-run`` for a step's unit."""
    environment = dict(UNIT_ENVIRONMENT, PLANNER_RUN_ID=run_id)
    return ["--unit", name, "--wait", "--collect", "--quiet"] + [
        "--setenv=%s=%s" % pair for pair in sorted(environment.items())]


def cached_file(directory, manager, name, version):
    """Return the path of a package kept on this node, or "" when it is not there."""
    plain = version.split(":", 1)[-1]
    pattern = "%s_%s_*.deb" % (name, version.replace(":", "%3a")) if manager == "apt" else "%s-%s.*.rpm" % (name, plain)
    return next(iter(sorted(glob.glob(os.path.join(directory, pattern)))), "")


def apt_command(install, remove, files, directory, mode="apply", erase=False, downgrade=False, held=False,
                repair=False):
    """Return the exact argument vector for apt-get.

    Args:
        install: Exact version by name.
        remove: Names that go.
        files: Name -> local file to use instead of a pin.
        directory: Where packages are kept.
        mode: ``apply``, ``simulate``, or ``fetch``: only download what applying needs.
        erase: The simulation removes more than ``remove``, and that was found to be in order.
        downgrade: Older versions may replace newer ones.
        held: Held packages may change.
        repair: Finish what was interrupted first.
    """
    argv = ["apt-get"] + {"apply": ["-y"], "simulate": ["-s"], "fetch": ["-y", "--download-only"]}[mode]
    argv += ["--no-install-recommends"] + ["--no-remove"] * (mode == "apply" and not remove and not erase)
    argv += ["--allow-downgrades"] * downgrade + ["--allow-change-held-packages"] * held + ["--fix-broken"] * repair
    options = ["APT::Get::AutomaticRemove=0", "Acquire::Retries=3", "DPkg::Lock::Timeout=%d" % LOCK_WAIT_S,
               "Dir::Cache::Archives=%s/" % directory, "Dpkg::Use-Pty=0", "Dpkg::Options::=--force-confdef",
               "Dpkg::Options::=--force-confold"]
    for option in options:
        argv += ["-o", option]
    pins = [files.get(name) or "%s=%s" % (name, version) for name, version in sorted(install.items())]
    return argv + ["install"] + pins + ["%s-" % name for name in sorted(remove)]


def apt_download(pins):
    """Return the argument vector that fetches exact packages into the working directory."""
    options = ["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]
    return ["apt-get"] + options + ["download"] + ["%s=%s" % pair for pair in sorted(pins.items())]


def dnf_download(pins):
    """Return the argument vector that fetches exact packages, with what they need, into dnf's cache."""
    argv = ["dnf", "-y", "--setopt=keepcache=1"] + DNF_KEEP
    return argv + ["--allowerasing", "--downloadonly", "install"] + dnf_pins(pins, {})


def download_mib(text):
    """Return how much ``apt-get --print-uris`` would fetch; lines are ``'uri' file size digest``."""
    return sum(int(size) for size in re.findall(r"^'[^']*' \S+ (\d+)", text, re.MULTILINE)) / 2**20


def brings_kernel(name):
    """Tell whether a package puts a kernel into /boot."""
    return re.match(r"linux-image-(unsigned-)?\d|kernel-core$|kernel-uki-virt$", name) is not None


def dnf_keep(pins, directory):
    """Return the argument vector that fetches packages again that are installed, into a directory."""
    return ["dnf", "-y", "reinstall", "--downloadonly", "--downloaddir=" + directory] + dnf_pins(pins, {})


def dnf_command(install, remove, files, script, simulate=False):
    """Return the exact argument vector for dnf; with removals, one transaction through a script for ``dnf shell``."""
    argv = ["dnf", "--assumeno" if simulate else "-y", "--setopt=install_weak_deps=False", "--setopt=keepcache=1"]
    argv += DNF_KEEP
    if remove:
        return argv + ["--allowerasing", "shell", script]
    return argv + ["install"] + dnf_pins(install, files)


def dnf_pins(install, files):
    """Return the arguments that name exact packages to dnf."""
    return [files.get(name) or "%s-%s" % (name, version) for name, version in sorted(install.items())]
