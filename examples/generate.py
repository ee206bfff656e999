"""Write the facts of the example fleets: invented nodes, in the form that ``planner discover`` writes.

No machine stands behind these documents. Package names follow the package sets of ``matrices/``, versions are ones that
were released; machine-ids, serial numbers and UUIDs are hashes of the host names. Names and groups come from
``inventories/``. The same sources always give the same bytes.

    python examples/generate.py            write every facts.json
    python examples/generate.py --check    write nothing; exit 1 when a file on disk differs
    python examples/generate.py --golden   run the commands of the READMEs, and write what they print to expected/*.txt
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from examples import golden
from examples.fleets import first, serving, systems, training
from planner.documents import canonical_json, digest, dump_model
from planner.facts.inventory import Inventory, load_inventory
from planner.facts.schema import FactDocument, FactSet, Identity, NodeRecord, UnreadableNode

ROOT = Path(__file__).resolve().parents[1]
WRITTEN_AT = "2026-11-24T06:00:00Z"

# --- documents ------------------------------------------------------------------------------------------------

UNREACHABLE = {"h100-09": "it cannot be reached: Connection timed out"}
EXAMPLES = {
    "01-two-generations": ("inventories/two-generations", first.two_generations),
    "02-one-node": ("inventories/one-node", first.workstation),
    "04-dnf": ("inventories/rhel-pair", first.rhel_pair),
    "05-dgx-a100": ("examples/05-dgx-a100/hosts.yml", training.dgx_a100),
    "06-three-drivers": ("examples/06-three-drivers/hosts.yml", training.three_drivers),
    "07-volta-and-hopper": ("examples/07-volta-and-hopper/hosts.yml", training.volta_and_hopper),
    "08-rtx-5090": ("examples/08-rtx-5090/hosts.yml", serving.rtx_5090),
    "09-l4-inference": ("examples/09-l4-inference/hosts.yml", serving.l4_pool),
    "10-a10-vgpu": ("examples/10-a10-vgpu/hosts.yml", systems.vgpu),
    "11-release-upgrade": ("examples/11-release-upgrade/hosts.yml", systems.release_upgrade),
    "12-three-toolkits": ("examples/12-three-toolkits/hosts.yml", serving.three_toolkits),
    "13-nothing-to-do": ("examples/13-nothing-to-do/hosts.yml", serving.at_the_goal),
    "14-out-of-reach": ("examples/14-out-of-reach/hosts.yml", systems.out_of_reach),
}


def hashed(name: str, what: str, length: int) -> str:
    """Return hexadecimal digits that depend on a host name only."""
    return sha256(f"{name}: {what}".encode()).hexdigest()[:length]


def identity(name: str, gpus: int) -> Identity:
    """Return an invented identity; its serial number says so."""
    def uuid(what: str) -> str:
        digits = hashed(name, what, 32)
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    return Identity(machine_id=hashed(name, "machine-id", 32), boot_id=uuid("boot"),
                    serials=("SYNTHETIC-" + hashed(name, "serial", 8),),
                    gpu_uuids=tuple(f"GPU-{uuid(f'gpu {i}')}" for i in range(gpus)))


def document(inventory: str, read: Inventory, facts: Mapping[str, FactSet]) -> FactDocument:
    """Return the document of one fleet; facts are there for every host that can be reached."""
    records, sets, unreadable = [], {}, []
    for host in read.hosts:
        if host.name in UNREACHABLE:
            hint = f"try: ansible {host.name} -i {inventory} -m ansible.builtin.ping"
            unreadable.append(UnreadableNode(name=host.name, reason=UNREACHABLE[host.name], hint=hint,
                                             declared=dict(host.declared)))
            continue
        found = facts[host.name]
        name = digest(dump_model(found))
        sets[name] = found
        records.append(NodeRecord(name=host.name, facts=name, identity=identity(host.name, len(found.gpus)),
                                  observed_at=WRITTEN_AT, declared=dict(host.declared), groups=host.groups))
    return FactDocument(schema="planner.facts/1", created_at=WRITTEN_AT, inventory=inventory,
                        inventory_digest=read.digest, fact_sets=dict(sorted(sets.items())), nodes=tuple(records),
                        unreadable=tuple(unreadable))


def render() -> dict[Path, str]:
    """Return the text of every facts.json."""
    os.chdir(ROOT)            # the documents carry the inventory's path as a person types it here
    texts = {}
    for name, (inventory, make) in EXAMPLES.items():
        read = load_inventory(inventory)
        made = document(inventory, read, make())
        texts[ROOT / "examples" / name / "facts.json"] = canonical_json(dump_model(made))
    return texts


def main(argv: list[str]) -> int:
    """Write or compare; the exit code is 1 when ``--check`` finds a difference."""
    stale = []
    if "--golden" in argv:
        golden.write()
        return 0
    for path, text in render().items():
        if "--check" in argv:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(path)
        else:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        sys.stderr.write(f"{path.relative_to(ROOT)} is out of date: run python examples/generate.py\n")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
