"""What each node said, verbatim, with its source."""
