"""Judges NVLinks, the fabric and its manager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .node_findings import Findings, as_map, as_maps, as_number, as_text, gpus_of

Report = Mapping[str, Any]

NOT_STARTED, IN_PROGRESS, COMPLETED = 1, 2, 3
STATES = {1: "not started", 2: "in progress", 3: "completed"}
ERRORS_MAX = 100            # of one kind on one link between two looks; a recovery counts at once
# Bits of the health mask: (shift, what a 1 there means, whether the fabric is unfit).
HEALTH = ((0, "reduced bandwidth", False), (2, "a route recovers", False), (4, "a route is unhealthy", True),
          (6, "it recovers from access timeouts", False))


def judge_links(label: str, now: Report, first: Report, was: Report | None, found: Findings) -> None:
    """Tell error counters of NVLinks that grew since the record, or while the gate ran. Part of ``health``."""
    for base, since in ((was, "since the record before the change"), (first, "while the gate ran")):
        if base is None:
            continue
        then = {link.get("link"): as_map(link.get("errors")) for link in as_maps(base.get("nvlinks"))}
        grown = []
        for link in as_maps(now.get("nvlinks")):
            for name, value in sorted(as_map(link.get("errors")).items()):
                have, had = as_number(value), as_number(as_map(then.get(link.get("link"))).get(name))
                limit = 1 if name == "recovery" else ERRORS_MAX
                if have is not None and had is not None and have - had >= limit:
                    grown.append(f"link {link.get('link')} {have - had:.0f} {name}")
        if grown:
            found.add("health", label, "LINK_ERRORS", f"NVLink errors {since}: {', '.join(grown)}")
            return


def judge_fabric(report: Report, request: Report, before: Report | None, found: Findings) -> None:
    """NVLinks are up as before, the fabric is complete and healthy, and its manager is the planned one and runs."""
    gate, host = "fabric", as_text(request.get("host"))
    versions = as_map(report.get("versions"))
    gpus = {label: gpu for label, gpu in gpus_of(report).items() if not gpu.get("error")}
    old = gpus_of(before or {})
    wanted = as_text(as_map(request.get("expect")).get("fabric_manager"))
    _manager(versions, as_map((before or {}).get("versions")), wanted, host, found)
    parts = False
    for label, gpu in gpus.items():
        fabric, links = as_map(gpu.get("fabric")), as_maps(gpu.get("nvlinks"))
        was = old.get(label, {})
        if not fabric.get("state") and not links and not was.get("nvlinks"):
            continue
        parts = True
        found.judged(gate, label)
        _links(label, links, as_maps(was.get("nvlinks")), found)
        _fabric(label, fabric, as_map(was.get("fabric")), found)
    if not parts and not wanted and not versions.get("fabric_manager"):
        words = "no GPU here has NVLinks or a fabric" if gpus else "NVML shows no GPU that answers"
        found.skip(gate, host, "PART_MISSING", words)


def _manager(versions: Report, old: Report, wanted: str, host: str, found: Findings) -> None:
    gate, have, active = "fabric", as_text(versions.get("fabric_manager")), versions.get("fabric_manager_active")
    loaded = as_text(versions.get("loaded"))
    if not wanted and not have:
        return
    found.judged(gate, host)
    was = old.get("fabric_manager") == have and old.get("loaded") == loaded
    if wanted and not have:
        found.add(gate, host, "REQUIRED_SKIPPED",
                  f"the fabric manager's version could not be read, planned is {wanted}")
    elif wanted and have != wanted:
        found.add(gate, host, "FABRIC_NOT_READY", f"fabric manager is {have}, planned is {wanted}")
    elif not wanted and active and loaded and have != loaded:
        found.add(gate, host, "FABRIC_NOT_READY", f"fabric manager is {have}, the driver is {loaded}", was=was)
    # Installed and never started is how machines without NVSwitches are; only a plan or the record says otherwise.
    if active is False and (wanted or old.get("fabric_manager_active") is True):
        found.add(gate, host, "FABRIC_NOT_READY", "the fabric manager is not running")
    elif active is False:
        found.judged(gate, host, "the fabric manager is installed and does not run")


def _links(label: str, links: list[Report], was: list[Report], found: Findings) -> None:
    up, had = ({link.get("link") for link in each if link.get("active") is True} for each in (links, was))
    down = sorted(str(number) for number in had - up)
    if down:
        found.add("fabric", label, "FABRIC_NOT_READY",
                  f"{len(up)} NVLinks are up, {len(had)} were; down is {', '.join(down)}")
    elif not was and up and len(up) < len(links):
        found.judged("fabric", label, f"{len(up)} of {len(links)} NVLinks are up")


def _fabric(label: str, fabric: Report, was: Report, found: Findings) -> None:
    state, before = as_number(fabric.get("state")), as_number(was.get("state"))
    if before == COMPLETED and not state:
        found.add("fabric", label, "FABRIC_NOT_READY", "the fabric was completed before the change and is not told now")
    if not state:
        return
    if state != COMPLETED:
        words = STATES.get(int(state), f"in state {state:.0f}, which is not known here")
        found.add("fabric", label, "FABRIC_NOT_READY", f"the fabric is {words}", was=before == state != IN_PROGRESS)
        return
    status = as_number(fabric.get("status"))
    if status:
        found.add("fabric", label, "FABRIC_NOT_READY", f"the fabric came up with error {status:.0f}",
                  was=was.get("status") == status)
    mask, old_mask = int(as_number(fabric.get("health_mask")) or 0), int(as_number(was.get("health_mask")) or 0)
    for shift, words, unfit in HEALTH:
        if mask >> shift & 3 == 1:
            found.add("fabric", label, "FABRIC_NOT_READY" if unfit else "LINK_ERRORS", f"health of the fabric: {words}",
                      was=old_mask >> shift & 3 == 1)
    wrong = mask >> 8 & 15
    if wrong > 1:
        found.add("fabric", label, "FABRIC_NOT_READY", f"health of the fabric: incorrect configuration {wrong}",
                  was=old_mask >> 8 & 15 == wrong)
    if as_number(fabric.get("health_summary")) == 2 and not mask >> 4 & 1 and wrong <= 1:
        found.add("fabric", label, "FABRIC_NOT_READY", "health of the fabric: unhealthy",
                  was=as_number(was.get("health_summary")) == 2)
