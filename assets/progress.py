"""Telling how far long work has come, in the log that the terminal and the Dagster UI both show."""

import time
from datetime import timedelta

from assets.step import log

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts items done and logs a line every few seconds: count, rate and, where the total is known, time left."""

    def __init__(self, what: str, total: int | None = None):
        self.what = what
        self.total = total
        self.done = 0
        self._started = self._logged = time.monotonic()

    def advance(self, items: int) -> None:
        """Count `items` more as done."""
        self.done += items
        now = time.monotonic()
        if now - self._logged < SECONDS_BETWEEN_LINES:
            return
        self._logged = now
        rate = self.done / (now - self._started)
        if self.total is None:
            log.info("  %s: %d, %.1f/s", self.what, self.done, rate)
        else:
            left = timedelta(seconds=round((self.total - self.done) / rate))
            log.info("  %s: %d of %d, %.1f/s, %s left", self.what, self.done, self.total, rate, left)
