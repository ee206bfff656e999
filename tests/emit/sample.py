"""A small plan made by hand: two cohorts, a canary and a batch, a reboot, a gate, a way back."""

from __future__ import annotations

from typing import Any

from planner.documents import digest, dump_model
from planner.schedule.plan import Plan

DRIVER: dict[str, Any] = {
    "id": "s1", "move": "driver", "title": "driver + fabric_manager 570.1 -> 580.2",
    "changes": [{"component": "driver", "from": "570.1", "to": "580.2"},
                {"component": "fabric_manager", "from": "570.1", "to": "580.2"}],
    "packages": {"manager": "apt", "install": {"cuda-drivers-580": "580.2-1", "nvidia-fabricmanager-580": "580.2-1"},
                 "remove": ["cuda-drivers-570", "nvidia-fabricmanager-570"]},
    "disruption": "reboot", "minutes": 15, "quick_gate": True,
    "because": [{"claim": "cuda-13-needs-580", "statement": "CUDA 13.0 needs driver 580 or newer",
                 "source": "matrices/cuda.yml:cuda-13-needs-580 https://example.invalid/release-notes"}],
    "notes": ["driver 580.2: drops Volta | see the notes", *(f"driver 580.1 fixes CVE-2026-{n}" for n in range(7))],
    "risks": [],
}
TOOLKIT: dict[str, Any] = {
    "id": "s2", "move": "toolkit", "title": "add cuda_toolkits 13.0.2",
    "changes": [{"component": "cuda_toolkits", "from": "", "to": "13.0.2"}],
    "packages": {"manager": "apt", "install": {"cuda-toolkit-13-0": "13.0.2-1"}, "remove": [],
                 "brings": ["cuda-*-13-0", "lib*-13-0", "nsight-compute-20[0-9]*"]},
    "disruption": "drain", "minutes": 5, "quick_gate": False, "restarts": ["nvidia-persistenced.service"],
    "links": {"/usr/local/cuda": "/usr/local/cuda-13.0"},
}
BACK: dict[str, Any] = {
    "id": "s1-undo", "move": "driver", "title": "driver back to 570.1",
    "changes": [{"component": "driver", "from": "580.2", "to": "570.1"}],
    "packages": {"manager": "apt", "install": {"cuda-drivers-570": "570.1-1"}, "remove": ["cuda-drivers-580"]},
    "disruption": "reboot", "minutes": 15, "quick_gate": True,
}


OS_RELEASE: dict[str, Any] = {
    "id": "s1", "move": "os-release", "title": "os ubuntu-22.04 -> ubuntu-24.04 (handed over)",
    "changes": [{"component": "os", "from": "ubuntu-22.04", "to": "ubuntu-24.04"}],
    "packages": {"manager": "none"}, "disruption": "reboot", "minutes": 60, "quick_gate": True, "handover": True,
    "instructions": ["have a snapshot | or a backup", "upgrade from ubuntu-22.04 to ubuntu-24.04"], "ends": True,
    "proofs": [{"component": "os", "wanted": ["ubuntu-24.04"], "unwanted": ["ubuntu-22.04"], "file": "/etc/os-release",
                "fields": {"id": "^ID=(\\w+)", "release": "^VERSION_ID=\"?([0-9.]+)"}, "value": "{id}-{release}"}],
    "refresh": [{"unit": "nvidia-cdi-refresh.service"},
                {"file": "/etc/cdi/nvidia.yaml", "argv": ["nvidia-ctk", "cdi", "generate"]}],
    "remarks": ["firmware: look at the release notes"],
}
KNOWN: list[dict[str, Any]] = [
    {"claim": "cuda-12.8-leaks", "statement": "CUDA 12.8 to 13.0 leaks | often (here: cuda_toolkits 12.8.1)",
     "source": "matrices/known-bad.yml:cuda-12.8-leaks https://example.invalid/leaks", "hint": "restart it daily",
     "at_start": True},
    {"claim": "cuda-12.8-leaks", "statement": "CUDA 12.8 to 13.0 leaks | often (here: cuda_toolkits 13.0.2)",
     "source": "matrices/known-bad.yml:cuda-12.8-leaks https://example.invalid/leaks", "hint": "restart it daily",
     "at_start": False},
    {"claim": "driver-580-is-slow", "statement": "Driver 580 is slow", "source": ""},
]


def cohort(name: str, nodes: list[str], steps: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
    start = {"driver": ["570.1"], "fabric_manager": ["570.1"], "cuda_toolkits": ["12.8.1"], "os": ["debian-12"]}
    goal = {**start, "driver": ["580.2"], "fabric_manager": ["580.2"], "cuda_toolkits": ["12.8.1", "13.0.2"]}
    return {"id": name, "pools": ["train"], "gpu": "8x h100-sxm", "hardware_class": "h100/vbios1/debian-12",
            "nodes": nodes, "start": start, "goal": goal if steps else start,
            "installed": {"cuda-drivers-570": "570.1-1"},
            "gpu_names": ["NVIDIA H100 80GB HBM3"] * 8, "steps": steps, "way_back": [BACK] if steps else [],
            "cost": {"reboots": 1, "drains": 1, "risks": 0, "steps": len(steps), "minutes": 20}, **extra}


def document() -> dict[str, Any]:
    """Return the plan as a document, without seal and digest."""
    def node(cohort_id: str, number: int, scheduler: str = "none") -> dict[str, Any]:
        return {"cohort": cohort_id, "pool": "train", "environment": "production", "scheduler": scheduler,
                "machine_id": f"{number:032x}", "facts": "sha256:00"}

    moving = cohort("c-h100-aaaaaa", ["gpu01", "gpu02", "gpu03"], [DRIVER, TOOLKIT], no_return_after="s1",
                    no_return_why="driver 570.1 (1 package is in no repository any more; kept where prefetched)",
                    no_return_packages=["cuda-drivers-570 570.1-1"], warnings=KNOWN)
    there = cohort("c-h100-bbbbbb", ["gpu04"], [])
    return {
        "schema": "planner.plan/1", "planner_version": "0.0.test", "name": "prod-cuda13",
        "inputs": {"facts": "sha256:11", "target": "sha256:22"}, "inventory": "inventories/prod",
        "policy": "production",
        "rollout": {"soak_minutes": 60}, "pools": {"train": {"nodes": 4, "max_unavailable": 2}},
        "cohorts": [moving, there],
        "waves": [
            {"id": "w1", "kind": "canary", "play": "plays/w1-canary.yml", "soak_minutes": 60, "approval": True,
             "batches": [{"id": "w1b1", "nodes": ["gpu01"], "minutes": 30}]},
            {"id": "w2", "kind": "batch", "play": "plays/w2-batch.yml", "soak_minutes": 0, "approval": False,
             "batches": [{"id": "w2b1", "nodes": ["gpu02", "gpu03"], "minutes": 30}]},
        ],
        "nodes": {"gpu01": node("c-h100-aaaaaa", 1), "gpu02": node("c-h100-aaaaaa", 2, "slurm"),
                  "gpu03": node("c-h100-aaaaaa", 3, "slurm"), "gpu04": node("c-h100-bbbbbb", 4)},
        "excluded": [{"node": "login1", "reason": "no-gpu"}],
        "risks": [{"claim": "r570-end-of-life", "statement": "accepted because: leaves within two weeks",
                   "source": "target"}],
        "warnings": ["class h100/vbios1/debian-12 has no node in staging"], "eta_minutes": 125,
    }


def finished(value: dict[str, Any]) -> Plan:
    """Return a plan with a seal (of nobody: these tests are not about the validator) and its digest."""
    plan = Plan.model_validate({**value, "seal": "sha256:test", "digest": ""})
    return plan.model_copy(update={"digest": digest(dump_model(plan))})


ASSETS = {
    "ansible.cfg": b"[defaults]\nroles_path = roles\n", "files/probe.zip": b"PK stand-in for the probe",
    "roles/planner_gate/tasks/main.yml": b"---\n[]\n",
}
