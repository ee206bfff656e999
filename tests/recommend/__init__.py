"""Tests of planner.recommend."""
