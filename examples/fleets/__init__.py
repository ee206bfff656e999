"""Invented nodes of the example fleets: what ``planner discover`` would have said of them."""
