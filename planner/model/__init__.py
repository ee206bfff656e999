"""Comparable values: versions, stacks, nodes, targets."""
