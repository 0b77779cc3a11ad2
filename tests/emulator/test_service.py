"""The service as Google's clients see it, over HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform, aiplatform_v1
from kfp import dsl

from emulator.children import processes_of
from tests.emulator import samples
from tests.emulator.conftest import PARENT, Service
from tests.emulator.samples import spec_of

PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED = 2, 3, 4, 5, 7
Task = aiplatform_v1.PipelineTaskDetail.State


def request(url, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(call, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_for(path, text, seconds=30):
    deadline = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{text} did not come into {path}"
        time.sleep(0.02)


def tasks_of(job):
    return {task.task_unique_name: task for task in job.job_detail.task_details}


def test_job_from_creation_to_deletion(service, tmp_path):
    said = str(tmp_path / "said")
    name = service.create(samples.batch, "job-1", {"said": said}, display_name="A job", labels={"team": "x"})
    assert name == f"{PARENT}/pipelineJobs/job-1"
    with pytest.raises(exceptions.Conflict, match="already exists"):
        service.create(samples.one_step, "job-1")

    job = service.wait(name)

    assert job.state == SUCCEEDED and not job.error.message
    assert (job.display_name, dict(job.labels)) == ("A job", {"team": "x"})
    assert job.create_time <= job.start_time <= job.end_time <= job.update_time
    assert job.runtime_config.gcs_output_directory == "gs://bucket/root"
    tasks = tasks_of(job)
    collect = tasks["exit-handler-1/shards/collect"]
    assert collect.task_name == "collect"
    assert collect.parent_task_id == tasks["exit-handler-1/shards"].task_id
    whole = collect.outputs["whole"].artifacts[0]
    assert (whole.schema_title, whole.metadata["parts"]) == ("system.Dataset", 2)
    assert Path(whole.uri).read_text() == "0,40,20,60"
    assert len(collect.inputs["parts"].artifacts) == 2
    metadata = dict(tasks["exit-handler-1/condition-2/note"].execution.metadata)
    assert (metadata["input:text"], metadata["output:Output"]) == ("long enough 4", "long enough 4")
    assert tasks["exit-handler-1/condition-3"].state == Task.NOT_TRIGGERED
    assert json.loads((tmp_path / "said").read_text())["job"] == name
    folder = tmp_path / "jobs" / "job-1"
    assert {"job.json", "record.json", "log.txt", "artifacts"} <= {path.name for path in folder.iterdir()}

    # The same job again takes the cached outputs over, which Vertex AI calls skipped.
    again = tasks_of(service.wait(service.create(samples.batch, "job-2", {"said": said})))
    assert again["exit-handler-1/make-data"].state == Task.SKIPPED
    assert again["exit-handler-1/make-model"].state == Task.SUCCEEDED

    service.client.delete_pipeline_job(name=name).result(timeout=10)
    assert not folder.exists()
    with pytest.raises(exceptions.NotFound):
        service.client.get_pipeline_job(name=name)


def test_failed_job_names_the_task_and_its_last_error(service, tmp_path):
    job = service.wait(service.create(samples.batch, "", {"said": str(tmp_path / "said"), "broken": True}))
    assert job.name.startswith(f"{PARENT}/pipelineJobs/batch-")
    assert job.state == FAILED
    assert (job.error.code, job.error.message) == (9, "Task 'fail' failed: ValueError: no good: on purpose")
    failed = next(task for task in job.job_detail.task_details if task.task_name == "fail")
    assert (failed.state, failed.error.message) == (Task.FAILED, "ValueError: no good: on purpose")


def test_fail_fast_starts_nothing_after_the_first_failure(service):
    @dsl.pipeline
    def pipeline():
        samples.fail(text="x")
        for _ in range(3):
            samples.note(text="x")

    config = {"gcs_output_directory": "gs://bucket/root", "failure_policy": 2}
    job = aiplatform_v1.PipelineJob(pipeline_spec=spec_of(pipeline), runtime_config=config)
    created = service.client.create_pipeline_job(parent=PARENT, pipeline_job=job)
    tasks = tasks_of(service.wait(created.name))
    # Tasks that depend on nothing start in no particular order.
    failed = tasks.pop("fail")
    assert failed.state == Task.FAILED
    for task in tasks.values():
        assert task.state == (Task.NOT_TRIGGERED if task.start_time > failed.start_time else Task.SUCCEEDED)


def test_task_details_while_the_job_runs(service, tmp_path):
    file = tmp_path / "log"
    name = service.create(samples.three_steps, "running", {"file": str(file), "seconds": 60})
    wait_for(file, "third")
    job = service.client.get_pipeline_job(name=name)
    assert job.state == RUNNING and not job.end_time
    assert [(task.task_name, task.state) for task in job.job_detail.task_details] == [
        ("note", Task.SUCCEEDED),
        ("note-2", Task.SUCCEEDED),
        ("note-3", Task.RUNNING),
    ]
    with pytest.raises(exceptions.BadRequest, match="cancel it first"):
        service.client.delete_pipeline_job(name=name)

    service.client.cancel_pipeline_job(name=name)
    job = service.wait(name)

    assert job.state == CANCELLED
    assert job.job_detail.task_details[-1].state == Task.CANCELLED
    assert not processes_of(tmp_path / "jobs" / "running")
    service.client.cancel_pipeline_job(name=name)


def test_at_most_so_many_jobs_run_and_the_others_wait_in_order(tmp_path):
    file = tmp_path / "log"
    with Service(tmp_path / "jobs", "--max-running", "1") as service:
        names = [
            service.create(samples.three_steps, f"job-{n}", {"file": str(file), "seconds": 0.3 if n else 60})
            for n in range(4)
        ]
        wait_for(file, "third")
        assert [service.client.get_pipeline_job(name=name).state for name in names] == [RUNNING] + [PENDING] * 3
        service.client.cancel_pipeline_job(name=names[1])
        assert service.client.get_pipeline_job(name=names[1]).state == CANCELLED
        service.client.cancel_pipeline_job(name=names[0])
        jobs = [service.wait(name) for name in names]
    assert [job.state for job in jobs] == [CANCELLED, CANCELLED, SUCCEEDED, SUCCEEDED]
    assert jobs[2].end_time <= jobs[3].start_time


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_job_goes_on_after_a_restart(tmp_path, number):
    file, folder = tmp_path / "log", tmp_path / "jobs"
    with Service(folder) as service:
        done = service.wait(service.create(samples.one_step, "done"))
        name = service.create(samples.three_steps, "going", {"file": str(file), "seconds": 1.5})
        wait_for(file, "third")
        code = service.stop(number)
    if number == signal.SIGKILL:
        assert processes_of(folder / "going"), "nothing could end the job's processes"
    else:
        assert code == 0
        assert not processes_of(folder / "going")
    old = {process.pid for process in processes_of(folder / "going")}

    with Service(folder) as service:
        assert not old & {process.pid for process in processes_of(folder / "going")}
        assert service.client.get_pipeline_job(name=done.name) == done
        assert service.wait(name).state == SUCCEEDED
    # The second opted out of caching, and still did not run again.
    assert file.read_text().split() == ["first", "second", "third", "third"]


def test_job_that_was_being_cancelled_is_cancelled_after_a_crash(tmp_path):
    file, folder = tmp_path / "log", tmp_path / "jobs"
    with Service(folder) as service:
        name = service.create(samples.three_steps, "job", {"file": str(file), "seconds": 60})
        wait_for(file, "third")
        service.stop(signal.SIGKILL)
    (folder / "job" / "cancel").touch()
    with Service(folder) as service:
        assert service.client.get_pipeline_job(name=name).state == CANCELLED
    assert not processes_of(folder / "job")


def test_folder_with_something_else_and_half_a_job_do_not_stop_the_service(tmp_path):
    folder = tmp_path / "jobs"
    (folder / "half").mkdir(parents=True)
    (folder / "half" / "record.json").write_text("{")
    (folder / ".new-x").mkdir()
    (folder / "notes").mkdir()
    with Service(folder) as service:
        assert not list(service.client.list_pipeline_jobs(parent=PARENT))
    assert (folder / "half").exists() and not (folder / ".new-x").exists()


def test_list_filters_orders_and_pages(service):
    for n in range(3):
        service.create(samples.one_step, f"job-{n}", display_name=f"Job {n}", labels={"even": str(n % 2 == 0).lower()})
    service.create(samples.three_steps, "other", {"file": os.devnull})

    def ids(**fields):
        found = service.client.list_pipeline_jobs(request={"parent": PARENT, "page_size": 1, **fields})
        return [job.name.rsplit("/", 1)[-1] for job in found]

    assert ids() == ["other", "job-2", "job-1", "job-0"]
    assert ids(filter='display_name="Job*" AND labels.even=true', order_by="create_time") == ["job-0", "job-2"]
    assert ids(filter="pipeline_name=three*") == ["other"]
    with pytest.raises(exceptions.BadRequest, match="filter"):
        ids(filter="nonsense")
    other_location = service.client.list_pipeline_jobs(parent="projects/demo/locations/us-central1")
    assert not list(other_location)


def test_bad_requests(service):
    with pytest.raises(exceptions.BadRequest, match="Unknown pipeline parameters: nope"):
        service.create(samples.one_step, "job", {"nope": 1})
    with pytest.raises(exceptions.BadRequest, match="job id 'Job' is invalid"):
        service.create(samples.one_step, "Job")
    jobs = f"{service.url}/v1/{PARENT}/pipelineJobs"
    code, answer = request(f"{jobs}/none")
    assert (code, answer["error"]["code"], answer["error"]["status"]) == (404, 404, "NOT_FOUND")
    assert request(f"{jobs}/none:cancel", "POST", {})[1]["error"]["status"] == "NOT_FOUND"
    assert request(f"{jobs}/none:pause", "POST", {})[0] == 404
    assert request(f"{service.url}/v1/{PARENT}/customJobs")[1]["error"]["code"] == 404
    assert request(f"{service.url}/v1/{PARENT}/operations/1")[0] == 404
    for body in (b"{", b'{"runtimeConfig": NaN}', b"[]", b"\xff"):
        bad = urllib.request.Request(f"{jobs}?pipelineJobId=x", body, method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(bad)
        assert json.load(refused.value)["error"]["status"] == "INVALID_ARGUMENT"


def test_plain_rest_has_enums_as_names_or_numbers_and_the_project_as_asked(service):
    assert request(f"{service.url}/healthz") == (200, {"status": "ok"})
    body = {
        "pipelineSpec": spec_of(samples.one_step),
        "runtimeConfig": {
            "gcsOutputDirectory": "gs://bucket/root",
            "failurePolicy": "PIPELINE_FAILURE_POLICY_FAIL_FAST",
        },
    }
    for version, job_id in (("v1", "one"), ("v1beta1", "two")):
        code, job = request(f"{service.url}/{version}/{PARENT}/pipelineJobs?pipelineJobId={job_id}", "POST", body)
        assert (code, job["state"]) == (200, "PIPELINE_STATE_PENDING")
        assert job["runtimeConfig"]["failurePolicy"] == "PIPELINE_FAILURE_POLICY_FAIL_FAST"
    by_number = "projects/123456/locations/europe-west4"
    job = request(f"{service.url}/v1/{by_number}/pipelineJobs/one?$alt=json;enum-encoding=int")[1]
    assert job["name"] == f"{by_number}/pipelineJobs/one"
    assert isinstance(job["state"], int) and job["runtimeConfig"]["failurePolicy"] == 2


def test_operation_of_a_deletion_can_be_asked_for(service):
    name = service.create(samples.one_step, "job")
    service.wait(name)
    operation = request(f"{service.url}/v1/{name}", "DELETE")[1]
    assert operation["done"] is True
    assert request(f"{service.url}/v1/{operation['name']}") == (200, operation)


def test_unmodified_pipeline_job_submits_waits_lists_and_cancels(service, storage_emulator, tmp_path, monkeypatch):
    # submit() first asks Resource Manager for the project's number, which no setting redirects: without a network it
    # hangs for 47 seconds. Nothing else is replaced; the bucket check is served by the storage emulator, whose buckets
    # belong to project 1234.
    monkeypatch.setattr(
        "google.cloud.aiplatform.utils.resource_manager_utils.get_project_number", lambda *_, **__: 1234
    )
    aiplatform.init(
        project="demo",
        location="europe-west4",
        api_endpoint=service.url,
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )
    try:
        template, file = tmp_path / "pipeline.json", tmp_path / "log"
        template.write_text(json.dumps(spec_of(samples.three_steps)))

        def make(job_id, seconds):
            return aiplatform.PipelineJob(
                display_name=job_id,
                template_path=str(template),
                job_id=job_id,
                pipeline_root="gs://bucket/root",
                parameter_values={"file": str(file), "seconds": seconds},
            )

        first = make("first", 0)
        first.submit()
        first.wait()
        assert first.state.name == "PIPELINE_STATE_SUCCEEDED"
        assert len(first.task_details) == 3
        assert [job.name for job in aiplatform.PipelineJob.list(filter='display_name="first"')] == ["first"]
        assert aiplatform.PipelineJob.get("first").state.name == "PIPELINE_STATE_SUCCEEDED"

        file.unlink()
        second = make("second", 60)
        second.submit()
        wait_for(file, "third")
        second.cancel()
        second.wait()
        assert second.state.name == "PIPELINE_STATE_CANCELLED"
        first.delete()
        assert [job.name for job in aiplatform.PipelineJob.list()] == ["second"]
    finally:
        aiplatform.initializer.global_config.__init__()


def test_addresses_that_others_reach_and_a_folder_in_use_are_refused(service, tmp_path):
    def start(*options):
        command = [sys.executable, "-m", "emulator", "--port", "0", *options]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "200"}
        )
        return ended.returncode, re.sub(r"\s+", " ", ended.stderr)

    code, said = start("--host", "0.0.0.0", "--folder", str(tmp_path / "x"))
    assert code == 2 and "--allow-remote" in said
    code, said = start("--folder", str(service.folder))
    assert code == 1 and "Another emulator serves" in said
    assert service.stop(signal.SIGINT) == 0
