"""How the tests start commands that they interrupt."""

import signal


def default_signals() -> None:
    """For preexec_fn: a test run in the background, or under nohup, hands ignored signals on."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_DFL)
