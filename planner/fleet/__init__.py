"""What we believe about nodes: states built from facts, and how packages carry components."""
