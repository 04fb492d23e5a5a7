"""The program inside each sandbox: commands, sessions, files, git, terminals, ports and checkpoints over HTTP."""

VERSION = "1.0.0"
