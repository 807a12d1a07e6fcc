"""Every error the reading side of serving raises on purpose, in words an operator can act on.

* ServingError
  + UnfinishedReleaseError  a release folder has no manifest yet: it was never sealed
  + DamagedReleaseError     a release does not hold what its manifest or its format says
  + NoReleaseError          the store has no release to read or to go back to
  + StoreBusyError          another publisher is at work in the same store
  + StoreUnreachableError   the store is a server, and it does not answer
  + GateError               a release did not pass the gates before a publish
"""


class ServingError(Exception):
    """Base of all errors raised on purpose by the reading side."""

    exit_code = 2  # of a command that it ends


class UnfinishedReleaseError(ServingError):
    """A release folder has no manifest yet: it was never sealed."""


class DamagedReleaseError(ServingError, ValueError):
    """A release does not hold what its manifest or its format says."""


class NoReleaseError(ServingError, LookupError):
    """The store has no release to read or to go back to."""


class StoreBusyError(ServingError):
    """Another publisher is at work in the same store."""


class StoreUnreachableError(ServingError):
    """The store is a server, and it does not answer; the next call tries again."""


class GateError(ServingError):
    """A release did not pass the gates before a publish; readers keep what they have."""

    exit_code = 3
