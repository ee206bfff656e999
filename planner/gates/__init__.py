"""What a node must prove before the next one starts."""
