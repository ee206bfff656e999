"""Machines as people describe them: a stack file in, states that rules judge out."""
