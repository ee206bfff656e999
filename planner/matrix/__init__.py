"""Compatibility claims as data with provenance."""
