"""Every exception of the library; each is also the built-in that a caller would expect."""


class LatentBridgeError(Exception):
    """Base class: `except LatentBridgeError` catches whatever this library refuses."""


class InvalidLatentsError(LatentBridgeError, ValueError):
    """Latents with a wrong shape, width, device or a non-finite value."""


class InvalidPairsError(LatentBridgeError, ValueError):
    """Paired items that are missing, empty, unequal in number or of the wrong type."""


class BadRowError(InvalidPairsError, InvalidLatentsError):
    """A row of the data is missing, empty, unreadable, ragged, or holds NaN or infinity."""


class DatasetError(InvalidPairsError, InvalidLatentsError):
    """A dataset that cannot be read, or has no such configuration, split or column."""


class NotFittedError(LatentBridgeError, ValueError, AttributeError):
    """A translator was used before `fit`, `partial_fit` or `fit_moments`."""


class NotInvertibleError(LatentBridgeError, TypeError):
    """A map that has no inverse in closed form was asked for the way back."""


class SolverError(LatentBridgeError, ArithmeticError):
    """The linear algebra did not converge, or the input leaves nothing to solve."""


class SpaceMismatchError(LatentBridgeError, ValueError):
    """Latents of one space were offered where those of another are expected."""


class ConfigError(LatentBridgeError, ValueError):
    """A `config.json` that does not parse or does not say what it must."""


class UnknownTranslatorError(ConfigError):
    """A `translator_type` that is not in the registry."""


class UnknownNameError(LatentBridgeError, KeyError):
    """A view or an encoder of a name that is not there."""

    __str__ = Exception.__str__  # KeyError would quote the whole message


class FormatVersionError(ConfigError):
    """A repo written by a newer version of the library, in a format this one cannot read."""


class WeightsError(LatentBridgeError, ValueError):
    """Weights that are truncated, misshapen, non-finite, incomplete or not the config's."""


class EncoderError(LatentBridgeError, ValueError):
    """A repo that holds no usable encoder, or an encoder that breaks its promise."""


class NoTokensError(EncoderError):
    """`max_length` is given for an encoder that cuts nothing by tokens, such as one of images."""


class DecoderError(LatentBridgeError, ValueError):
    """A repo or object that holds no usable decoder, or a decoder asked for what it cannot give."""


class InvalidNameError(LatentBridgeError, ValueError, TypeError):
    """The name of a repo or folder is empty, or is not a text or a path."""


class ForeignFileError(LatentBridgeError, FileExistsError):
    """A file of someone else is in the place of one that this library would write."""


class RepoNotFoundError(LatentBridgeError, FileNotFoundError):
    """The repo, revision or file does not exist, or the token may not see it."""


class RepoAccessError(LatentBridgeError, PermissionError):
    """The repo is gated or the token may not write to it."""


class HubUnavailableError(LatentBridgeError, ConnectionError):
    """The Hub cannot be reached and the files are not in the cache."""


class DamagedFileError(HubUnavailableError, WeightsError):
    """A downloaded file is not the one on the Hub, and could not be fetched whole."""


class CheckpointError(LatentBridgeError, ValueError):
    """The checkpoint of an unfinished fit or translation is of another one, or is damaged."""


class InUseError(LatentBridgeError, BlockingIOError):
    """Another process is writing the same file or folder."""


class ProcessError(LatentBridgeError, RuntimeError):
    """Another of the processes that work together failed, or they are not as many as started."""


class StoreError(LatentBridgeError, ValueError):
    """A vector store that does not hold what its URL names, or refuses what was asked of it."""


class StoreUnavailableError(LatentBridgeError, ConnectionError):
    """A vector store that cannot be reached, went away, or does not answer in time."""


class MissingExtraError(LatentBridgeError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class UnrelatedPairsWarning(UserWarning):
    """The pairs explain no more than shuffled ones: row i of both sides may not be one item."""


class CacheWarning(UserWarning):
    """The cache of latents cannot be read or written; the work goes on without it."""


class RankWarning(UserWarning):
    """The pairs do not determine the map; the minimum-norm solution was taken."""


class SelectionWarning(UserWarning):
    """A choice by cross-validation that rests on few pairs, or lies on the edge of those tried."""


class GrowthWarning(UserWarning):
    """Pairs that were found among unpaired items keep changing, or cannot be trusted."""
