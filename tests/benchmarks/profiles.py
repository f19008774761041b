"""Where the time of one route goes: the whole server in this process, under cProfile, asked from another."""

import asyncio
import cProfile
import os
import pstats
import subprocess
import sys
from pathlib import Path

from nextarget.telemetry import configure_logging
from tests.benchmarks.servers import ROOT
from tests.running import Server, running

ROUTES = {"me": "/users/me", "start": "/auth/google/start", "refresh": "/auth/token", "redeem": "/auth/token"}
LINES = 25


def profile(name: str, directory: Path, requests: int) -> None:
    """Print the functions of one route that cost most, by their own time and by that of all they call.

    What the database's writer does, on its own thread, is not among them.
    """
    import uvloop

    uvloop.run(_profile(name, directory, requests))


async def _profile(name: str, directory: Path, requests: int) -> None:
    with open(os.devnull, "w") as sink:  # noqa: PTH123
        standard_error, sys.stderr = sys.stderr, sink
        configure_logging(level="info", console=False)
        try:
            async with running(directory) as server:
                await _ask(server, name, directory, requests // 4)
                profiler = cProfile.Profile()
                profiler.enable()
                await _ask(server, name, directory, requests)
                profiler.disable()
        finally:
            sys.stderr = standard_error
    stats = pstats.Stats(profiler)
    stats.sort_stats("tottime").print_stats(LINES)
    stats.sort_stats("cumtime").print_stats(LINES)


async def _ask(server: Server, name: str, directory: Path, requests: int) -> None:
    port = server.url.rpartition(":")[2]
    if name in {"refresh", "redeem"}:
        command = ["-m", "tests.benchmarks.tokens", name, str(directory), port, str(requests)]
    else:
        token = (await server.sign_in()).json["access_token"]
        code = (
            "import sys; from tests.benchmarks.load import ask; "
            "port, path, count, token = sys.argv[1:]; "
            "ask(int(port), path, int(count), headers={'Authorization': f'Bearer {token}'})"
        )
        command = ["-c", code, port, ROUTES[name], str(requests), token]
    client = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdin=subprocess.DEVNULL)
    if await client.wait():
        raise SystemExit("The client failed.")
