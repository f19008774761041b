"""Shows where one work spends its time: the whole server in this process under cProfile, with clients in another."""

import asyncio
import cProfile
import os
import pstats
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from nextarget.runtime import Runtime
from nextarget.telemetry import configure_logging
from nextarget.web.app import create_app
from nextarget.web.server.accepting import Site
from nextarget.web.server.runner import GuardedRunner, listen
from tests.benchmarks.clients import Clients, run
from tests.benchmarks.provider import StandIn, provider
from tests.benchmarks.servers import free_port, production_settings, production_values

LINES = 25


def profile(work: str, directory: Path, count: int) -> None:
    """Print the most expensive functions, by their own time and by their total time.

    The database's writer works on another thread, which is not profiled.
    """
    import uvloop

    with provider() as stand_in, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        uvloop.run(_profile(work, directory, count, stand_in, pool))


async def _profile(work: str, directory: Path, count: int, stand_in: StandIn, pool: ProcessPoolExecutor) -> None:
    port = free_port()
    values = production_values(directory, port, provider_url=stand_in.url)
    ask = partial(asyncio.get_running_loop().run_in_executor, pool, _ask, work)
    place = port, values["DATABASE_URL"], stand_in, count
    with open(os.devnull, "w") as sink:  # noqa: PTH123
        standard_error, sys.stderr = sys.stderr, sink
        configure_logging(level="info", console=False)
        runner = GuardedRunner(create_app(Runtime(production_settings(directory, values))))
        await runner.setup()
        try:
            await Site(runner, listen("127.0.0.1", port)).start()
            await ask(*place)
            profiler = cProfile.Profile()
            profiler.enable()
            await ask(*place)
            profiler.disable()
        finally:
            await runner.cleanup()
            sys.stderr = standard_error
    stats = pstats.Stats(profiler)
    stats.sort_stats("tottime").print_stats(LINES)
    stats.sort_stats("cumtime").print_stats(LINES)


def _ask(work: str, port: int, database_url: str, stand_in: StandIn, count: int) -> None:
    run(_clients(port, database_url, stand_in, count).works[work](count), port)


@cache
def _clients(port: int, database_url: str, stand_in: StandIn, count: int) -> Clients:
    return Clients(port, database_url, stand_in, count)
