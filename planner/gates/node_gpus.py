"""Judges each GPU's state as NVML tells it: who is there, health, settings, modes, and what the gate left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import mig
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
    pci_key,
    same_boot,
)
from .node_links import judge_fabric, judge_links

__all__ = ["judge_fabric", "judge_health", "judge_inventory", "judge_modes", "judge_residue", "judge_settings"]

Report = Mapping[str, Any]

RESIDUE_BYTES = 64 * 1024 * 1024
REPLAYS_MAX = 80            # of PCIe, since the record before; what DCGM allows
LOADED_SAMPLES_MIN = 3      # a link at rest trains down by itself
RECOVERY = {1: "reset the GPU", 2: "reboot the node", 3: "drain peer traffic", 4: "drain and reset",
            5: "recover the IMEX domain", 6: "reset the bus", 7: "reboot the system"}
# Clocks event reasons that make every measurement unfit; those that are usual.
SLOWED = {0x8: "hardware slowdown", 0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown",
          0x80: "power brake"}
USUAL = 0x1 | 0x2 | 0x4
WATTS = 1.0                 # the enforced limit is a rounded figure
# name -> where it lies
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "persistence": ("persistence",), "compute_mode": ("compute_mode",), "ecc": ("ecc", "mode", "current"),
    "ecc_pending": ("ecc", "mode", "pending"), "virtualization": ("virtualization",),
    **{f"power_{name}": ("power", name) for name in ("limit_w", "enforced_w", "default_w", "min_w", "max_w")},
    **{f"clocks_{name}": ("clocks", name) for kind in ("sm", "memory") for name in (
        f"application_{kind}_mhz", f"default_{kind}_mhz", f"max_{kind}_mhz", f"boost_max_{kind}_mhz")},
}
NODE_SETTINGS: Mapping[str, tuple[str, ...]] = {"confidential_compute": ("confidential_compute",)}
MIG_SETTINGS: Mapping[str, tuple[str, ...]] = {"mig": ("mig_mode", "current"), "mig_pending": ("mig_mode", "pending")}


def _host(request: Report) -> str:
    return as_text(request.get("host"))


def _answers(gate: str, report: Report, request: Report, found: Findings) -> dict[str, Report]:
    """Return the GPUs to look at; where NVML gives none, say that this gate saw nothing: ``nvml`` tells why."""
    nvml = as_map(report.get("nvml"))
    gpus = {label: gpu for label, gpu in gpus_of(report).items() if not gpu.get("error")}
    if not gpus:
        words = "NVML did not answer" if nvml.get("error") else "NVML shows no GPU that answers"
        found.skip(gate, _host(request), "PART_MISSING", words)
    return gpus


def _at(gpu: Report, path: tuple[str, ...]) -> Any:
    value: Any = gpu
    for step in path:
        value = as_map(value).get(step)
    return value


# --- inventory


def judge_inventory(report: Report, request: Report, before: Report | None, found: Findings) -> None:
    """All GPUs are there, the same ones as before, on links as wide as before."""
    gate, host = "inventory", _host(request)
    nvml, old_report = as_map(report.get("nvml")), before or {}
    expect = as_map(request.get("expect"))
    wanted, on_bus = as_number(expect.get("gpus")), as_number(report.get("pci_gpus"))
    listed = as_maps(nvml.get("gpus"))
    seen = None if nvml.get("error") else len(listed)
    if seen is None:
        found.skip(gate, host, "PART_MISSING", "NVML did not answer")
    else:
        found.judged(gate, host)
    for source, have in (("NVML", seen), ("the PCI bus", on_bus)):
        if wanted is not None and have is not None and have < wanted:
            found.add(gate, host, "GPU_MISSING", f"{source} shows {have:.0f} of {wanted:.0f} GPUs")
    if seen is not None and on_bus is not None and on_bus > seen and seen != wanted:
        gap = as_number(old_report.get("pci_gpus")), len(as_maps(as_map(old_report.get("nvml")).get("gpus")))
        words = f"the PCI bus shows {on_bus:.0f} GPUs, NVML {seen}"
        if before is None and _given(report, seen):
            found.judged(gate, host, f"{words}: the others have no device file here")
        else:
            found.add(gate, host, "GPU_LOST", words, was=before is not None and gap == (on_bus, seen))
    if seen is None:
        return
    gpus, old = gpus_of(report), gpus_of(old_report)
    if len(gpus) != len(listed):
        found.add(gate, host, "GATE_BUG", "one GPU is listed twice")
    for label in gpus:
        found.judged(gate, label)
    for label in [label for label in old if label not in gpus]:
        found.add(gate, label, "GPU_MISSING", f"it was there before the change, at {old[label].get('bus_id')}, "
                                              f"and is not there now")
    if before is not None:
        _same_gpus(gpus, old, report, before, found)


def _given(report: Report, seen: int) -> bool:
    """Return whether only so many GPUs are given to this place: a container's, or the rest is bound to no driver."""
    nodes = as_map(report.get("host_state")).get("device_nodes")
    return isinstance(nodes, list) and 0 < len([n for n in nodes if as_text(n)[6:].isdigit()]) <= seen


def _same_gpus(gpus: Mapping[str, Report], old: Mapping[str, Report], report: Report, before: Report, found: Findings
               ) -> None:
    gate = "inventory"
    now_load, old_load = as_map(report.get("conditions")), as_map(before.get("conditions"))
    for label, gpu in gpus.items():
        was = old.get(label)
        if was is None:
            found.add(gate, label, "GPU_CHANGED", f"it was not there before the change, at {gpu.get('bus_id')}")
            continue
        for key, words in (("serial", "serial number"), ("bus_id", "PCI address"), ("vbios", "VBIOS"),
                           ("bar1_total_bytes", "size of BAR1"), ("name", "name")):
            if gpu.get(key) and was.get(key) and gpu[key] != was[key]:
                found.add(gate, label, "GPU_CHANGED", f"its {words} is {gpu[key]}, was {was[key]}")
        for key, words in (("gen_max", "generation"), ("width_max", "width"), ("width", "width now")):
            new, then = as_number(_at(gpu, ("pcie", key))), as_number(_at(was, ("pcie", key)))
            if new is not None and then is not None and new < then:
                found.add(gate, label, "PCIE_DOWN", f"the PCIe link's {words} is {new:.0f}, was {then:.0f}")
        loads = [as_map(load.get(label)) for load in (now_load, old_load)]
        if all((as_number(load.get("loaded_samples")) or 0) >= LOADED_SAMPLES_MIN for load in loads):
            new_link, old_link = (as_text(load.get("pcie")) for load in loads)
            if _link(new_link) < _link(old_link):
                found.add(gate, label, "PCIE_DOWN", f"under load the PCIe link is {new_link}, was {old_link}")


def _link(text: str) -> tuple[int, ...]:
    """Return what a link carries, as a number to compare: lanes times two to the power of the generation."""
    gen, _, width = text.removeprefix("gen").partition(" x")
    return (int(width) << int(gen),) if gen.isdigit() and width.isdigit() and int(gen) < 16 else ()


# --- health


def judge_health(report: Report, request: Report, before: Report | None, found: Findings) -> None:
    """No fault of the hardware that was not there before the change."""
    gate = "health"
    gpus, later, old = _answers(gate, report, request, found), gpus_of(report, "nvml_after"), gpus_of(before or {})
    rebooted = before is not None and not same_boot(report, before)
    for label, first in gpus.items():
        after = later.get(label, {})
        now = first if not after or after.get("error") else after
        was = old.get(label)
        found.judged(gate, label)
        _marks(label, now, was or {}, found)
        _ecc(label, now, first, was, rebooted, found)
        _replays(label, now, first, None if rebooted else was, found)
        judge_links(label, now, first, None if rebooted else was, found)
    _log(report, request, before, gpus, found)


def _marks(label: str, now: Report, was: Report, found: Findings) -> None:
    action, old_action = as_number(now.get("recovery_action")), as_number(was.get("recovery_action"))
    if action:
        words = f"recovery action {action:.0f}: {RECOVERY.get(int(action), 'not known here')}"
        found.add("health", label, "GPU_RESET_REQUIRED", words, was=old_action == action)
    rows, old_rows = as_map(now.get("remapped")), as_map(was.get("remapped"))
    if as_number(rows.get("failure")):
        found.add("health", label, "ROW_REMAP_FAILED", "a row of memory could not be remapped",
                  was=bool(as_number(old_rows.get("failure"))))
    if as_number(rows.get("pending")) or as_number(now.get("retired_pending")):
        found.add("health", label, "ROW_REMAP_PENDING", "rows or pages of memory wait for a reset to be replaced",
                  was=bool(as_number(old_rows.get("pending")) or as_number(was.get("retired_pending"))))
    more = (as_number(rows.get("uncorrected")) or 0) - (as_number(old_rows.get("uncorrected")) or 0)
    if was and old_rows and more > 0:
        found.add("health", label, "ROW_REMAP_PENDING", f"{more:.0f} more rows of memory were remapped for errors "
                                                        f"that could not be corrected")


def _ecc(label: str, now: Report, first: Report, was: Report | None, rebooted: bool, found: Findings) -> None:
    """Volatile counters begin anew with every boot and load of the driver; aggregate ones stay with the GPU."""
    for counter in ("volatile", "aggregate"):
        counts = as_map(as_map(now.get("ecc")).get(counter))
        earlier = None if was is None else as_map(as_map(was.get("ecc")).get(counter))
        base: Mapping[str, Any] = as_map(as_map(first.get("ecc")).get(counter))
        since = "while the gate ran"
        if counter == "volatile" and (rebooted or earlier is None):
            base, since = {}, "since the driver was loaded"
        elif earlier:
            base, since = earlier, "since the record before the change"
        for kind in sorted(map(str, counts)):
            have, then = as_number(counts.get(kind)), as_number(base.get(kind))
            if have is None:
                continue
            # Less than before: the driver was loaded again in between, and all of it is new.
            grown = have - then if then is not None and have >= then else have if counter == "volatile" else 0
            if grown > 0 and "uncorrected" in kind:
                found.add("health", label, "ECC_UNCORRECTED", f"{grown:.0f} {counter} errors {since}: {kind}")
            elif grown > 0 and was is not None:
                found.add("health", label, "ECC_CORRECTED", f"{grown:.0f} {counter} errors {since}: {kind}")
            elif grown > 0:
                found.judged("health", label, f"{grown:.0f} {counter} errors {since}: {kind}")


def _replays(label: str, now: Report, first: Report, was: Report | None, found: Findings) -> None:
    have = as_number(_at(now, ("pcie", "replays")))
    for base, since in ((was, "since the record before the change"), (first, "while the gate ran")):
        then = as_number(_at(base or {}, ("pcie", "replays")))
        if have is not None and then is not None and have - then >= REPLAYS_MAX:
            found.add("health", label, "LINK_ERRORS", f"{have - then:.0f} PCIe replays {since}")
            return


def _log(report: Report, request: Report, before: Report | None, gpus: Mapping[str, Report], found: Findings) -> None:
    """Xid and SXid lines. Those of the same boot from before the record are no news."""
    gate, host = "health", _host(request)
    log, later = as_map(as_map(report.get("host_state")).get("kernel_log")), as_map(report.get("kernel_log_after"))
    if not log or log.get("source") == "unreadable":
        why = "; ".join(map(str, as_list(log.get("why")))) or "nothing came"
        found.skip(gate, host, "PART_MISSING", f"the kernel's log cannot be read, so no Xid is seen: {why}")
    else:
        found.judged(gate, host)
        if not log.get("complete"):
            found.judged(gate, host, f"the kernel's log ({log.get('source')}) does not reach back as far as asked")
    told = 0.0
    if before is not None and same_boot(report, before):
        told = max([as_number(as_map(before.get(key)).get("read_at_s")) or 0.0
                    for key in ("host_state", "nvml", "nvml_after")])
    by_bus = {pci_key(gpu.get("bus_id")): label for label, gpu in gpus.items() if gpu.get("bus_id")}
    ours = {as_number(line.get("at_s")) for kind in ("xids", "sxids") for line in as_maps(later.get(kind))}
    for kind in ("xids", "sxids"):
        lines = as_maps(log.get(kind)) + as_maps(later.get(kind))
        for line in {(as_number(x.get("at_s")), as_text(x.get("text"))): x for x in lines}.values():
            subject = by_bus.get(pci_key(line.get("pci")), host)
            at = as_number(line.get("at_s"))
            words = as_text(line.get("text")) or f"{kind[:-1]} {line.get('number')}"
            if at is not None and at <= told:
                found.judged(gate, subject, f"before the change: {words}")
                continue
            found.add(gate, subject, _line_code(kind, line, at in ours), words)


def _line_code(kind: str, line: Report, ours: bool) -> str:
    number = as_number(line.get("number"))
    if kind == "sxids":
        text = as_text(line.get("text")).lower()
        return "XID_CRITICAL" if "fatal" in text.replace("non-fatal", "") else "XID_OTHER"
    code = code_of("xid", int(number)) if number is not None else "XID_OTHER"
    # Of an application: of ours only where the gate ran by then, else of a job that is gone.
    return "XID_OTHER" if code == "UNKNOWN_CODE" or (code == "XID_APP" and not ours) else code


# --- settings


def judge_settings(report: Report, request: Report, before: Report | None, found: Findings) -> None:
    """The operating point is that of before the change, and the gate itself moved nothing."""
    gate, host = "settings", _host(request)
    gpus, old, later = _answers(gate, report, request, found), gpus_of(before or {}), gpus_of(report, "nvml_after")
    free = {str(name) for name in as_list(as_map(request.get("expect")).get("may_change"))}
    if before is None and gpus:
        found.skip(gate, host, "BASELINE_MISSING", "no record of the settings from before the change")
    for label, gpu in gpus.items():
        if label in old:
            found.judged(gate, label)
            _differ(gate, label, gpu, old[label], free, "{name} is {new}, was {old}", found)
        elif before is not None:
            found.skip(gate, label, "BASELINE_MISSING", "this GPU is not in the record from before the change")
        if label in later and not later[label].get("error"):
            _differ(gate, label, later[label], gpu, set(), "while the gate ran {name} became {new}, was {old}", found)
        bits = as_number(_at(gpu, ("reasons", "raw")))
        for bit, words in SLOWED.items():
            if bits is not None and int(bits) & bit:
                found.add(gate, label, "ENV_THROTTLED", f"clocks are held down at rest: {words}",
                          was=bool(int(as_number(_at(old.get(label, {}), ("reasons", "raw"))) or 0) & bit))
        if bits is not None and int(bits) & ~(USUAL | sum(SLOWED)) and label in old:
            names = as_list(_at(gpu, ("reasons", "names")))
            found.judged(gate, label, f"clocks are held down at rest: {', '.join(map(str, names))}")


def _differ(gate: str, label: str, new: Report, old: Report, free: set[str], words: str, found: Findings,
            settings: Mapping[str, tuple[str, ...]] = SETTINGS) -> None:
    for name, path in settings.items():
        have, had = as_number(_at(new, path)), as_number(_at(old, path))
        if have is None and had is not None:
            found.judged(gate, label, f"{name} was {had:g}, and is told no more")
        if have is None or had is None or abs(have - had) < (WATTS if name.startswith("power") else 1e-9):
            continue
        sentence = words.format(name=name, new=f"{have:g}", old=f"{had:g}")
        if name in free:
            found.judged(gate, label, f"{sentence}, as planned")
        else:
            found.add(gate, label, "SETTING_CHANGED", sentence)


# --- modes


def judge_modes(report: Report, request: Report, before: Report | None, found: Findings) -> None:
    """MIG, MPS and licences are as before."""
    gate, host = "modes", _host(request)
    gpus, old, later = _answers(gate, report, request, found), gpus_of(before or {}), gpus_of(report, "nvml_after")
    free = {str(name) for name in as_list(as_map(request.get("expect")).get("may_change"))}
    if before is None and gpus:
        found.skip(gate, host, "BASELINE_MISSING", "no record of MIG and MPS from before the change")
    if before is not None and gpus:
        found.judged(gate, host)
        now, was = (as_map(as_map(each.get("nvml")).get("mps")).get("control") for each in (report, before))
        if isinstance(now, bool) and isinstance(was, bool) and now != was and "mps" not in free:
            found.add(gate, host, "MPS_BAD", "the control daemon of MPS runs and did not before" if now else
                      "the control daemon of MPS ran before the change and does not now")
        _differ(gate, host, as_map(report.get("nvml")), as_map(before.get("nvml")), free,
                "{name} is {new}, was {old}", found, NODE_SETTINGS)
    for label, gpu in gpus.items():
        if label in later and not later[label].get("error"):
            _mig(label, later[label], gpu, set(), "while the gate ran ", found)
        if label in old:
            found.judged(gate, label)
            _mig(label, gpu, old[label], free, "", found)
        elif before is not None:
            found.skip(gate, label, "BASELINE_MISSING", "this GPU is not in the record from before the change")
        for licence in as_maps(gpu.get("licence")):
            if not as_number(licence.get("state")):
                had = [as_number(each.get("state")) for each in as_maps(old.get(label, {}).get("licence"))]
                found.add(gate, label, "LICENCE_MISSING", f"no licence for {licence.get('product') or 'this vGPU'} yet",
                          was=bool(had) and not any(had))


def _mig(label: str, gpu: Report, old: Report, free: set[str], when: str, found: Findings) -> None:
    """Compare mode and instances; what a side does not tell is not compared, but whether MIG is on both know."""
    _differ("modes", label, gpu, old, free, when + "{name} is {new}, was {old}", found, MIG_SETTINGS)
    if "mig" not in free and "mig_mode" not in (old if "mig_mode" in gpu else gpu):
        states = ["on" if side.get("mig") is True else "off" for side in (gpu, old)]
        if states[0] != states[1]:
            found.add("modes", label, "SETTING_CHANGED", f"{when}MIG is {states[0]}, was {states[1]}")
    if "mig_layout" not in free and (words := mig.layout_change(gpu, old)):
        found.add("modes", label, "SETTING_CHANGED", when + words)


# --- residue


def judge_residue(report: Report, request: Report, before: Report | None, found: Findings) -> None:
    """The gate left no process and no memory behind."""
    gate, host = "residue", _host(request)
    gpus, later = _answers(gate, report, request, found), gpus_of(report, "nvml_after")
    if not gpus:
        return
    after = as_map(report.get("nvml_after"))
    if not later or after.get("error"):
        words = as_text(after.get("error")) or "nobody looked after the kernels"
        found.skip(gate, host, "PART_MISSING", f"NVML was not asked after the kernels: {words}")
        return
    mps = bool(as_map(after.get("mps")).get("server"))
    for label, gpu in gpus.items():
        end = later.get(label)
        if end is None or end.get("error"):
            found.skip(gate, label, "PART_MISSING", "this GPU did not answer after the kernels")
            continue
        if mig.users_unread(end) or mig.users_unread(gpu):
            found.skip(gate, label, "PART_MISSING", "NVML does not tell who uses this GPU")
            continue
        found.judged(gate, label)
        pids, had = mig.users(end), mig.users(gpu)
        new = [str(pid) for pid in pids if pid not in had]
        if new:
            found.add(gate, label, "GATE_RESIDUE", f"pid {', '.join(new)} uses it, and did not before the kernels")
        _grown(label, end, gpu, mps or bool(pids), found)
        devices = {device.get("uuid"): device for device in as_maps(gpu.get("mig_devices"))}
        for device in as_maps(end.get("mig_devices")):
            if device.get("uuid") in devices and "memory" in device:
                used = mps or not isinstance(device.get("processes"), list) or bool(device["processes"])
                _grown(gpu_label(device), device, devices[device.get("uuid")], used, found)


def _grown(label: str, end: Report, first: Report, in_use: bool, found: Findings) -> None:
    found.judged("residue", label)
    used, free = (as_number(_at(each, ("memory", "used_bytes"))) for each in (end, first))
    if used is None or free is None:
        found.judged("residue", label, "NVML does not tell how much memory is used")
    elif used - free > RESIDUE_BYTES and not in_use:
        more = (used - free) / 2**20
        found.add("residue", label, "GATE_RESIDUE", f"{more:.0f} MiB more are used than before the kernels")
