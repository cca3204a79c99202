"""How a sweep can end other than finished."""


class SweepFailed(RuntimeError):
    """The sweep could not go on; the message says why and what is kept."""


class SweepStopped(Exception):
    """The sweep was asked to stop, and has; it can be resumed. The message says how."""


class SweepPaused(RuntimeError):
    """The disk, or the study's server, took no more; the sweep can be resumed once it does. The message says how."""


class SlotDied(RuntimeError):
    """A slot cannot be kept up, or the queue is gone; the message says which and why."""


class RayFailed(SlotDied):
    """Ray did not start; the message says why and what to do about it."""


class Suspended(Exception):
    """The slots were asked to pause, and have. The message says why, if nobody but the sweep itself asked."""
