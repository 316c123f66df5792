"""Every error a user can meet; each message says what was received, what was expected, what to do.

VcedgeError
  SourceError       a video or folder of frames that cannot be read
    StreamLostError a live stream that broke off and did not come back; exit code 3
  ManifestError     a list of videos that cannot be read
  MaskError         a mask that is missing, empty, of another size, or not a mask
  OutputError       a folder or file that cannot be written
  BundleError       a bundle that is damaged, unknown or of another format
  EngineError       a graph that its engine cannot run
  MissingExtraError a part that is not installed; the message names the pip install
  ClusterError      a cluster that is not there, or that has too little
  TrackerError      a tracker called in the wrong order or with the wrong objects
  EvaluationError   predictions or ground truth that cannot be scored
  TrainingError     training that cannot start or resume
  ExportError       a model that cannot be exported, or whose export is not the model
"""

from vcedge_runtime.telling import hide_secrets, make_printable


class VcedgeError(Exception):
    """Anything a user can mend; the command line prints it in one line and exits with 2.

    Whatever a message repeats, no password is in it, and nothing that moves a terminal.

    Attributes:
        exit_code: of the command line.
    """

    exit_code = 2

    def __init__(self, *told: object) -> None:
        super().__init__(
            *(make_printable(hide_secrets(t)) if isinstance(t, str) else t for t in told)
        )


class SourceError(VcedgeError):
    """A video or folder of frames that cannot be read."""


class StreamLostError(SourceError):
    """A live stream that broke off and did not come back; the command line exits with 3."""

    exit_code = 3


class ManifestError(VcedgeError):
    """A list of videos that cannot be read."""


class MaskError(VcedgeError):
    """A mask that is missing, empty, of another size, or not a mask."""


class OutputError(VcedgeError):
    """A folder or file that cannot be written."""


class BundleError(VcedgeError):
    """A bundle that is damaged, unknown or of another format."""


class EngineError(VcedgeError):
    """A graph that its engine cannot run."""


class MissingExtraError(VcedgeError):
    """A part that is not installed; the message names the ``pip install``."""


class ClusterError(VcedgeError):
    """A cluster that is not there, or that has too little."""


class TrackerError(VcedgeError):
    """A tracker called in the wrong order or with the wrong objects."""


class EvaluationError(VcedgeError):
    """Predictions or ground truth that cannot be scored."""


class TrainingError(VcedgeError):
    """Training that cannot start or resume."""


class ExportError(VcedgeError):
    """A model that cannot be exported, or whose export is not the model."""
