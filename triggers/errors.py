"""The two ways in which a message can fail: for good, or for now."""


class PermanentError(ValueError):
    """The message is wrong, and delivering it again fails again: it is acknowledged and set aside.

    Args:
        headline: What is wrong, in one sentence.
        remedy: What to change, in one sentence.
    """

    def __init__(self, headline: str, remedy: str):
        super().__init__(f"{headline} {remedy}")
        self.headline = headline
        self.remedy = remedy


class KeyTakenError(PermanentError):
    """The request's key belongs to a run that asks for something else."""


class ConfigurationError(RuntimeError):
    """The function is not set up as it must be, which is not the message's fault: Pub/Sub delivers it again."""
