"""The log and the metrics: one line and one count for everything that AWS calls."""

import logging
import time
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

SERVICE = "sandbar"

log = Logger(service=SERVICE, name=SERVICE)
metrics = Metrics(namespace="Sandbar", service=SERVICE)
logging.getLogger("aws_lambda_powertools").setLevel(logging.WARNING)


def keep(event: Any, get_response: Callable[[Any], Any]) -> Any:
    """Chalice's middleware for every kind of event. What goes wrong unexpectedly is logged and goes on."""
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
        took = (time.monotonic() - began) * 1000
        log.info("answered", extra={"outcome": outcome, "took_ms": round(took, 1)})
        metrics.add_dimension(name="kind", value=type(event).__name__)
        metrics.add_metric(name="failed" if outcome[:1] in "5f" else "answered", unit=MetricUnit.Count, value=1)
        metrics.add_metric(name="took", unit=MetricUnit.Milliseconds, value=took)
        print(metrics.serialize_metric_set())
        metrics.clear_metrics()
        log.clear_state()


def _fields(event: Any) -> dict[str, Any]:
    """What identifies the event in every line of its log."""
    if hasattr(event, "method"):
        original = event.to_original_event()
        return {"request": event.context.get("requestId"), "method": event.method, "path": original.get("path")}
    said = event.to_dict()
    return {"kind": type(event).__name__} | {
        name: said[name] for name in ("task", "owner", "id", "movement") if isinstance(said.get(name), str)
    }
