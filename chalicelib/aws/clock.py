"""The time, as the machine tells it."""

import time
from datetime import UTC, datetime


class SystemClock:
    """`Clock`, kept by the operating system."""

    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
