#!/usr/bin/python
"""Ansible module: the one hand that changes packages. Exact pins, simulated first, run as a named systemd unit.

Nothing happens unless the package manager's own simulation touches only what the plan names. The act runs as a
transient unit, not as a child of the SSH session: a lost connection does not end it, the next call finds it by name and
waits, a second controller cannot start it again. Its output goes to the journal: a pipe to a controller that has gone
away would break the package manager in mid-transaction.
"""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: planner_step
short_description: Bring packages to exact versions, or refuse
description:
  - Prefetches, simulates or applies the package changes of one step of a plan.
  - Refuses when the simulation touches anything that the plan does not name and that no glob of O(brings) covers.
  - Does nothing when all pins are installed and all removals are absent.
options:
  action:
    description: What to do; check mode turns apply into simulate.
    type: str
    choices: [prefetch, simulate, apply]
    required: true
  rollout: {description: Name of the rollout., type: str, required: true}
  owner: {description: Who acts., type: str, required: true}
  token: {description: Fencing token., type: int, default: 0}
  machine_id: {description: Machine id that the plan was made for., type: str, default: ""}
  state_dir: {description: Where lease and marks and packages are kept., type: path, default: /var/lib/planner}
  step: {description: Id of the step., type: str, required: true}
  manager: {description: Package manager., type: str, choices: [apt, dnf, none], required: true}
  install: {description: Exact version by package name., type: dict, default: {}}
  remove: {description: Packages that must go., type: list, elements: str, default: []}
  brings: {description: "Globs of dependencies that may come, change and go.", type: list, elements: str, default: []}
  allow_downgrade: {description: The plan goes back to an older version here., type: bool, default: false}
  override_holds: {description: Packages whose foreign hold may be overridden., type: list, elements: str, default: []}
  later: {description: Other steps come before this one., type: bool, default: false}
  timeout_s: {description: Longest wait for one unit., type: int, default: 3600}
author: [planner]
"""

EXAMPLES = r"""
- name: Apply step s1
  planner_step:
    action: apply
    rollout: prod-1a2b3c4d
    owner: anna@laptop
    step: s1
    manager: apt
    install: {libnccl2: 2.28.9-1+cuda13.0}
"""

RETURN = r"""
acts: {description: "What was (or would be) done, one line a package.", type: list, returned: success}
unit: {description: Name of the systemd unit., type: str, returned: always}
attached: {description: Whether a unit that was already running was waited for., type: bool, returned: always}
mark: {description: The step's mark on the node as it stands now., type: dict, returned: success}
log: {description: Last lines of the unit's output., type: list, returned: always}
missing: {description: "Pins or old packages that could not be fetched.", type: list, returned: prefetch}
"""

import os
import re
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.planner_node import (
    LeaseError, boot_id, free_mib, hold_lease, lease_arguments, now, read_marks, write_mark,
)
from ansible.module_utils.planner_packages import (
    APT_QUERY, APT_RENEW, DNF_RENEW, NOT_FOUND, RPM_QUERY, act_lines, apt_command, apt_download, brings_kernel,
    cached_file, dnf_command, dnf_download, dnf_keep, dnf_pins, download_mib, foreign_acts, may_come, parse_apt,
    parse_audit, parse_dnf, parse_installed, same_version, unit_name, unit_options, unreached,
)

POLL_SECONDS = 2
LOG_LINES = 60              # of a unit's output, kept in results
SPACE_MARGIN = 1.2          # unpacking needs a little more than what stays
SPACE_LEAST_MIB = 64
SPACE_KERNEL_MIB = 256      # a kernel and its initial RAM disk, in /boot


class StepError(Exception):
    """The step is refused or has failed; carries what to show."""

    def __init__(self, message, **details):
        super().__init__(message)
        self.details = details


class Step:
    """One step on this node; every method that runs something says what."""

    def __init__(self, module):
        """Keep the parameters; nothing runs yet."""
        self.module, self.params = module, module.params
        self.apt = module.params["manager"] == "apt"
        self.install, self.remove = module.params["install"], module.params["remove"]
        self.packages = os.path.join(module.params["state_dir"], "packages")
        self.unit = unit_name(module.params["rollout"], module.params["step"])
        self.attached, self.log = False, []

    def run(self, argv, **options):
        """Run a command that changes nothing; return (rc, stdout, stderr). The output's language is fixed."""
        program = self.module.get_bin_path(argv[0], required=True)
        return self.module.run_command([program] + argv[1:], environ_update={"LC_ALL": "C", "LANGUAGE": "C"}, **options)

    def installed(self):
        """Return name -> set of installed versions for every package the step names (dpkg-query, rpm -q)."""
        names = sorted(set(self.install) | set(self.remove))
        if not names:
            return {}
        return parse_installed(self.run((APT_QUERY if self.apt else RPM_QUERY) + names)[1])

    def open_work(self):
        """Return (pins not yet met, packages still to remove)."""
        have = self.installed()
        wanted = {n: v for n, v in self.install.items() if not any(same_version(v, h) for h in have.get(n, ()))}
        return wanted, [name for name in self.remove if name in have]

    def foreign_holds(self):
        """Refuse packages that somebody else holds; return whether one of ours is held."""
        if not self.apt:
            return False
        touched = set(self.run(["apt-mark", "showhold"])[1].split()) & (set(self.install) | set(self.remove))
        ours = set(read_marks(self.params).get("held", [])) | set(self.params["override_holds"])
        if touched - ours:
            raise StepError("held by somebody else: %s; release them (apt-mark unhold), or name them in "
                            "planner_override_holds" % ", ".join(sorted(touched - ours)))
        return bool(touched)

    def command(self, wanted, unwanted, mode, files, repair=False, erase=False):
        """Return the argument vector for what is still to do."""
        if self.apt:
            return apt_command(wanted, unwanted, files, self.packages, mode=mode, held=self.foreign_holds(),
                               downgrade=self.params["allow_downgrade"], repair=repair, erase=erase)
        script = os.path.join(self.params["state_dir"], self.unit + ".dnf")
        if unwanted:
            # One line of installs: dnf takes local files only before anything else is in the transaction.
            lines = ["install " + " ".join(dnf_pins(wanted, files))] * bool(wanted) + ["remove " + n for n in unwanted]
            with open(script, "w") as handle:
                handle.write("\n".join(lines + ["run", ""]))
        return dnf_command(wanted, unwanted, files, script, simulate=mode == "simulate")

    def simulate(self, wanted, unwanted, repair=False):
        """Return (acts, files to use): what the package manager itself says it would do. Refuse foreign acts.

        A pin that no repository offers any more is taken from the packages kept on this node, if it is there.
        """
        files = {}
        for _attempt in ("repositories", "kept packages"):
            rc, out, err = self.run(self.command(wanted, unwanted, "simulate", files, repair))
            acts = (parse_apt if self.apt else parse_dnf)(out)
            lost = unreached(acts, wanted, unwanted)
            foreign = foreign_acts(acts, self.install, self.remove, self.params["allow_downgrade"],
                                   self.params["brings"])
            if foreign:
                named = "the package manager would touch what the plan does not name: " + "; ".join(foreign)
                raise StepError(named, foreign=foreign)
            if not lost and (rc == 0 or not self.apt):
                return acts, files
            kept = {n: cached_file(self.packages, self.params["manager"], n, v) for n, v in wanted.items()}
            files = {name: path for name, path in kept.items() if path}
            if not files or not any(text in out + err for text in NOT_FOUND):
                break
        self.log += (out + err).splitlines()
        raise StepError("the package manager finds no way to the plan: " + "; ".join(lost), resolver=True)

    def unit_active(self):
        """Tell whether the step's unit runs now."""
        state = self.run(["systemctl", "is-active", self.unit + ".service"])[1].strip()
        return state in ("active", "activating", "deactivating", "reloading")

    def wait_unit(self):
        """Wait for a unit that somebody started before; its result shows in what is installed afterwards."""
        self.attached, end = True, time.monotonic() + self.params["timeout_s"]
        begun = read_marks(self.params).get(self.params["step"], {}).get("at", now())
        while self.unit_active():
            if time.monotonic() > end:
                raise StepError("%s still runs after %d s; look at: journalctl -u %s" % (
                    self.unit, self.params["timeout_s"], self.unit))
            time.sleep(POLL_SECONDS)
        self.log += self.journal(begun)

    def run_unit(self, argv):
        """Run one command as the step's unit and wait for it."""
        program = self.module.get_bin_path(argv[0], required=True)
        runner = self.module.get_bin_path("systemd-run", required=True)
        prefix = [runner] + unit_options(self.unit, os.environ.get("PLANNER_RUN_ID", ""))
        begun = now()
        try:
            ended = subprocess.run(prefix + ["--", program] + argv[1:], stdin=subprocess.DEVNULL, check=False,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   timeout=self.params["timeout_s"])
        except subprocess.TimeoutExpired as exc:
            raise StepError("%s still runs after %d s and was left running; look at: journalctl -u %s" % (
                self.unit, self.params["timeout_s"], self.unit)) from exc
        text = ended.stdout.decode(errors="replace")
        if ended.returncode and "already" in text:
            self.wait_unit()
            return
        self.log += self.journal(begun) + (text.splitlines() if ended.returncode else [])
        if ended.returncode:
            raise StepError("%s ended with %d" % (" ".join(argv), ended.returncode))

    def journal(self, since):
        """Return the last lines that the unit wrote."""
        stamp = re.sub(r"T|\+00:00", " ", since).strip() + " UTC"
        text = self.run(["journalctl", "-u", self.unit, "--since", stamp, "--no-pager", "-q", "-o", "cat"])[1]
        return text.splitlines()[-LOG_LINES:]

    def repair(self):
        """Finish what a power cut or a full disk interrupted; return whether that was needed.

        Only packages of this plan are touched: what else is broken is for a person.
        """
        if not self.apt:
            return False
        broken = parse_audit(self.run(["dpkg", "--audit"])[1])
        strange = sorted(name for name in set(broken) - set(self.install) - set(self.remove)
                         if not may_come(name, self.params["brings"]))
        if strange:
            raise StepError("dpkg was interrupted over packages that the plan does not name: %s; look at them, then: "
                            "dpkg --configure -a" % ", ".join(strange))
        if broken:
            self.mark("started", boot_id())
            try:
                self.run_unit(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"])
            except StepError:
                # What cannot be configured alone may need a package of this very step; apt-get --fix-broken decides.
                pass
        return bool(broken)

    def mark(self, state, boot):
        """Leave the step's mark on the node; what was proved before a new act is proved no longer."""
        step = self.params["step"]
        for stale in (step + "-boot", step + "-gate", "gate") if state == "started" else ():
            write_mark(self.params, stale, None)
        return write_mark(self.params, step, {"state": state, "at": now(), "boot_id": boot})

    def apply(self):
        """Bring the node to the pins; return (changed, acts)."""
        if self.unit_active():
            self.wait_unit()
        mark = read_marks(self.params).get(self.params["step"], {})
        wanted, unwanted = self.open_work()
        if not wanted and not unwanted:
            if mark.get("state") not in ("applied", "done"):
                # "" says that this rollout has changed nothing here; the act itself keeps the boot it was done in.
                self.mark("applied", mark.get("boot_id", ""))
            return self.attached, []
        self.foreign_holds()
        repaired = self.repair()
        wanted, unwanted = self.open_work()
        acts, files = self.simulate(wanted, unwanted, repaired) if wanted or unwanted else (None, {})
        if acts:
            self.mark("started", boot_id())
            self.run_unit(self.command(wanted, unwanted, "apply", files, repaired, bool(acts["remove"])))
        wanted, unwanted = self.open_work()
        if wanted or unwanted:
            raise StepError("it succeeded, yet these are not as planned: " + ", ".join(sorted(wanted) + unwanted))
        self.mark("applied", boot_id())
        return True, act_lines(acts) if acts else ["dpkg --configure -a"]

    def prefetch(self):
        """Fetch every pin, and every old package as far as it can still be had; return (changed, missing)."""
        os.makedirs(os.path.join(self.packages, "partial"), mode=0o755, exist_ok=True)
        before = set(os.listdir(self.packages))
        for program in ("systemd-run", "systemctl", "journalctl"):  # without them no step runs; told before the drain
            self.module.get_bin_path(program, required=True)
        self.foreign_holds()
        wanted, unwanted = self.open_work()
        old = {n: v for n, versions in self.installed().items() for v in versions if v != self.install.get(n)}
        missing = self.fetch_new(wanted) if wanted else []
        # One call for all is much faster; it fetches nothing when a single one is gone, then each is tried alone.
        lost = self.not_kept(old)
        if lost:
            self.fetch_old(lost)
        for name, version in sorted(self.not_kept(lost).items()):
            if not self.fetch_old({name: version}):
                missing.append("old package %s %s, which the way back needs, is in no repository" % (name, version))
        needed = dict(self.fetch_brought(wanted, unwanted), **wanted)
        self.check_space([cached_file(self.packages, self.params["manager"], n, v) for n, v in needed.items()])
        return bool(set(os.listdir(self.packages)) - before), missing

    def not_kept(self, pins):
        """Return the pins of which no file is kept on this node."""
        return {n: v for n, v in pins.items() if not cached_file(self.packages, self.params["manager"], n, v)}

    def fetch_new(self, wanted):
        """Fetch exact pins; a later step of dnf may not resolve yet, which is reported, everything else fails."""
        renewed = ""
        for attempt in ("as listed", "lists renewed"):
            todo = self.not_kept(wanted)
            if not todo:
                return []
            self.check_room(todo)
            rc, out, err = self.run(apt_download(todo) if self.apt else dnf_download(todo), cwd=self.packages)
            if rc == 0:
                return []
            if attempt == "as listed":
                renewed = self.run(APT_RENEW if self.apt else DNF_RENEW)[2]
        lost = ", ".join("%s %s" % pair for pair in sorted(todo.items()))
        if self.params["later"] and not self.apt and not any(text in out + err for text in NOT_FOUND):
            return ["not fetched yet, needs an earlier step: " + lost]
        self.log += (out + err + renewed).splitlines()
        raise StepError("these packages cannot be fetched: " + lost)

    def fetch_brought(self, wanted, unwanted):
        """Fetch with apt the dependencies that the pins bring along (dnf fetches them with the pins); return them."""
        if not (self.apt and wanted and self.params["brings"]):
            return {}
        try:
            acts, files = self.simulate(wanted, unwanted)
        except StepError:
            return {}       # an earlier step comes first, or the simulation of the step itself says what is wrong
        brought = {n: v for n, v in acts["install"].items() if n not in self.install}
        if brought:
            rc, out, err = self.run(self.command(wanted, unwanted, "fetch", files))
            if rc:
                self.log += (out + err).splitlines()
                raise StepError("the dependencies of these packages cannot be fetched: " + ", ".join(sorted(wanted)))
        return brought

    def fetch_old(self, pins):
        """Keep packages that are installed now; return whether all could still be had."""
        self.check_room(pins)
        return self.run(apt_download(pins) if self.apt else dnf_keep(pins, self.packages), cwd=self.packages)[0] == 0

    def check_room(self, pins):
        """Refuse to fetch what would fill the disk, as far as the size is told beforehand: apt does."""
        told = self.run(apt_download(pins) + ["--print-uris"], cwd=self.packages)[1] if self.apt else ""
        self.require_space({self.packages: download_mib(told) + SPACE_LEAST_MIB})

    def check_space(self, files):
        """Refuse when the new packages would not fit under /usr, or /var and /boot are nearly full."""
        sizes = [self.run(["dpkg-deb", "-f", path, "Installed-Size"])[1].strip() for path in files if path and self.apt]
        boot_mib = SPACE_KERNEL_MIB if any(map(brings_kernel, self.install)) else SPACE_LEAST_MIB
        usr_mib = sum(int(size) for size in sizes if size.isdigit()) * SPACE_MARGIN / 1024
        self.require_space({"/usr": usr_mib, "/var": SPACE_LEAST_MIB, "/boot": boot_mib})

    def require_space(self, needs):
        """Refuse when a directory's file system has fewer MiB free than needed."""
        for path, need_mib in sorted(needs.items()):
            have_mib = free_mib(path)
            if have_mib is not None and have_mib < need_mib:
                raise StepError("%s has %d MiB free, this step needs %d MiB" % (path, have_mib, need_mib))


def perform(step):
    """Do the wanted action; return the result's fields."""
    params = step.params
    hold_lease(params, step.module.check_mode, must_exist=True)
    action = "simulate" if step.module.check_mode and params["action"] == "apply" else params["action"]
    if params["manager"] == "none" and action == "apply" and not read_marks(params).get(params["step"]):
        step.mark("applied", "")
    if params["manager"] == "none" or (action == "prefetch" and step.module.check_mode):
        return {"changed": False, "acts": []}
    if action == "prefetch":
        changed, missing = step.prefetch()
        return {"changed": changed, "acts": [], "missing": missing}
    if action == "apply":
        return dict(zip(("changed", "acts"), step.apply()))
    wanted, unwanted = step.open_work()
    try:
        acts = act_lines(step.simulate(wanted, unwanted)[0]) if wanted or unwanted else []
    except StepError as exc:
        if not (params["later"] and exc.details.get("resolver")):
            raise
        acts = ["cannot be simulated before the earlier steps are done"]
    return {"changed": bool(acts), "acts": acts}


def main():
    """Entry point."""
    spec = dict(
        lease_arguments(), step={"type": "str", "required": True}, install={"type": "dict", "default": {}},
        action={"type": "str", "required": True, "choices": ["prefetch", "simulate", "apply"]},
        manager={"type": "str", "required": True, "choices": ["apt", "dnf", "none"]},
        remove={"type": "list", "elements": "str", "default": []},
        brings={"type": "list", "elements": "str", "default": []}, allow_downgrade={"type": "bool", "default": False},
        override_holds={"type": "list", "elements": "str", "default": []}, later={"type": "bool", "default": False},
        timeout_s={"type": "int", "default": 3600},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    step = Step(module)
    try:
        result = perform(step)
    except (StepError, LeaseError) as exc:
        module.fail_json(msg=str(exc), unit=step.unit, attached=step.attached, log=step.log[-LOG_LINES:],
                         reason="lease" if isinstance(exc, LeaseError) else "step", **getattr(exc, "details", {}))
    mark = read_marks(module.params).get(module.params["step"], {})
    module.exit_json(unit=step.unit, attached=step.attached, log=step.log[-LOG_LINES:], mark=mark, **result)


if __name__ == "__main__":
    main()
