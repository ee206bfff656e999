"""The search itself: variables, moves and constraints in, a cheapest path or a proof out. Knows nothing of machines."""
