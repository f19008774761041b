"""The metrics, in the order in which they are registered."""

from typing import Any

from prometheus_client import REGISTRY

import nextarget.telemetry.metrics  # noqa: F401  # registers them
from tests.reference.markdown import code, plain, table

_PREFIX = "nextarget_"


def blocks() -> dict[str, str]:
    # The registry's own list has no label names for a metric that has counted nothing yet.
    collectors: list[Any] = list(REGISTRY._collector_to_names)
    rows = [_row(collector) for collector in collectors if getattr(collector, "_name", "").startswith(_PREFIX)]
    return {"metrics": table(["series", "type", "labels", "what it is"], rows)}


def _row(collector: Any) -> tuple[str, str, str, str]:
    (family,) = collector.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return code(name), family.type, ", ".join(map(code, collector._labelnames)), plain(family.documentation)
