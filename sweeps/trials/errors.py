"""How a sweep can end without finishing."""


class SweepFailed(RuntimeError):
    """The sweep could not go on; the message says why and what is kept."""


class SweepStopped(Exception):
    """The sweep was asked to stop, and has; it can be resumed. The message says how."""


class SweepPaused(RuntimeError):
    """The disk, or the study's server, refused a write; the sweep can be resumed. The message says how."""


class SlotDied(RuntimeError):
    """A slot has lost its workers too often, or the queue is gone; the message says which and why."""


class RayFailed(SlotDied):
    """Ray did not start; the message says why and what to do about it."""


class Suspended(Exception):
    """The slots were asked to pause, and have. The message says why, if the sweep itself asked."""
