"""Judges a node's state: tiers 0 and 1 of the ladder. Pure, and standard library only: every bundle carries it.

Nothing here ran on a GPU. What was so before the change is told and never blamed on it; what could not be read is
never taken for fine. The rules are tabled in ``docs/gates.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .failures import code_of
from .node_findings import (
    Findings,
    as_list,
    as_map,
    as_maps,
    as_number,
    as_text,
    gpu_label,
    gpus_of,
    proofs,
    same_boot,
)
from .node_gpus import judge_fabric, judge_health, judge_inventory, judge_modes, judge_residue, judge_settings
from .verdicts import GateResult

STUCK_S = 30.0
DAEMON = "nvidia-persiste"          # the kernel keeps 15 characters of a name
# They hold device files and run nothing on a GPU, or belong to a mode that ``modes`` judges.
SERVICES = frozenset({
    DAEMON, "nv-fabricmanage", "nv-hostengine", "nvidia-imex", "nvidia-imex-ctl", "nvidia-powerd", "dcgm-exporter",
    "nvidia-device-p", "gpu-feature-dis", "nvsm_core", "gpud", "nvidia-smi", "nvidia-cuda-mps", "nvidia-gridd",
    "nvidia-vgpu-mgr", "nvidia-mig-mana",
})
DISPLAYS = ("Xorg", "Xwayland", "gnome-shell", "kwin", "sddm", "weston", "sway")     # they rest while nobody looks
DIAGNOSTICS = ("nvvs", "dcgmproftester", "gpu_burn", "gpu-burn", "nvbandwidth", "nvidia-bug-rep")
RUNS_CUDA = "/dev/nvidia-uvm"       # who only asks NVML never opens it
SUSPECT = ("NSIGHT_CUDA_DEBUGGER", "CUDA_INJECTION32_PATH", "CUDA_INJECTION64_PATH", "CUDA_AUTO_BOOST",
           "CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "CUDA_COREDUMP_FILE", "CUDA_DEVICE_WAITS_ON_EXCEPTION",
           "CUDA_PROFILE", "COMPUTE_PROFILE", "OPENCL_PROFILE", "LD_PRELOAD")
FORGES = ("CUDA_DISABLE_PTX_JIT",)
# Of ``versions``: what must be of the driver's version.
PARTS: Mapping[str, str] = {
    "nvml": "NVML", "libcuda": "libcuda", "libcuda_file": "the first libcuda.so.1 on the path",
    "libnvidia_ml_file": "the first libnvidia-ml.so.1 on the path", "on_disk": "the module on disk"}
UVM: Mapping[str, str] = {"nvidia_uvm": "the module nvidia_uvm is not loaded", "uvm_node": "/dev/nvidia-uvm is missing"}

Rule = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any] | None, Findings], None]


def judge_state(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None
                ) -> list[GateResult]:
    """Return the answers of the gates in ``RULES``, in that order; the node's own come before those of its GPUs.

    Args:
        report: A report ``planner.gate/2``. Nothing in it is trusted to have its shape.
        request: What was asked: ``host``, and ``expect`` with ``driver``, ``fabric_manager``, ``gpus``, ``flavour``
            (open | proprietary) and ``may_change`` (names of settings that the plan changes).
        before: This node's report from before the change, or None.

    Returns:
        At least one result for each gate. A part of the report that cannot be read is ``GATE_BUG``, never a pass.
    """
    known: dict[tuple[str, str], bool | None] = {}
    if before is not None:
        known = proofs(_judge(before, {"host": as_map(request).get("host")}, None, {}))
    return _judge(as_map(report), as_map(request), before, known)


def _judge(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None,
           known: Mapping[tuple[str, str], bool | None]) -> list[GateResult]:
    host = as_text(request.get("host"))
    found: list[GateResult] = []
    for gate, rule in RULES.items():
        findings = Findings()
        try:
            rule(report, request, None if before is None else as_map(before), findings)
            results = findings.results(known)
        except Exception as exc:    # a report may hold anything; what breaks a rule is told, and is no pass
            words = f"what the report says of {gate} cannot be read: {type(exc).__name__}: {exc}"
            results = [GateResult(gate, host, "GATE_BUG", (words[:500],), 1, known.get((gate, host)))]
        found += results or [GateResult(gate, host, "GATE_BUG", ("this gate gave no answer",))]
    return found


def _subject(request: Mapping[str, Any]) -> str:
    return as_text(request.get("host"))


def _expect(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_map(request.get("expect"))


def _host_state(report: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_map(report.get("host_state"))


def _readable(gate: str, report: Mapping[str, Any], host: str, found: Findings) -> bool:
    """Return whether the node's files were read; say so where they were not."""
    state = report.get("host_state")
    if not isinstance(state, Mapping):
        found.add(gate, host, "GATE_BUG", "the report holds no host_state")
        return False
    error = as_text(state.get("error"))
    if error or not state:
        found.add(gate, host, _child_code(error), f"the node's files could not be read: {error or 'nothing came'}")
        return False
    return True


def _child_code(reason: str) -> str:
    """Return the code for the reason why a child of the probe gave no answer."""
    return "GATE_HUNG_D" if "hung" in reason else "GATE_TIMEOUT" if "timeout" in reason else "GATE_BUG"


# --- host


def _host(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None, found: Findings
          ) -> None:
    host = _subject(request)
    if not _readable("host", report, host, found):
        return
    state = _host_state(report)
    processes = state.get("processes")
    if not isinstance(processes, Mapping):
        found.add("host", host, "GATE_BUG", "the report holds no processes")
        return
    found.judged("host", host)
    old = as_map(_host_state(before or {}).get("processes"))
    blocked = {each.get("pid") for each in as_maps(as_map(state.get("kernel_log")).get("blocked"))}
    was_stuck = {task.get("tid") for task in as_maps(old.get("stuck"))} if before and same_boot(report, before) else ()
    for task in as_maps(processes.get("stuck")):
        seconds = as_number(task.get("seconds")) or 0.0
        words = (f"task {task.get('tid')} ({task.get('comm')}) is stuck in the kernel for at least {seconds:.0f} s"
                 f"{', in ' + str(task['wchan']) if task.get('wchan') else ''}")
        code = "GATE_HUNG_D" if seconds >= STUCK_S or task.get("tid") in blocked else "GATE_BUSY"
        found.add("host", host, code, words, was=task.get("tid") in was_stuck)
    _holders(report, processes, old, host, found)
    if as_number(processes.get("unreadable")):
        found.judged("host", host, f"the open files of {processes['unreadable']} processes of others cannot be seen")
    if processes.get("cut"):
        found.add("host", host, "GATE_BUSY", "the processes of this node could not all be looked at in time")


def _holders(report: Mapping[str, Any], processes: Mapping[str, Any], old: Mapping[str, Any], host: str,
             found: Findings) -> None:
    listed = {pid for gpu in gpus_of(report).values() for each in (gpu, *as_maps(gpu.get("mig_devices")))
              for key in ("processes", "graphics_processes") for pid in as_list(each.get(key))}
    before = {as_text(each.get("comm")) for each in as_maps(old.get("holders"))}
    for holder in as_maps(processes.get("holders")):
        comm = as_text(holder.get("comm"))
        uses = holder.get("pid") in listed or RUNS_CUDA in as_list(holder.get("devices"))
        words = f"pid {holder.get('pid')} ({comm}) holds {', '.join(map(str, as_list(holder.get('devices'))))}"
        if comm in SERVICES or comm.startswith(DISPLAYS) or not uses:
            found.judged("host", host, words)
        elif comm.startswith(DIAGNOSTICS):
            found.add("host", host, "GATE_BUSY", words, was=comm in before)
        else:
            found.add("host", host, "ENV_FOREIGN_PROCESS", words, was=comm in before)


# --- versions


def _versions(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None, found: Findings
              ) -> None:
    """The loaded module, what lies on disk and the libraries must be the planned ones, and agree."""
    gate, host = "driver-versions", _subject(request)
    seen = report.get("versions")
    if not isinstance(seen, Mapping):
        found.add(gate, host, "GATE_BUG", "the report holds no versions")
        return
    found.judged(gate, host)
    old = as_map((before or {}).get("versions"))
    wanted = as_text(_expect(request).get("driver"))
    loaded = as_text(seen.get("loaded"))
    _loaded(report, seen, wanted, host, found)
    aim = wanted or loaded
    compat = _first_copy(report).get("kind") == "compat"       # of another version by intent; see ``environment``
    for key, words in PARTS.items():
        have = as_text(seen.get(key))
        if not have or not aim or have == aim or (key == "libcuda_file" and compat):
            continue
        against = f"planned is {wanted}" if wanted else f"loaded is {loaded}"
        # The running module is right and the next boot loads another, or the other way round: both need a boot.
        code = "DRV_REBOOT_PENDING" if key == "on_disk" and not wanted else "DRV_LIB_MISMATCH"
        if key == "on_disk" and wanted and loaded != wanted:
            continue        # told with the loaded one
        found.add(gate, host, code, f"{words} is {have}, {against}",
                  was=old.get(key) == have and (old.get("loaded") == loaded or not wanted))
    _flavours(seen, old, _expect(request), host, found)
    _modules(report, before, host, found)
    _mismatch_lines(report, before, host, found)


def _loaded(report: Mapping[str, Any], seen: Mapping[str, Any], wanted: str, host: str, found: Findings) -> None:
    gate, loaded, on_disk = "driver-versions", as_text(seen.get("loaded")), as_text(seen.get("on_disk"))
    if not loaded and wanted:
        found.add(gate, host, "DRV_NOT_LOADED", f"no driver is loaded, planned is {wanted}")
    elif not loaded and not as_text(seen.get("nvml")):
        found.add(gate, host, "DRV_NOT_LOADED", "no driver is loaded")
    elif not loaded:
        found.judged(gate, host, "no file tells which module is loaded; NVML answers")
    elif wanted and loaded != wanted:
        pending = on_disk == wanted
        found.add(gate, host, "DRV_REBOOT_PENDING" if pending else "DRV_LIB_MISMATCH",
                  f"loaded driver is {loaded}, planned is {wanted}"
                  + (f"; the module on disk is {on_disk}: reboot" if pending else
                     f"; the module on disk is {on_disk}" if on_disk else ""))
    elif wanted and not on_disk:
        found.judged(gate, host, "the version of the module on disk cannot be read")


def _first_copy(report: Mapping[str, Any]) -> Mapping[str, Any]:
    copies = as_maps(as_map(_host_state(report).get("loader")).get("libcuda_file"))
    return copies[0] if copies else {}


def _flavours(seen: Mapping[str, Any], old: Mapping[str, Any], expect: Mapping[str, Any], host: str, found: Findings
              ) -> None:
    gate, have = "driver-versions", as_text(seen.get("flavour"))
    wanted = as_text(expect.get("flavour"))
    if wanted and have and have != wanted:
        found.add(gate, host, "DRV_LIB_MISMATCH", f"the loaded module is the {have} one, planned is the {wanted} one",
                  was=old.get("flavour") == have)
    elif have and old.get("flavour") and old["flavour"] != have:
        found.judged(gate, host, f"the loaded module is the {have} one, before it was the {old['flavour']} one")
    disk = as_text(seen.get("on_disk_flavour"))
    if have and disk and disk != have and seen.get("on_disk") == seen.get("loaded"):
        found.add(gate, host, "DRV_REBOOT_PENDING", f"the loaded module is the {have} one, on disk is the {disk} one",
                  was=old.get("flavour") == have and old.get("on_disk_flavour") == disk)


def _modules(report: Mapping[str, Any], before: Mapping[str, Any] | None, host: str, found: Findings) -> None:
    gate = "driver-versions"
    modules, old = as_map(_host_state(report).get("modules")), as_map(_host_state(before or {}).get("modules"))
    ran = any(as_list(gpu.get("processes")) for gpu in as_maps(report.get("gpus")))
    if modules.get("nvidia") and modules.get("sysfs") and not ran:
        # It is loaded when the first context is made; only where none could be made is its absence a finding.
        for key, words in UVM.items():
            if modules.get(key) is False and as_maps(report.get("gpus")):
                found.add(gate, host, "UVM_MISSING", words, was=old.get(key) is False)
    if modules.get("nouveau"):
        if modules.get("nvidia"):
            found.judged(gate, host, "the module nouveau is loaded, too")
        else:
            words = "the module nouveau is loaded and holds the devices"
            found.add(gate, host, "DRV_NOT_LOADED", words, was=bool(old.get("nouveau")))
    reboot = as_map(_host_state(report).get("reboot"))
    if reboot.get("required"):
        packages = ", ".join(map(str, as_list(reboot.get("packages"))))
        found.judged(gate, host, f"the distribution asks for a reboot{': ' + packages if packages else ''}")
    if reboot.get("newer"):
        found.judged(gate, host, f"kernel {reboot.get('newest_with_module')} is installed with a module, "
                                 f"{reboot.get('running')} runs")


def _mismatch_lines(report: Mapping[str, Any], before: Mapping[str, Any] | None, host: str, found: Findings) -> None:
    """An API mismatch in the log counts where it cannot stem from the minutes between installing and booting."""
    gate = "driver-versions"
    log, later = as_map(_host_state(report).get("kernel_log")), as_map(report.get("kernel_log_after"))
    fresh = before is not None and bool(as_text(report.get("boot_id"))) and not same_boot(report, before)
    for line in as_maps(later.get("api_mismatch")):
        found.add(gate, host, "DRV_LIB_MISMATCH", f"while the gate ran the kernel logged: {line.get('text')}")
    for line in as_maps(log.get("api_mismatch")):
        if fresh:
            found.add(gate, host, "DRV_LIB_MISMATCH", f"since the boot the kernel logged: {line.get('text')}")
        else:
            found.judged(gate, host, f"the kernel logged: {line.get('text')}")


# --- environment


def _environment(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None,
                 found: Findings) -> None:
    gate, host = "environment", _subject(request)
    if not _readable(gate, report, host, found):
        return
    have = _host_state(report).get("environment")
    if not isinstance(have, Mapping):
        found.add(gate, host, "GATE_BUG", "the report holds no environment")
        return
    found.judged(gate, host)
    old = _set_variables(as_map(_host_state(before or {}).get("environment")))
    for name, where in sorted(_set_variables(have).items()):
        code = "ENV_FORGED" if name in FORGES else "ENV_SUSPECT" if name in SUSPECT else ""
        if code:
            found.add(gate, host, code, f"{name} is set {where}", was=name in old)
    loader, loaded = as_map(_host_state(report).get("loader")), as_map(report.get("versions")).get("loaded")
    copies = as_maps(loader.get("libcuda_file"))
    first = _first_copy(before or {})
    for place, copy in enumerate(copies):
        words = f"{copy.get('path')} is libcuda {copy.get('version')} ({copy.get('kind')}, by {copy.get('how')})"
        # A path that leads to the driver's own copy is how containers and modules files do it.
        private = copy.get("how") == "LD_LIBRARY_PATH" and copy.get("version") != loaded
        if place == 0 and (copy.get("kind") in ("compat", "stub") or private):
            found.add(gate, host, "ENV_SUSPECT", f"{words}, and the loader finds it first",
                      was=first.get("real") == copy.get("real"))
        elif place:
            found.judged(gate, host, f"{words}, after the first")


def _set_variables(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return where each variable is set: in the environment of the gate, or by a file for everybody."""
    found = {str(name): f"to {value!r}" for name, value in as_map(environment.get("variables")).items()}
    for line in as_maps(environment.get("files")):
        found.setdefault(as_text(line.get("name")), f"to {line.get('value')!r} in {line.get('path')}")
    if as_list(environment.get("preload")):
        found.setdefault("LD_PRELOAD", "in /etc/ld.so.preload")
    return found


# --- NVML


def _nvml(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None, found: Findings
          ) -> None:
    gate, host = "nvml", _subject(request)
    nvml = report.get("nvml")
    if not isinstance(nvml, Mapping) or not isinstance(nvml.get("gpus"), list):
        found.add(gate, host, "GATE_BUG", "the report holds no answer of NVML")
        return
    found.judged(gate, host)
    old = as_map((before or {}).get("nvml"))
    if nvml.get("error"):
        found.add(gate, host, nvml_code(nvml), f"NVML: {nvml['error']}", was=old.get("error") == nvml["error"])
    elif not as_text(nvml.get("driver")):
        found.add(gate, host, "GATE_BUG", "NVML gave no version of the driver")
    after = report.get("nvml_after")
    if isinstance(after, Mapping) and after.get("error") and not nvml.get("error"):
        words = as_text(after["error"])
        if "not tried" not in words:
            found.add(gate, host, nvml_code(after), f"after the kernels NVML says: {words}")
    were = gpus_of(before or {})
    for label, gpu in {**gpus_of(report), **_lost_after(report)}.items():
        found.judged(gate, label)
        if gpu.get("error"):
            found.add(gate, label, nvml_code(gpu), f"NVML: {gpu['error']}",
                      was=as_map(were.get(label)).get("error") == gpu["error"])
        for name, error in sorted(as_map(gpu.get("errors")).items()):
            found.judged(gate, label, f"{name}: {as_map(error).get('text')} ({as_map(error).get('code')})")


def _lost_after(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return GPUs that answered before the kernels and do not now."""
    return {gpu_label(gpu): gpu for gpu in gpus_of(report, "nvml_after").values() if gpu.get("error")}


def nvml_code(answer: Mapping[str, Any]) -> str:
    """Return the code for an ``error`` with its ``error_code``; a number that nobody knows is the worst."""
    number, words = as_number(answer.get("error_code")), as_text(answer.get("error"))
    if number is not None:
        return "LIB_LOAD" if number == 12 else code_of("nvml", int(number))
    if "did not answer" in words or "hung" in words or "timeout" in words:
        return _child_code(words)
    return "GATE_BUG" if "pynvml" in words else "UNKNOWN_CODE"


RULES: Mapping[str, Rule] = {
    "host": _host, "driver-versions": _versions, "environment": _environment, "nvml": _nvml,
    "inventory": judge_inventory, "health": judge_health, "settings": judge_settings, "fabric": judge_fabric,
    "modes": judge_modes, "residue": judge_residue,
}
