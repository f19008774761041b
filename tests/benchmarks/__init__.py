"""Measures the CPU time of a request in comparison with a bare aiohttp route: `python -m tests.benchmarks`."""
