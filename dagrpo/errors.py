"""The two ways a job may end early on purpose; everything else is a bug and keeps its traceback."""

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: nothing is lost, run the same command again
DELIBERATE_EXITS = (EXIT_USER_ERROR, EXIT_INTERRUPTED)


class UserError(Exception):
    """Bad input. The message is one or two sentences: what is wrong, and what to do."""


class Unsound(UserError):
    """A run has gone wrong, and its state may have too: it ends, and the newest sealed state stays the newest."""


class Interrupted(Exception):
    """SIGTERM or Ctrl-C was received; the state on disk is sealed and the job can be resumed."""
