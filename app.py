"""Everything that AWS calls: HTTP, the workflows' tasks, the schedule, events. What is done about it is in chalicelib."""

from typing import Any

from chalice.app import Chalice, CloudWatchEvent, Rate

from chalicelib import agent_api, events, gateway, journal, tasks
from chalicelib.core import sweep
from chalicelib.wiring import world

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]

app = Chalice(app_name=journal.SERVICE, configure_logs=False)  # the journal has a logger of this name
app.api.binary_types = []  # all that is answered here is text; bytes go through the edge
app.register_middleware(journal.keep, "all")


@app.route("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.route("/agent/{path+}", methods=["POST"], content_types=["*/*"])
def agent() -> Any:
    return gateway.chalice_answer(app.current_request, world(), agent_api.answer)


def dialect() -> Any:
    return gateway.chalice_answer(app.current_request, world())


for _name in gateway.DIALECTS:
    app.route(f"/{_name}/{{path+}}", methods=METHODS, content_types=["*/*"], name=_name)(dialect)


@app.lambda_function(name="workflow")
def workflow(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return tasks.perform(world(), event)


@app.schedule(Rate(1, unit=Rate.MINUTES), name="sweep")
def sweep_due(event: CloudWatchEvent) -> None:
    sweep.sweep(world())


@app.on_cw_event(events.TASK_STOPPED, name="task_stopped")
def task_stopped(event: CloudWatchEvent) -> None:
    events.task_stopped(world(), event.detail)
