"""Shows where one route spends its time: the whole server in this process under cProfile, with clients in another."""

import asyncio
import cProfile
import os
import pstats
import sys
from pathlib import Path

from nextarget.runtime import Runtime
from nextarget.telemetry import configure_logging
from nextarget.web.app import create_app
from nextarget.web.server.accepting import Site
from nextarget.web.server.runner import GuardedRunner, listen
from tests.benchmarks.servers import ROOT, free_port, production_settings, production_values

WORKS = ("me", "start", "refresh", "redeem")
LINES = 25


def profile(work: str, directory: Path, requests: int) -> None:
    """Print the most expensive functions, by their own time and by their total time.

    The database's writer works on another thread, which is not profiled.
    """
    import uvloop

    uvloop.run(_profile(work, directory, requests))


async def _profile(work: str, directory: Path, requests: int) -> None:
    port = free_port()
    settings = production_settings(directory, production_values(directory, port))
    with open(os.devnull, "w") as sink:  # noqa: PTH123
        standard_error, sys.stderr = sys.stderr, sink
        configure_logging(level="info", console=False)
        runner = GuardedRunner(create_app(Runtime(settings)))
        await runner.setup()
        try:
            await Site(runner, listen("127.0.0.1", port)).start()
            await _ask(work, requests // 4, directory, port)
            profiler = cProfile.Profile()
            profiler.enable()
            await _ask(work, requests, directory, port)
            profiler.disable()
        finally:
            await runner.cleanup()
            sys.stderr = standard_error
    stats = pstats.Stats(profiler)
    stats.sort_stats("tottime").print_stats(LINES)
    stats.sort_stats("cumtime").print_stats(LINES)


async def _ask(work: str, requests: int, directory: Path, port: int) -> None:
    command = ["-m", "tests.benchmarks.clients", work, str(requests), str(directory), str(port)]
    client = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL)
    if await client.wait():
        raise SystemExit("The client failed.")
