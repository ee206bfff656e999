"""Judgement of one stack, one fleet, one target."""
