"""Runs on the managed node: standard library only, shipped as one zip."""
