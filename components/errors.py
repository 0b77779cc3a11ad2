"""The one error that a person can mend: it says what is wrong and what to change."""


class InputError(ValueError):
    """The input is wrong, and running again with the same input fails again.

    Everything else that a component raises (a connection that broke, a full disk) may pass when the step is retried.

    Args:
        headline: What is wrong, in one sentence.
        remedy: What to change, in one sentence.
    """

    def __init__(self, headline: str, remedy: str):
        super().__init__(f"{headline} {remedy}")
        self.headline = headline
        self.remedy = remedy
