"""Tests of planner.explain."""
