"""Measurements of clep beside a baseline in the style of the published tutorial.

`python -m benchmarks.<name> [key=value …]` measures one thing and writes `benchmarks/results/<name>.json`; `python -m
benchmarks.run_all` measures everything. Every ratio comes from one run in which the two sides take turns.
"""
