"""Runs the server, in one process or with workers. It is apart from `serving`, because it needs no Typer."""

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextarget.cli import wiring
from nextarget.cli.output import say
from nextarget.errors import ConfigurationError, NexTargetError, OperatorError, SettingProblem

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from nextarget.settings import Settings


def serve(options: Mapping[str, str], *, sandbox: bool) -> None:
    """Serve until a signal ends the server. `options` are settings that come before all others.

    Raises NexTargetError if the server cannot start; SystemExit if the log is JSON, and then the log says why.
    """
    gc.disable()  # until `freeze`: at the start, nearly everything that is made stays
    if sandbox and int(options.get("WORKERS", "1")) > 1:
        problem = f"is {options['WORKERS']}; the sandbox has one worker, in whose memory its codes and tokens live."
        raise ConfigurationError([SettingProblem("WORKERS", problem, "Leave out --workers, or --sandbox.")])
    values = wiring.find_values(sandbox=sandbox, options=options)
    settings = wiring.checked_settings(values)
    with wiring.shared_metrics(settings.workers):
        _serve(settings, values.warnings, options, sandbox=sandbox)


def _serve(settings: "Settings", warnings: "list[str]", options: "Mapping[str, str]", *, sandbox: bool) -> None:
    from nextarget import telemetry

    console = wiring.logs_to_console(settings)
    telemetry.configure_logging(level=settings.log_level, console=console, colors=wiring.in_colors())
    try:
        for warning in warnings:
            telemetry.get_logger().warning("settings_warning", detail=warning)
        if settings.workers > 1:
            _run_workers(settings, options, console=console)
        else:
            _run(settings, sandbox=sandbox, console=console)
    except NexTargetError as error:
        if console:
            raise
        note = {"note": error.note} if error.note else {}
        telemetry.get_logger().error("cannot_serve", detail=error.for_operator, **note)
        raise SystemExit(error.exit_status if isinstance(error, OperatorError) else 1) from None


def _run(settings: "Settings", *, sandbox: bool, console: bool) -> None:
    import asyncio

    from nextarget.runtime import Runtime
    from nextarget.web.app import create_app
    from nextarget.web.server.runner import serve as serve_app

    stand_ins = None
    if sandbox:
        from nextarget.sandbox.workspace import sandbox_config

        stand_ins = sandbox_config(Path.cwd(), settings.host, settings.port)
    app = create_app(Runtime(settings), stand_ins)

    def announce(url: str) -> None:
        if sandbox:
            wiring.remember_address(settings.host, settings.port)
        (_announce_to_person if console else _announce_to_log)(settings, url, sandbox=sandbox)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(
            serve_app(app, settings.host, settings.port, drain_seconds=settings.drain_seconds, announce=announce)
        )


def _run_workers(settings: "Settings", options: "Mapping[str, str]", *, console: bool) -> None:
    from nextarget.checking import checked
    from nextarget.web.server.arbiter import serve as serve_with_workers

    def load() -> "Settings":
        return checked(wiring.find_values(sandbox=False, options=options))

    def announce(url: str) -> None:
        (_announce_to_person if console else _announce_to_log)(settings, url, sandbox=False)

    serve_with_workers(settings, load=load, announce=announce)


def _loop_factory() -> "Callable[[], AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not available on this platform: use asyncio's own loop
        return None
    return uvloop.new_event_loop


def _announce_to_person(settings: "Settings", url: str, *, sandbox: bool) -> None:
    if sandbox:
        say(f"Sandbox ready. Open {settings.public_url}/ and sign in as anybody.")
        say(f"The API, to read and to try out: {settings.public_url}/docs")
    else:
        say(f"Listening on {url}, reached as {settings.public_url} (PUBLIC_URL).")
        say(f"The API, to read and to try out: {settings.public_url}/docs")
    say("Stop with Ctrl-C.")


def _announce_to_log(settings: "Settings", url: str, *, sandbox: bool) -> None:
    from nextarget import telemetry

    log: Any = telemetry.get_logger()
    log.info(
        "listening",
        url=url,
        public_url=settings.public_url,
        workers=settings.workers,
        providers=list(settings.providers),
        sandbox=sandbox,
    )
