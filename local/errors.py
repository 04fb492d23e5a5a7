"""What goes wrong on the one machine that people can set right."""


class SetupError(Exception):
    """This machine lacks something. The text is one line: what it is, and what to do."""
