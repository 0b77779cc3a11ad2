"""What the fault benchmark counts, and the table that it prints."""

from dataclasses import dataclass

from rich.table import Table


@dataclass
class Result:
    """What `--json` prints, and below it what only the table shows.

    Attributes:
        messages: How many messages were published.
        valid_keys: How many runs they ask for.
        jobs: How many jobs the service has.
        doubled: How many jobs there are beyond one for each valid key, for a malformed message included.
        lost: How many valid keys have no job, or a message among the dead letters.
        malformed: How many messages are malformed.
        dead_lettered_with_reason: How many of those are in the dead-letter topic with their own reason.
        seed: What the messages, the faults and the kills follow from.
    """

    messages: int
    valid_keys: int
    jobs: int
    doubled: int
    lost: int
    malformed: int
    dead_lettered_with_reason: int
    seed: int

    @property
    def holds(self) -> bool:
        """Whether nothing was lost or doubled, and every malformed message was set aside with its reason."""
        right = self.dead_lettered_with_reason == self.malformed
        return right and self.jobs == self.valid_keys and not self.doubled and not self.lost


@dataclass
class Course:
    """How the run went, for the table.

    Attributes:
        redeliveries: Deliveries that the trigger refused, and Pub/Sub repeated.
        injected: Requests that the service let fail, as far as it lived to say so.
        kills_of_service: How often the service was killed.
        kills_of_trigger: How often the trigger was killed.
        refused_by_framework: Of the push requests sent by hand, those that were answered with 4xx.
        sent_to_framework: Push requests sent by hand that never reach the trigger's own code.
        seconds: From the first message to the last look.
    """

    redeliveries: int = 0
    injected: int = 0
    kills_of_service: int = 0
    kills_of_trigger: int = 0
    refused_by_framework: int = 0
    sent_to_framework: int = 0
    seconds: float = 0.0


def show(result: Result, course: Course) -> Table:
    """Returns the table."""
    table = Table("", "count", title=f"Under faults and kills, seed {result.seed}", title_justify="left")
    table.columns[1].justify = "right"
    rows = {
        "messages published": result.messages,
        "  that repeat another": result.messages - result.malformed - result.valid_keys,
        "valid keys": result.valid_keys,
        "jobs": result.jobs,
        "doubled": result.doubled,
        "lost": result.lost,
        "malformed": result.malformed,
        "  dead-lettered with the right reason": result.dead_lettered_with_reason,
        "refused by functions-framework with 4xx, of those sent by hand": (
            f"{course.refused_by_framework} of {course.sent_to_framework}"
        ),
        "faults injected": course.injected,
        "retries (deliveries that failed and came again)": course.redeliveries,
        "kill -9 of the service, of the trigger": f"{course.kills_of_service}, {course.kills_of_trigger}",
        "seconds": f"{course.seconds:.0f}",
    }
    for name, value in rows.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else value)
    return table
