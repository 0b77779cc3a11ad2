"""Checks of compiled pipelines, ours or not: what is refused too late, goes wrong silently, or costs an afternoon."""

from pipelines.lint import practice, vertex
from pipelines.lint.subject import CHECKS, Finding, Severity, Subject, Target, read_spec

__all__ = ["CHECKS", "MODULES", "Finding", "Severity", "Subject", "Target", "lint", "read_spec"]

# The modules whose checks are registered.
MODULES = (vertex, practice)


def lint(subject: Subject, ignore: frozenset[str] = frozenset()) -> list[tuple[str, Finding]]:
    """Runs the checks on a compiled pipeline.

    Args:
        subject: The file.
        ignore: Names of checks that are left out.

    Returns:
        The name of the check and what it found, the worst first and then in the file's order.
    """
    found = [(name, each) for name, check in CHECKS.items() if name not in ignore for each in check(subject)]
    order = list(Severity)
    return sorted(found, key=lambda each: (order.index(each[1].severity), subject.line_of(each[1].keys)))
