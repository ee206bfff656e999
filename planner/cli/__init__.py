"""Thin: parse, call a verb, print."""
