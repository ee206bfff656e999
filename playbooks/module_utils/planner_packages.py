"""What package managers say and are told: parsing of simulations, exact argument vectors. Nothing here is run."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import glob
import os
import re

APT_LINE = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+))?")
NOT_FOUND = ("was not found", "Unable to locate", "No match for argument", "Unable to find a match",
             "Can't find a source")
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
    is a removal, unless the same name is installed.
    """
    acts = {"install": {}, "downgrade": {}, "remove": []}
    kind, pending = "", []
    for line in text.splitlines():
        if line.rstrip().endswith(":") and not line.startswith(" "):
            kind = next((k for k, heads in DNF_SECTIONS if line.startswith(heads)), "")
            pending = []
        elif not line.strip() or not line.startswith(" "):
            kind = "" if not line.strip() else kind
        elif kind and line.split()[0] == "replacing":
            acts["remove"].append(line.split()[1].rsplit(".", 1)[0])
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
    acts["remove"] = [name for name in acts["remove"] if name not in named]
    return acts


def same_version(one, other):
    """Tell whether two package versions are equal, an epoch of zero or one that is not written left aside."""
    if ":" in one and ":" in other:
        return re.sub(r"^0:", "", one) == re.sub(r"^0:", "", other)
    return one.split(":", 1)[-1] == other.split(":", 1)[-1]


def foreign_acts(acts, install, remove, allow_downgrade):
    """Return one line for each act that the plan does not name; empty means that the simulation keeps to the plan."""
    found = []
    for word in ("install", "downgrade"):
        for name, version in sorted(acts[word].items()):
            if name not in install:
                found.append("%s %s %s" % (word, name, version))
            elif not same_version(install[name], version):
                found.append("%s %s %s instead of %s" % (word, name, version, install[name]))
            elif word == "downgrade" and not allow_downgrade:
                found.append("downgrade %s to %s" % (name, version))
    return found + ["remove %s" % name for name in sorted(acts["remove"]) if name not in remove]


def unreached(acts, wanted, unwanted):
    """Return one line for each pin or removal that the simulation does not bring about."""
    planned = dict(acts["install"], **acts["downgrade"])
    lines = ["install %s %s" % (n, v) for n, v in sorted(wanted.items()) if not same_version(planned.get(n, ""), v)]
    return lines + ["remove %s" % name for name in sorted(unwanted) if name not in acts["remove"]]


def act_lines(acts):
    """Return acts for people and for the journal, one line a package."""
    lines = ["%s %s %s" % (word, n, v) for word in ("install", "downgrade") for n, v in sorted(acts[word].items())]
    return lines + ["remove %s" % name for name in sorted(acts["remove"])]


def parse_audit(text):
    """Return the packages that ``dpkg --audit`` complains about: each stands at the start of an indented line."""
    return sorted({line.split()[0].split(":")[0] for line in text.splitlines() if re.match(r"^ [a-z0-9]", line)})


def unit_name(rollout, step):
    """Return the name of a step's unit, which is also its lock on the node."""
    return "planner-step-%s-%s" % (rollout, step)


def cached_file(directory, manager, name, version):
    """Return the path of a package kept on this node, or "" when it is not there."""
    plain = version.split(":", 1)[-1]
    pattern = "%s_%s_*.deb" % (name, version.replace(":", "%3a")) if manager == "apt" else "%s-%s.*.rpm" % (name, plain)
    return next(iter(sorted(glob.glob(os.path.join(directory, pattern)))), "")


def apt_command(install, remove, files, directory, simulate=False, downgrade=False, held=False, repair=False):
    """Return the exact argument vector for apt-get; ``files`` maps names to local files to use instead of a pin."""
    argv = ["apt-get", "-s"] if simulate else ["apt-get", "-y"]
    argv += ["--no-install-recommends"] + ["--no-remove"] * (not remove and not simulate)
    argv += ["--allow-downgrades"] * downgrade + ["--allow-change-held-packages"] * held + ["--fix-broken"] * repair
    options = ["APT::Get::AutomaticRemove=0", "Acquire::Retries=3", "DPkg::Lock::Timeout=300",
               "Dir::Cache::Archives=%s/" % directory, "Dpkg::Use-Pty=0", "Dpkg::Options::=--force-confdef",
               "Dpkg::Options::=--force-confold"]
    for option in options:
        argv += ["-o", option]
    pins = [files.get(name) or "%s=%s" % (name, version) for name, version in sorted(install.items())]
    return argv + ["install"] + pins + ["%s-" % name for name in sorted(remove)]


def dnf_command(install, remove, files, script, simulate=False):
    """Return the exact argument vector for dnf; with removals, one transaction through a script for ``dnf shell``."""
    argv = ["dnf", "--assumeno" if simulate else "-y", "--setopt=install_weak_deps=False", "--setopt=keepcache=1",
            "--setopt=clean_requirements_on_remove=False"]
    if remove:
        return argv + ["--allowerasing", "shell", script]
    return argv + ["install"] + dnf_pins(install, files)


def dnf_pins(install, files):
    """Return the arguments that name exact packages to dnf."""
    return [files.get(name) or "%s-%s" % (name, version) for name, version in sorted(install.items())]
