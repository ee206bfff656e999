"""Journal, locks, decisions and the engine that applies a bundle."""
