"""Text for people and machines: tables, progress, JSON lines."""
