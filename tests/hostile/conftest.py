"""Gives every test here a desk."""

from hostile_desk import desk

__all__ = ["desk"]
