"""What can go wrong, said once: where, what was got, what is needed, what to try.

Every error that a person can cause is an :class:`SlthError`. The command line prints its one line and exits with
status 2; in Python it is an ordinary exception (and a ``ValueError``, so that code which knows nothing of ``slth``
still catches it).
"""

from __future__ import annotations


class SlthError(ValueError):
    """Base class of every error that names its remedy.

    Parameters
    ----------
    where : str
        The file, layer, argument or index at fault.
    got : str
        What was found there.
    need : str
        What is needed instead.
    remedy : str, optional
        What to try.
    """

    def __init__(self, where: str, got: str, need: str, remedy: str = "") -> None:
        self.where, self.got, self.need, self.remedy = where, got, need, remedy
        line = f"{where}: got {got}; need {need}"
        super().__init__(f"{line}; try {remedy}" if remedy else line)


class ArgumentError(SlthError):
    """An argument outside its range or at odds with another."""


class TargetError(SlthError):
    """A target network that cannot be read or holds values that no ticket can realise."""


class UnsupportedError(TargetError):
    """A layer or operation of the target that no construction here covers yet."""


class TicketError(SlthError):
    """A ticket file that is missing, truncated, altered or not a ticket."""


class CertificateError(SlthError):
    """A certificate file that is missing, damaged or says what no certificate says."""


class MismatchError(SlthError):
    """Two inputs that are each sound but do not belong together."""


class DataError(SlthError):
    """A data set that cannot be read or does not fit the network."""


class CheckpointError(SlthError):
    """A checkpoint that is truncated, altered or none."""


class TrainingError(SlthError):
    """Training that diverged."""


class InformationLostError(SlthError):
    """What is to be recovered cannot be told from what is given."""


class OutputError(SlthError):
    """A place where a result cannot be written."""


class ExportError(SlthError):
    """An exported network that does not compute what it should, or cannot be made or read."""


class StoppedError(Exception):
    """Work that Ctrl-C ended, and how to go on with it."""
