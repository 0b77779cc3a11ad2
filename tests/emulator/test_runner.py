"""The runner: one compiled pipeline, one process, one record."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from kfp import dsl
from kfp.dsl import Dataset, Output

from components.errors import InputError
from emulator import cache
from emulator.children import end_job, processes_of
from emulator.records import JOB_FILE, JobRecord, write_json
from emulator.runner import finish, run_job, start_process
from tests.emulator import samples
from tests.emulator.samples import IMAGE, note, spec_of


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_exit_handler_sub_pipeline_loop_and_conditions(tmp_path):
    said, seen = tmp_path / "said.json", []
    folder = tmp_path / "a folder" / "job-1"
    parameters = {"said": str(said), "text": 'it\'s "python3"\nwith {braces}'}
    record = run_job(
        spec_of(samples.batch), parameters, folder, on_task=lambda task: seen.append((task.path, task.state))
    )

    assert (record.state, record.error) == ("SUCCEEDED", {}), (folder / "log.txt").read_text()
    whole = record.task("collect").outputs.artifacts["whole"][0]
    assert (whole.type, whole.metadata) == ("system.Dataset", {"parts": 2})
    assert Path(whole.path).read_text() == "0,40,20,60"
    assert whole.path.startswith(str(folder / "artifacts"))
    assert record.task("show").outputs.parameters == {"Output": "0,40,20,60"}
    # What Vertex AI puts into a text: the value, and a whole number as a whole number.
    assert record.task("note").inputs.parameters["text"] == f"{parameters['text']} 4"
    assert [task.state for task in record.tasks if "condition" in task.name] == [
        "SUCCEEDED",
        "NOT_TRIGGERED",
        "NOT_TRIGGERED",
    ]
    outcome = json.loads(said.read_text())
    assert outcome == {
        "text": parameters["text"],
        "state": "SUCCEEDED",
        "job": record.name,
        "error": None,
        "code": None,
    }
    shard = record.task("exit-handler-1/shards/for-loop-1-iteration-1/classify")
    assert shard.inputs.parameters == {"shard": {"index": 1.0, "of": 2.0}, "factor": 2}
    assert shard.inputs.artifacts["model"][0].type == "system.Model"
    assert shard.parent == "exit-handler-1/shards/for-loop-1-iteration-1"
    assert record.task(shard.parent).parent == "exit-handler-1/shards/for-loop-1"
    assert record.task(shard.parent).title == "parts [1]"
    assert all(task.start <= task.end for task in record.tasks)
    assert seen[-1] == ("announce", "SUCCEEDED") and ("exit-handler-1", "RUNNING") in seen
    assert JobRecord.load(folder) == record
    assert not processes_of(folder)
    assert "[exit-handler-1/make-data] " in (folder / "log.txt").read_text()


def test_failure_inside_the_exit_handler_reaches_the_exit_task(tmp_path):
    said = tmp_path / "said.json"
    record = run_job(spec_of(samples.batch), {"said": str(said), "broken": True}, tmp_path / "job")

    assert record.state == "FAILED"
    assert record.error["message"] == "Task 'fail' failed: ValueError: no good: on purpose"
    assert record.task("fail").error == "ValueError: no good: on purpose"
    assert record.task("exit-handler-1").state == "FAILED"
    assert record.task("announce").state == "SUCCEEDED"
    outcome = json.loads(said.read_text())
    assert (outcome["state"], outcome["job"]) == ("FAILED", record.name)
    assert outcome["error"] == record.error["message"]


def test_what_kfp_raises_is_the_tasks_failure_and_the_exit_task_still_runs(tmp_path):
    said = tmp_path / "said.json"
    # Nothing can be collected after a loop over an empty list.
    record = run_job(spec_of(samples.batch), {"said": str(said), "num_shards": 0}, tmp_path / "job")

    assert record.state == "FAILED"
    assert "ValueError" in record.task("collect").error
    assert json.loads(said.read_text())["state"] == "FAILED"


def test_tasks_after_a_failed_one_are_not_triggered_and_the_others_run(tmp_path):
    @dsl.pipeline
    def pipeline():
        bad = samples.fail(text="x")
        note(text=bad.output)
        note(text="alone").set_display_name("on its own")

    record = run_job(spec_of(pipeline), {}, tmp_path / "job")

    assert {task.name: task.state for task in record.tasks} == {
        "fail": "FAILED",
        "note": "NOT_TRIGGERED",
        "note-2": "SUCCEEDED",
    }
    assert record.task("note-2").title == "on its own"


def test_condition_on_a_named_output(tmp_path):
    @dsl.pipeline
    def pipeline():
        made = samples.flags()
        with dsl.If(made.outputs["yes"] == True):  # noqa: E712
            note(text="yes")
        with dsl.If(made.outputs["no"] == True):  # noqa: E712
            note(text="no")

    record = run_job(spec_of(pipeline), {}, tmp_path / "job")

    assert record.task("note").state == "SUCCEEDED"
    assert not [task for task in record.tasks if task.name == "note-2"]


def test_job_placeholders_are_the_jobs_own(tmp_path):
    @dsl.pipeline
    def pipeline():
        name, resource = dsl.PIPELINE_JOB_NAME_PLACEHOLDER, dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER
        note(text=f"{name} {resource} {dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER}")

    record = run_job(spec_of(pipeline), {}, tmp_path / "my-job")

    assert record.task("note").outputs.parameters["Output"] == f"my-job {record.name} {record.created}"


def test_same_component_and_sub_pipeline_twice_keep_their_results_apart(tmp_path):
    @dsl.pipeline
    def inner(rows: int) -> Dataset:
        return samples.make_data(rows=rows).outputs["data"]

    @dsl.pipeline
    def pipeline():
        one, two = inner(rows=1), inner(rows=2)
        samples.show(data=one.output)
        samples.show(data=two.output)

    record = run_job(spec_of(pipeline), {}, tmp_path / "job")

    assert sorted(task.outputs.parameters["Output"] for task in record.tasks if "show" in task.name) == ["0", "0\n1"]


def test_cached_steps_are_taken_over_and_others_run(tmp_path):
    spec, file = spec_of(samples.three_steps), tmp_path / "log"
    runs = [
        run_job(
            spec, {"file": str(file)}, tmp_path / f"job-{n}", cache_folder=tmp_path / "cache", enable_caching=caching
        )
        for n, caching in enumerate([None, True, False])
    ]

    assert [[task.cached for task in run.tasks] for run in runs] == [[False] * 3, [True, False, False], [False] * 3]
    assert [task.outputs.parameters["Output"] for task in runs[1].tasks] == ["first", "second", "third"]
    assert file.read_text().split().count("first") == 2
    assert file.read_text().split().count("second") == 3


def test_cached_artifact_is_not_taken_over_from_a_folder_that_holds_another_run(tmp_path):
    spec, said = spec_of(samples.batch), str(tmp_path / "said")
    shared = {"cache_folder": tmp_path / "cache"}
    run_job(spec, {"said": said, "rows": 2}, tmp_path / "a", **shared)
    hit = run_job(spec, {"said": said, "rows": 2}, tmp_path / "b", **shared)
    assert hit.task("make-data").cached
    # The input of this step was made by a step that opted out, so it has another path in every run.
    assert not hit.task("exit-handler-1/shards/for-loop-1-iteration-0/classify").cached

    (tmp_path / "a").rename(tmp_path / "gone")
    run_job(spec, {"said": said, "rows": 3}, tmp_path / "a")
    again = run_job(spec, {"said": said, "rows": 2}, tmp_path / "c", **shared)

    assert not again.task("make-data").cached
    assert Path(again.task("collect").outputs.artifacts["whole"][0].path).read_text() == "0,20"


def test_cache_key_depends_on_the_source_of_the_components(tmp_path, monkeypatch):
    arguments = {"component_name": "c", "image": "i", "full_command": ["x"], "arguments": {}}

    def key(**more):
        return cache.StepCache(tmp_path, tmp_path, "now").compute_key(**arguments, **more)

    before, chosen_before = key(), key(custom_cache_key="mine")
    assert key() == before
    monkeypatch.setattr(cache, "source_digest", lambda: "changed")
    assert key() != before
    assert key(custom_cache_key="mine") != chosen_before


def test_interrupted_job_goes_on_without_its_finished_tasks(tmp_path):
    folder, file = tmp_path / "job", tmp_path / "log"
    folder.mkdir()
    write_json(
        folder / JOB_FILE,
        {
            "name": "projects/p/locations/l/pipelineJobs/job",
            "pipelineSpec": spec_of(samples.three_steps),
            "runtimeConfig": {"parameterValues": {"file": str(file), "seconds": 2}},
        },
    )
    process = start_process(folder)
    wait_until(lambda: file.exists() and "third" in file.read_text())
    before = JobRecord.load(folder)
    process.kill()
    process.wait()
    assert processes_of(folder), "the step outlives its runner"
    end_job(folder)
    assert not processes_of(folder)

    code = start_process(folder).wait(30)

    record = finish(folder, code)
    assert record.state == "SUCCEEDED"
    assert file.read_text().split() == ["first", "second", "third", "third"]
    assert (record.start, record.tasks[:2]) == (before.start, before.tasks[:2])


def test_runner_that_dies_is_a_failed_job(tmp_path):
    folder, file = tmp_path / "job", tmp_path / "log"

    def kill_runner(task):
        if task.name == "note-3":
            next(p for p in processes_of(folder) if "emulator.runner" in p.cmdline()).kill()

    record = run_job(spec_of(samples.three_steps), {"file": str(file), "seconds": 60}, folder, on_task=kill_runner)

    assert record.state == "FAILED" and "signal 9" in record.error["message"]
    assert [task.state for task in record.tasks] == ["SUCCEEDED", "SUCCEEDED", "FAILED"]
    assert not processes_of(folder)


def test_ctrl_c_ends_the_whole_job(tmp_path):
    folder, file = tmp_path / "job", tmp_path / "log"
    write_json(tmp_path / "spec.json", spec_of(samples.three_steps))
    script = (
        "import json, signal, sys; from pathlib import Path; from emulator.runner import run_job\n"
        # A shell that has put the tests into the background has them, and what they start, ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "run_job(json.load(open(sys.argv[1])), {'file': sys.argv[3], 'seconds': 60}, Path(sys.argv[2]))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "spec.json", folder, file], stderr=subprocess.DEVNULL
    )
    wait_until(lambda: file.exists() and "third" in file.read_text())
    parent.send_signal(signal.SIGINT)

    assert parent.wait(20) != 0
    assert not processes_of(folder)
    assert JobRecord.load(folder).state == "CANCELLED"


def test_step_ended_by_a_signal_or_an_exit_code_says_so(tmp_path):
    @dsl.component(base_image=IMAGE, install_kfp_package=False)
    def end(by: str):
        import os
        import sys

        if by == "exit":
            print("about to leave")
            sys.exit(3)
        os.kill(os.getpid(), 9)

    @dsl.pipeline
    def pipeline():
        end(by="exit")
        end(by="signal")

    record = run_job(spec_of(pipeline), {}, tmp_path / "job")

    assert record.task("end").error == "about to leave (exit code 3)"
    assert "SIGKILL" in record.task("end-2").error


def test_failed_attempt_leaves_nothing_behind_for_the_next(tmp_path):
    @dsl.component(base_image=IMAGE, install_kfp_package=False)
    def second_time(mark: str, data: Output[Dataset]):
        from pathlib import Path

        Path(data.path).mkdir()
        if not Path(mark).exists():
            Path(mark).touch()
            raise OSError("the first attempt fails")

    @dsl.pipeline
    def pipeline(mark: str):
        second_time(mark=mark).set_retry(1, backoff_duration="0s")

    record = run_job(spec_of(pipeline), {"mark": str(tmp_path / "mark")}, tmp_path / "job")

    assert (record.state, record.task("second-time").error) == ("SUCCEEDED", "")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fail_and_count(file: str, permanent: bool):
    from components.errors import InputError

    with open(file, "a") as attempts:  # noqa: PTH123 - a step's source stands alone
        attempts.write("x")
    raise InputError("The input is wrong.", "Mend it.") if permanent else OSError("The disk is full.")


@pytest.mark.parametrize(("permanent", "attempts"), [(True, 1), (False, 3)])
def test_a_step_whose_input_is_wrong_is_not_tried_again(permanent, attempts, tmp_path):
    @dsl.pipeline
    def pipeline(file: str, permanent: bool):
        fail_and_count(file=file, permanent=permanent).set_retry(2, backoff_duration="3600s")

    file = tmp_path / "attempts"
    record = run_job(spec_of(pipeline), {"file": str(file), "permanent": permanent}, tmp_path / "job")
    assert len(file.read_text()) == attempts
    expected = (
        "components.errors.InputError: The input is wrong. Mend it." if permanent else "OSError: The disk is full."
    )
    assert (record.state, record.task("fail-and-count").error) == ("FAILED", expected)


def test_step_that_does_nothing_costs_at_most_150_ms(tmp_path):
    @dsl.pipeline
    def pipeline():
        before = samples.nothing()
        for _ in range(6):
            before = samples.nothing().after(before)

    record = run_job(spec_of(pipeline), {}, tmp_path / "job")

    starts = [time_of(task.start) for task in record.tasks]
    # The quickest of several: what the step costs, not what else the machine does.
    assert min(b - a for a, b in zip(starts, starts[1:], strict=False)) <= 0.15


def time_of(text):
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_folder_in_use_and_pipeline_that_cannot_run_are_refused_before_anything_starts(tmp_path):
    spec = spec_of(samples.one_step)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        run_job(spec, {}, tmp_path / "used")
    with pytest.raises(InputError, match="text contains"):
        run_job(spec, {"text": "{{$.x}}"}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_environment_of_steps(tmp_path):
    @dsl.component(base_image=IMAGE, install_kfp_package=False)
    def environment() -> dict:
        import os
        from pathlib import Path

        return {"cwd": str(Path.cwd()), "safe": os.environ["PYTHONSAFEPATH"], "mine": os.environ["MINE"]}

    @dsl.pipeline
    def pipeline():
        environment()

    folder = tmp_path / "job"
    record = run_job(spec_of(pipeline), {}, folder, env={"MINE": "x"})

    found = record.task("environment").outputs.parameters["Output"]
    assert found == {"cwd": str(folder), "safe": "1", "mine": "x"}


def test_processes_of_other_jobs_are_left_alone(tmp_path):
    mark = {**os.environ, "KFP_TRANSFORMERS_JOB_FOLDER": str(tmp_path / "other")}
    other = subprocess.Popen(["sleep", "60"], env=mark)
    try:
        end_job(tmp_path / "mine")
        assert psutil.pid_exists(other.pid) and other.poll() is None
        end_job(tmp_path / "other")
        assert other.wait(5) == -signal.SIGTERM
    finally:
        other.kill()
        other.wait()
