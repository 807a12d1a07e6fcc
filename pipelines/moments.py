"""The moment that lists are made for: named by somebody, or just after the last day with events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipelines.prepared import Prepared
from recsys.dataset import DAY
from recsys.errors import ConfigError

MOST_DAYS_AHEAD = 31  # of a release after the last event: a mistyped year would stay the newest


def read_moment(as_of: str | None, prepared: Prepared, now: str) -> tuple[int, str]:
    """Return the moment and its ISO text; ordered data knows one moment only: after everything.

    Raises:
        ConfigError: not a moment, one before the first event or long after the last.
    """
    windows = prepared.windows
    if not windows.dated:
        if as_of is not None:
            raise ConfigError(
                f"--as-of {as_of}: this data has an order only, no dates; leave --as-of out"
            )
        return windows.test_end, now
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    if as_of is None:
        moment = windows.test_end
        return moment, (epoch + timedelta(microseconds=moment)).isoformat()
    try:
        when = datetime.fromisoformat(as_of)
    except ValueError as error:
        raise ConfigError(
            f"--as-of {as_of}: not a moment; write it like 2017-12-24 or 2017-12-24T03:00:00"
        ) from error
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    moment = (when - epoch) // timedelta(microseconds=1)
    if moment > windows.test_end + MOST_DAYS_AHEAD * DAY:
        end = epoch + timedelta(microseconds=windows.test_end)
        raise ConfigError(
            f"--as-of {as_of}: the data ends before {end.isoformat()}, over {MOST_DAYS_AHEAD} days "
            "earlier; bring newer events or name an earlier moment"
        )
    if moment <= prepared.manifest.first_moment:
        first = epoch + timedelta(microseconds=prepared.manifest.first_moment)
        raise ConfigError(
            f"--as-of {as_of}: the data begins at {first.isoformat()}, so nothing is known before "
            "then; name a later moment"
        )
    return moment, when.isoformat()
