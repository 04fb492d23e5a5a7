"""The toolbox: what a client does inside a sandbox. The edge carries every call to the sandbox's agent.

The older SDKs call it at `/toolbox/{sandbox}/toolbox/...`, the newer at `/toolbox/{sandbox}/...`: two paths for each row.
"""

from dataclasses import replace

from chalicelib.dialects.daytona.toolbox import files, git, machine, processes, sessions

PREFIXES = ("/toolbox/{sandbox}/toolbox", "/toolbox/{sandbox}")

ROWS = (*machine.ROWS, *processes.ROWS, *sessions.ROWS, *files.ROWS, *git.ROWS)

ROUTES = tuple(replace(row, path=prefix + row.path, needs="write:sandboxes") for prefix in PREFIXES for row in ROWS)
