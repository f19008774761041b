"""What a request costs, as CPU time of the server against a bare aiohttp route. `python -m tests.benchmarks`."""
