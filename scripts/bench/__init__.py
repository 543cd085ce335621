"""Benchmarks: each file times our way of doing a thing against the ordinary one; `harness` says how."""
