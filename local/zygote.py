"""Forks Lambda's workers from one process that has imported their libraries already. Run by its path, with no site.

A worker of its own takes a second and 41 MB; a fork takes some milliseconds and shares what it does not change. It sees
the deployed layer and the standard library and nothing else, so what the layer lacks is found out here and not in AWS.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback

MESSAGE_BYTES = 1 << 20
PR_SET_PDEATHSIG = 1
# What takes long to import. A layer that lacks one of them is no worse for it.
PRELOADED = (
    *("botocore.session", "botocore.client", "botocore.signers", "pynamodb.models", "pynamodb.connection"),
    *("aws_lambda_powertools", "http.client", "logging.config", "concurrent.futures", "xml.etree.cElementTree"),
)


def main() -> None:
    """Serve the socket whose number is the first argument until it is closed; the others are the layers' folders."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    for layer in sys.argv[2:]:
        sys.path[:0] = [layer, os.path.join(layer, "python")]
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    libc = ctypes.CDLL(None)
    # What is there now is never collected, and so never written to and never copied for a fork.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, MESSAGE_BYTES, 3)
        if not message:
            return
        pid = os.fork()
        if not pid:
            asked.close()
            _become(libc, json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        asked.send(str(pid).encode())


def _become(libc: ctypes.CDLL, told: dict[str, object], descriptors: list[int]) -> None:
    """Be the worker: its environment, its folder, its three streams, and then its program; never returns."""
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(told["environment"])  # type: ignore[call-overload]
        os.chdir(str(told["folder"]))
        script = str(told["script"])
        with open(script) as program:
            exec(compile(program.read(), script, "exec"), {"__name__": "__main__"})  # noqa: S102
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
