"""Configs: composed, checked against signatures, and built into objects."""
