"""The log and the metrics: a line and a count for everything that AWS calls."""

import time
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

SERVICE = "sandbar"
TOLD = ("task", "owner", "id", "movement")  # what of a workflow's event is logged: never its tokens

log = Logger(service=SERVICE, name=SERVICE)
metrics = Metrics(namespace="Sandbar", service=SERVICE)


def keep(event: Any, get_response: Callable[[Any], Any]) -> Any:
    """Chalice's middleware for every kind of event. What goes wrong unexpectedly is logged, and goes on."""
    began, outcome = time.monotonic(), "failed"
    log.append_keys(**_fields(event))
    try:
        response = get_response(event)
        outcome = str(getattr(response, "status_code", "done"))
        return response
    except Exception:
        log.exception("failed")
        raise
    finally:
        _close(event, outcome, (time.monotonic() - began) * 1000)


def _fields(event: Any) -> dict[str, Any]:
    """What identifies the event in every line of its log."""
    if hasattr(event, "method"):
        path = event.to_original_event().get("path")
        return {"request": event.context.get("requestId"), "method": event.method, "path": path}
    said = event.to_dict()
    return {"kind": type(event).__name__} | {name: said[name] for name in TOLD if isinstance(said.get(name), str)}


def _close(event: Any, outcome: str, took_ms: float) -> None:
    context = getattr(event, "context", None)
    notes = context.get("notes", {}) if isinstance(context, dict) else {}
    log.info("answered", extra={**notes, "outcome": outcome, "took_ms": round(took_ms, 1)})
    metrics.add_dimension(name="kind", value=type(event).__name__)
    metrics.add_metric(name="failed" if outcome[0] in "5f" else "answered", unit=MetricUnit.Count, value=1)
    metrics.add_metric(name="took", unit=MetricUnit.Milliseconds, value=took_ms)
    metrics.flush_metrics()
    log.clear_state()
