"""Tests of planner.check."""
