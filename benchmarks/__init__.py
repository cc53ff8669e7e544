"""Our promises about speed and memory, measured: `python -m benchmarks` prints them, docs/benchmarks.md explains."""
