"""What sandboxes may not reach: this machine itself, and the addresses where clouds hand out a machine's credentials.

Rules of the kernel's packet filter on the sandboxes' own bridge, so nothing inside a sandbox can lift them. Without the right
to set them (an engine run by an ordinary user) nothing is set, and `close` says so.
"""

import shutil
import subprocess

METADATA = "169.254.0.0/16"  # link-local (RFC 3927): EC2's and ECS's metadata at .169.254 and .170.2 among them


def close(interface: str) -> bool:
    """Refuse both to whatever comes in by this interface; whether that holds now. Again is harmless."""
    return all([_run("-C", rule) or _run("-I", rule) for rule in _rules(interface)])


def lift(interface: str) -> None:
    """Take the rules away with their interface."""
    for rule in _rules(interface):
        while _run("-D", rule):
            pass


def _rules(interface: str) -> list[list[str]]:
    new = ["-m", "conntrack", "--ctstate", "NEW"]
    return [
        # Answers to what this machine asked of its sandboxes come in, too; only what they begin is refused.
        ["INPUT", "-i", interface, *new, "-j", "REJECT"],
        ["FORWARD", "-i", interface, "-d", METADATA, "-j", "REJECT"],
    ]


def _run(verb: str, rule: list[str]) -> bool:
    if not shutil.which("iptables"):
        return False
    return not subprocess.run(["iptables", "-w", "5", verb, *rule], capture_output=True).returncode
