"""The table of everything that the agent answers."""

from agent import (
    code,
    content,
    files,
    git_calls,
    machine_calls,
    ports,
    processes,
    proxy,
    searching,
    session_calls,
    terminal_calls,
)
from agent.machine import Machine
from agent.web import Reply, Request, Route, Socket


async def save_checkpoint(machine: Machine, request: Request) -> Reply:
    from agent.checkpoint import saving  # rarely needed, and zstandard is not small

    return await saving.save(machine, request)


async def show_checkpoint(machine: Machine, request: Request) -> Reply:
    from agent.checkpoint import saving

    return await saving.show(machine, request)


ROUTES: list[Route] = [
    Route("GET", "/health", machine_calls.health, open=True),
    Route("GET", "/info", machine_calls.show),
    Route("GET", "/env", machine_calls.environment),
    Route("PATCH", "/env", machine_calls.change_environment),
    Route("POST", "/claim", machine_calls.claim),
    Route("POST", "/exec", processes.execute),
    Route("POST", "/code", code.execute),
    Route("POST", "/sessions", session_calls.create),
    Route("GET", "/sessions", session_calls.index),
    Route("GET", "/sessions/{id}", session_calls.show),
    Route("DELETE", "/sessions/{id}", session_calls.delete),
    Route("POST", "/sessions/{id}/commands", session_calls.run),
    Route("GET", "/sessions/{id}/commands/{command}", session_calls.command),
    Route("GET", "/sessions/{id}/commands/{command}/output", session_calls.output),
    Route("POST", "/sessions/{id}/commands/{command}/input", session_calls.feed),
    Route("POST", "/sessions/{id}/commands/{command}/kill", session_calls.kill),
    Route("GET", "/files", files.index),
    Route("DELETE", "/files", files.delete),
    Route("GET", "/files/info", files.show),
    Route("GET", "/files/content", content.download),
    Route("HEAD", "/files/content", content.download),
    Route("PUT", "/files/content", content.put),
    Route("POST", "/files/upload", content.upload),
    Route("POST", "/files/download", content.download_many),
    Route("POST", "/files/folder", files.make_folder),
    Route("GET", "/files/find", searching.find),
    Route("GET", "/files/search", searching.search),
    Route("POST", "/files/replace", searching.replace),
    Route("POST", "/files/move", files.move),
    Route("POST", "/files/permissions", files.set_permissions),
    Route("POST", "/git/clone", git_calls.clone),
    Route("POST", "/git/init", git_calls.init),
    Route("POST", "/git/add", git_calls.add),
    Route("POST", "/git/commit", git_calls.commit),
    Route("POST", "/git/push", git_calls.push),
    Route("POST", "/git/pull", git_calls.pull),
    Route("POST", "/git/checkout", git_calls.checkout),
    Route("GET", "/git/status", git_calls.status),
    Route("GET", "/git/branches", git_calls.branches),
    Route("POST", "/git/branches", git_calls.make_branch),
    Route("DELETE", "/git/branches", git_calls.delete_branch),
    Route("GET", "/git/history", git_calls.history),
    Route("POST", "/git/reset", git_calls.reset),
    Route("POST", "/git/restore", git_calls.restore),
    Route("GET", "/git/remotes", git_calls.remotes),
    Route("POST", "/git/remotes", git_calls.make_remote),
    Route("DELETE", "/git/remotes", git_calls.delete_remote),
    Route("GET", "/git/config", git_calls.get_config),
    Route("POST", "/git/config", git_calls.set_config),
    Route("POST", "/git/credentials", git_calls.store_credentials),
    Route("POST", "/terminals", terminal_calls.create),
    Route("GET", "/terminals", terminal_calls.index),
    Route("GET", "/terminals/{id}", terminal_calls.show),
    Route("DELETE", "/terminals/{id}", terminal_calls.delete),
    Route("POST", "/terminals/{id}/resize", terminal_calls.resize),
    Route("POST", "/terminals/{id}/signal", terminal_calls.signal),
    Route("GET", "/ports", ports.index),
    Route("*", "/proxy/{port}/*", proxy.proxy),
    Route("POST", "/checkpoints", save_checkpoint),
    Route("GET", "/checkpoints/{id}", show_checkpoint),
]
SOCKETS: list[Socket] = [
    Socket("/sessions/{id}/commands/{command}/follow", session_calls.follow),
    Socket("/terminals/{id}/attach", terminal_calls.attach),
    Socket("/ports/{port}", ports.carry),
]
