"""What kfp.local asks to run a step, in the place of its own handler."""

from typing import Any

from kfp.local import subprocess_task_handler
from kfp.local.status import Status


class StepHandler(subprocess_task_handler.SubprocessTaskHandler):
    """Hands a step to the job's observer; whether it can run here was checked before the job started."""

    observer: Any

    def validate_image(self, image: str) -> None:
        """Takes any image: Python components run in the present environment."""

    def validate_not_container_component(self, full_command: list[str]) -> None:
        """Takes container components."""

    def validate_not_containerized_python_component(self, full_command: list[str]) -> None:
        """Takes whatever was not refused before."""

    def run(self) -> Status:
        """Runs the step."""
        status: Status = self.observer.run_step(self.image, self.full_command, self.env_vars)
        return status
