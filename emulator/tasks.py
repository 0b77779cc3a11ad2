"""Runs a compiled pipeline with kfp.local and observes each of its tasks.

kfp.local has no hooks, so this module puts functions of its own in the place of some of kfp.local's, in the job's own
process and for good. They record each task's start, inputs, outputs and end, give each task a folder by its path, take
over the tasks that an earlier process of the same job finished, and put right what would make a run differ from one
on Vertex AI without a word: conditions on named outputs or on text with quotes, the final status that an exit task
receives, whole numbers inside text, and an error that would keep the exit task from running.
"""

import contextlib
import logging
import re
import shutil
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp import local
from kfp.local import cache, executor_input_utils, importer_handler, io, logging_utils, subprocess_task_handler
from kfp.local.orchestrator import enhanced_dag_orchestrator as orchestrator
from kfp.local.orchestrator import orchestrator_utils, task_spec_utils
from kfp.local.status import Status
from kfp.pipeline_spec import pipeline_spec_pb2

from emulator.cache import StepCache
from emulator.conditions import evaluate
from emulator.containers import Step
from emulator.custom_jobs import CustomJobs, write_resources
from emulator.handler import StepHandler
from emulator.recorder import CHANNEL, Recorder, to_outputs, to_values
from emulator.records import FAILED_PRECONDITION, TaskRecord
from emulator.steps import PermanentFailure, log, raise_if_permanent

_ALWAYS = pipeline_spec_pb2.PipelineTaskSpec.TriggerPolicy.TriggerStrategy.ALL_UPSTREAM_TASKS_COMPLETED
_ITERATION = re.compile(r"(.+)-iteration-(\d+)$")


@dataclass(frozen=True)
class _Scope:
    """A DAG that runs: its path, and its specification."""

    path: str
    component: Any

    def path_of(self, task_name: str) -> str:
        return f"{self.path}/{task_name}" if self.path else task_name


_scope: ContextVar[_Scope] = ContextVar("scope")
_task: ContextVar[TaskRecord] = ContextVar("task")


class _ScopedStore(io.IOStore):
    """A DAG's values that know which DAG they belong to, also in another thread."""

    def __init__(self, parent: io.IOStore | None = None):
        super().__init__(parent)
        self.scope = _scope.get()


class Observer:
    """Runs one job's pipeline.

    Args:
        recorder: What takes the tasks' records.
        artifacts: The folder for everything that the steps write.
        step_cache: The cache shared between jobs; None without one.
        fail_fast: Whether no further task starts once one has failed.

    Attributes:
        custom_jobs: The Custom Jobs that steps stand for.
    """

    def __init__(self, recorder: Recorder, artifacts: Path, step_cache: StepCache | None, fail_fast: bool = False):
        self.recorder, self.artifacts, self.fail_fast = recorder, artifacts, fail_fast
        self.custom_jobs = CustomJobs()
        self._cache = step_cache
        if step_cache:
            step_cache.on_hit = self.mark_cached
        self._executor_inputs: dict[str, dict[str, Any]] = {}

    def run(
        self, spec: pipeline_spec_pb2.PipelineSpec, executors: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """Runs the pipeline in this process, which runs no other after it.

        Returns:
            The pipeline's outputs, and whether it succeeded.
        """
        runner = local.SubprocessRunner(use_venv=False)
        # Never a folder that exists: kfp.local deletes its workspace.
        workspace = str(self.artifacts.parent / "workspace")
        local.init(runner, pipeline_root=str(self.artifacts), workspace_root=workspace, raise_on_error=False)
        self._install()
        job = self.recorder.record.id
        outputs, status = orchestrator.run_enhanced_dag(
            pipeline_resource_name=job,
            dag_component_spec=spec.root,
            executors=executors,
            components=dict(spec.components.items()),
            dag_arguments=arguments,
            pipeline_root=str(self.artifacts),
            runner=runner,
            unique_pipeline_id=job,
            fail_stack=[],
        )
        return outputs, status == Status.SUCCESS

    def _install(self) -> None:
        """Puts this object's functions in the place of kfp.local's."""
        utils = orchestrator_utils.OrchestratorUtils
        self._execute_task = orchestrator.execute_task
        self._run_dag = orchestrator.run_enhanced_dag
        self._run_loop = orchestrator._run_parallel_for_task
        self._make_arguments: Callable[..., dict[str, Any]] = utils.make_task_arguments
        self._build_nested_arguments = task_spec_utils.build_nested_dag_arguments
        self._to_dict = executor_input_utils.executor_input_to_dict
        self._importer_uri = importer_handler.get_importer_uri
        StepHandler.observer = self

        orchestrator.execute_task = self.execute_task
        orchestrator.run_enhanced_dag = self.run_dag
        orchestrator._run_parallel_for_task = self.run_loop
        orchestrator.ConditionEvaluator.evaluate_condition = staticmethod(self.evaluate_condition)
        task_spec_utils.build_nested_dag_arguments = self.build_nested_arguments
        utils.make_task_arguments = self.make_arguments
        executor_input_utils.executor_input_to_dict = self.executor_input_to_dict
        executor_input_utils.construct_local_task_root = lambda **_: str(self.artifacts / _task.get().path)
        importer_handler.get_importer_uri = self.importer_uri
        subprocess_task_handler.SubprocessTaskHandler = StepHandler
        io.IOStore = _ScopedStore
        cache.get_local_cache = lambda: self._cache
        # Both change global state (the root logger, print) from several threads at once.
        logging_utils.local_logger_context = contextlib.nullcontext
        logging_utils.indented_print = contextlib.nullcontext
        logging_utils.print_horizontal_line = lambda: None
        logging_utils.color_text = lambda text, color: text

    # What runs in the place of kfp.local's functions.

    def run_dag(self, **arguments: Any) -> tuple[dict[str, Any], Status]:
        """Runs a DAG, and records its tasks that were not triggered."""
        around = _task.get(None)
        scope = _Scope(around.path if around else "", arguments["dag_component_spec"])
        token = _scope.set(scope)
        try:
            result = self._run_dag(**arguments)
        finally:
            _scope.reset(token)
        known = {task.path for task in self.recorder.record.tasks}
        for name, task_spec in scope.component.dag.tasks.items():
            if scope.path_of(name) not in known:
                skipped = self._new_record(scope, name, task_spec)
                self.recorder.start(skipped)
                self.recorder.close(skipped, "NOT_TRIGGERED")
        return result

    def execute_task(self, task_name: str, task_spec: Any, **arguments: Any) -> tuple[dict[str, Any], Status]:
        """Runs a task; an exception inside kfp.local is that task's failure, so that the exit task still runs."""
        scope: _Scope = arguments["io_store"].scope
        path = scope.path_of(task_name)
        finished = self.recorder.finished(path)
        if finished:
            component = arguments["components"][task_spec.component_ref.name]
            definitions = component.output_definitions.artifacts
            lists = {name for name in definitions if definitions[name].is_artifact_list}
            return to_outputs(finished.outputs, lists), Status.SUCCESS
        if self.fail_fast and self.recorder.first_error("") and task_spec.trigger_policy.strategy != _ALWAYS:
            return {}, Status.FAILURE
        task = self._new_record(scope, task_name, task_spec, arguments["components"])
        self.recorder.start(task)
        token = _task.set(task)
        try:
            outputs, status = self._execute_task(task_name=task_name, task_spec=task_spec, **arguments)
        except PermanentFailure:
            outputs, status = {}, Status.FAILURE
        except Exception as error:  # noqa: BLE001 - whatever kfp.local raises, it is this task that cannot run
            logging.exception("Task %s cannot run.", path)
            task.error = f"{type(error).__name__}: {error}"
            outputs, status = {}, Status.FAILURE
        finally:
            _task.reset(token)
        if status == Status.SUCCESS:
            self.recorder.close(task, "SUCCEEDED", outputs)
        else:
            self.recorder.close(task, "FAILED", error=task.error or self.recorder.first_error(path))
        return outputs, status

    def run_loop(self, task_name: str, task_spec: Any, **arguments: Any) -> bool:
        """Runs a loop, and records it as a task around its iterations."""
        store = arguments["io_store"]
        loop = self._new_record(store.scope, task_name, task_spec, arguments["components"])
        self.recorder.start(loop)
        try:
            failed = self._run_loop(task_name=task_name, task_spec=task_spec, **arguments)
        except (ValueError, KeyError, TypeError) as error:
            loop.error, failed = f"{type(error).__name__}: {error}", True
        if failed:
            store.put_task_status(task_name, "FAILED")
            error_inside = self.recorder.first_error(loop.path) or self._error_of_iterations(loop.path)
            self.recorder.close(loop, "FAILED", error=loop.error or error_inside)
        else:
            self.recorder.close(loop, "SUCCEEDED", store._task_output_data.get(task_name, {}))
        return bool(failed)

    def evaluate_condition(self, condition: str, io_store: _ScopedStore) -> bool:
        """Says whether the tasks under a condition run.

        kfp.local looks values up by the text of their names, which fails for named outputs, and pastes them into the
        expression, which fails for text with quotes; both would silently skip the tasks.
        """
        if not condition:
            return True
        tasks = io_store.scope.component.dag.tasks.values()
        inputs = next(task.inputs for task in tasks if task.trigger_policy.condition == condition)
        return evaluate(condition, self._make_arguments(inputs, io_store))

    def make_arguments(self, task_inputs_spec: Any, io_store: _ScopedStore) -> dict[str, Any]:
        """Returns a task's arguments; an exit task learns the job's real name and the error that ended the run."""
        arguments = self._make_arguments(task_inputs_spec=task_inputs_spec, io_store=io_store)
        for name, spec in task_inputs_spec.parameters.items():
            if spec.HasField("task_final_status"):
                arguments[name] |= {"pipeline_job_resource_name": self.recorder.record.name}
                if arguments[name]["state"] == "FAILED":
                    producer = io_store.scope.path_of(spec.task_final_status.producer_task)
                    message = self.recorder.first_error(producer) or arguments[name]["error"]["message"]
                    arguments[name]["error"] = {"code": FAILED_PRECONDITION, "message": message}
        _task.get().inputs = to_values(arguments)
        return arguments

    def build_nested_arguments(self, **arguments: Any) -> dict[str, Any]:
        """Returns the arguments of a DAG; kfp.local forgets the artifacts of one that takes no parameters."""
        inputs = arguments["task_spec"].inputs
        result: dict[str, Any] = self._build_nested_arguments(**arguments)
        if inputs.artifacts and not inputs.parameters:
            result |= self.make_arguments(task_inputs_spec=inputs, io_store=arguments["io_store"])
        return result

    def executor_input_to_dict(self, executor_input: Any, component_spec: Any) -> dict[str, Any]:
        """Returns a step's input; whole numbers that become part of a text stay whole (`n=5`, not `n=5.0`)."""
        document: dict[str, Any] = self._to_dict(executor_input=executor_input, component_spec=component_spec)
        values = document.get("inputs", {}).get("parameterValues", {})
        for name, value in values.items():
            if name.startswith(CHANNEL) and isinstance(value, float) and value.is_integer():
                values[name] = int(value)
        # kfp.local fills the placeholders in this very dictionary before the step starts.
        self._executor_inputs[_task.get().path] = document
        return document

    def importer_uri(self, importer_spec: Any, executor_input: Any) -> str:
        """Returns the place that an importer names; kfp.local would go on with one that is not on this machine."""
        uri = str(self._importer_uri(importer_spec, executor_input))
        if "://" in uri:
            raise ValueError(f"An importer names {uri}, which is not on this machine: name a local file or folder.")
        return uri

    def mark_cached(self) -> None:
        """Marks the task that takes over the outputs of an earlier run."""
        _task.get().cached = True
        log(_task.get().path, "The outputs of an earlier run are taken over.")

    def run_step(self, image: str, command: list[str], env: dict[str, str]) -> Status:
        """Runs a step, a process or a container, in an empty folder of its own."""
        task = _task.get()
        executor_input = self._executor_inputs.pop(task.path)
        values = executor_input.get("inputs", {}).get("parameterValues", {})
        step = Step(image, command, env, self.artifacts / task.path, executor_input)

        def record() -> None:
            task.inputs.parameters = {name: value for name, value in values.items() if not name.startswith(CHANNEL)}
            task.container = step.about

        self.recorder.change(record)
        # A process of this job that was ended, or an attempt that failed, may have left half a result.
        shutil.rmtree(step.folder, ignore_errors=True)
        task.error = step.run(lambda line: log(task.path, line))
        raise_if_permanent(task.error)
        if task.custom_job and not task.error:
            write_resources(self.artifacts / task.path, task.custom_job["name"])
        return Status.FAILURE if task.error else Status.SUCCESS

    def _new_record(self, scope: _Scope, name: str, task_spec: Any, components: Any = None) -> TaskRecord:
        component = task_spec.component_ref.name
        title, parent, iteration = task_spec.task_info.name or name, scope.path, _ITERATION.match(name)
        if iteration and iteration[1] in scope.component.dag.tasks:
            title, parent = f"{title} [{iteration[2]}]", scope.path_of(iteration[1])
        dag = components is not None and components[component].WhichOneof("implementation") == "dag"
        path, label = scope.path_of(name), components[component].executor_label if components is not None else ""
        job = self.custom_jobs.record(label, self.recorder.record.name, path)
        return TaskRecord(path, name, component.removeprefix("comp-"), title, parent, dag=dag, custom_job=job)

    def _error_of_iterations(self, path: str) -> str:
        failed = [task for task in self.recorder.record.tasks if task.parent == path and task.state == "FAILED"]
        return failed[0].error if failed else ""
