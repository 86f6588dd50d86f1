"""Every error that a user can cause, with the exit status the command line gives it."""


class SeamlessAlignError(Exception):
    """Base of all errors raised on purpose. The message is one line: what, where, what to do."""

    exit_status = 1


class ConfigError(SeamlessAlignError):
    """The configuration is wrong, or what it asks for contradicts itself."""

    exit_status = 2


class InputError(SeamlessAlignError):
    """An argument or input as a whole cannot be used (not: one bad file among many, see `UnreadableError`)."""

    exit_status = 2


class StorageError(SeamlessAlignError):
    """Something could not be written or read back where the run lives."""

    exit_status = 2


class AddressError(StorageError):
    """An address is of a kind that is not read."""


class MissingPackageError(SeamlessAlignError):
    """A package of an extra is not installed."""

    exit_status = 2

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'seamlessalign[{extra}]'")


class ModelError(SeamlessAlignError):
    """A model cannot be found, is damaged, or is not what its name says."""

    exit_status = 2


class NotFiniteError(ModelError):
    """A loss, a gradient or a measure of a training is NaN or infinite."""

    exit_status = 1


class UnreadableError(SeamlessAlignError):
    """One recording or one line of text cannot be read; the run sets it aside and goes on.

    `reason` is the short name under which it is counted (`empty`, `truncated`, `not_audio`, …),
    `detail` says what was seen.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["UnreadableError"], tuple[str, str]]:
        return (UnreadableError, (self.reason, self.detail))
