"""Tests of the bundle: its text, its files on disk, its modules and its playbooks."""
