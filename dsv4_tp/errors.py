"""The errors a user can meet, and the exit code each one ends with.

    Dsv4Error              1  failed
    |- InputError          2  refused input or preflight
    |  |- ConfigError         cluster.yaml or a command line value
    |  |- ModelError          config.json
    |  |- CheckpointError     safetensors files
    |  |- PlanError           the model does not fit the ranks asked for
    |  |- RequestError        a prompt or a sampling setting
    |  |  `- ContextError     the prompt is longer than the context
    |  `- PreflightError      a host, a port, a version
    |- BusyError           4  too many requests wait
    |- NotReadyError       4  the ranks are not there yet, or not there again
    |- NumericsError       1  the model's numbers were none
    |- OutrankedError      1  another coordinator has taken the cluster over
    |- RankFailure         5  a rank or its host was lost
    |  |- HarmfulRequestError it is lost each time it is fed this request
    |  `- QuarantineError  7  and the host is of no use before it is rebooted
    `- DeadlineError       6  something did not happen in time

A message names the file or host, the key, the value and the next step.
Assertions are for our own mistakes only; they are not part of this tree.
"""


class Dsv4Error(Exception):
    """Something the user is told in one line."""

    exit_code = 1


class InputError(Dsv4Error):
    """What was asked for is refused; nothing was started or all of it was stopped."""

    exit_code = 2


class ConfigError(InputError):
    """cluster.yaml or a command line value is wrong."""


class ModelError(InputError):
    """config.json does not describe a DeepSeek-V4 model."""


class CheckpointError(InputError):
    """The safetensors files are missing, damaged or not the model's."""


class PlanError(InputError):
    """The model cannot be split as asked."""


class RequestError(InputError):
    """A prompt or a sampling setting cannot be served."""


class ContextError(RequestError):
    """The prompt leaves no room for an answer in the context."""


class PreflightError(InputError):
    """A host is not ready: unreachable, a port in use, another version."""


class BusyError(Dsv4Error):
    """As many requests wait as may; a later one may find a place."""

    exit_code = 4


class NotReadyError(Dsv4Error):
    """No request is taken while the ranks start, or end; a later one may be."""

    exit_code = 4


class NumericsError(Dsv4Error):
    """The model yielded no numbers for a request; others are not touched."""


class OutrankedError(Dsv4Error):
    """Agents obey a later coordinator; what they run is none of ours any more."""


class RankFailure(Dsv4Error):
    """A rank, or the host it ran on, was lost; its epoch is over."""

    exit_code = 5


class QuarantineError(RankFailure):
    """A host cannot run ranks before it is rebooted: one could not be ended, or kept its memory."""

    exit_code = 7


class HarmfulRequestError(RankFailure):
    """The ranks failed each time they were fed this request, which they are not fed again."""


class DeadlineError(Dsv4Error):
    """A wait ended by its deadline."""

    exit_code = 6
