"""The example fleets, planned."""
