"""Tests of machines as people describe them."""
