"""The second opinion: replays a plan from raw matrices, sharing no code with search or check."""
