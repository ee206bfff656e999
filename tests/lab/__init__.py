"""The lab: stand-in packages, nodes, faults, teardown."""
