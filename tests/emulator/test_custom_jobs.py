"""A step that is a Custom Job on Vertex AI runs its own command here, and the job it stands for is recorded."""

import json

import pytest
from google_cloud_pipeline_components.v1.custom_job import create_custom_training_job_from_component
from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from emulator.custom_jobs import unwrap
from emulator.preflight import find_problems
from emulator.runner import run_job
from pipelines.compile import compile_spec
from pipelines.machines import PROFILES, apply, machines_json
from tests.emulator import samples
from tests.emulator.samples import IMAGE, spec_of
from triggers.job import check, document
from triggers.machine import lay
from triggers.request import Origin, from_document
from triggers.settings import read_settings


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(data: Input[Dataset], labels: dict, text: str, model: Output[Model]) -> str:
    import json
    import os

    with open(data.path) as source, open(model.path, "w") as target:  # noqa: PTH123 - a step's source stands alone
        target.write(source.read() + text)
    place = json.loads(os.environ.get("CLUSTER_SPEC", "{}"))
    return place.get("task", {}).get("type", "") + os.environ.get("MODE", "")


@dsl.pipeline(name="train-on-gpu")
def train_on_gpu(text: str = 'it\'s "quoted" \\ ü'):
    data = samples.make_data(rows=2)
    step = train(data=data.outputs["data"], labels={"a": 1}, text=text).set_env_variable("MODE", " fast")
    apply(step, "l4-1")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "train_on_gpu.json").write_text(json.dumps(compile_spec(train_on_gpu)))
    (folder / "machines.json").write_text(json.dumps(machines_json()))
    return folder


def job_for(compiled, **fields):
    """The PipelineJob that the trigger makes of a request."""
    origin = Origin("//pubsub.googleapis.com/projects/p/topics/t", "7", "2026-01-31T05:06:07Z")
    run = check(from_document({"version": 1, "pipeline": "train_on_gpu", **fields}), origin, compiled, "europe-west4")
    environment = {
        "GOOGLE_CLOUD_PROJECT": "demo",
        "VERTEX_LOCATION": "europe-west4",
        "PIPELINE_ROOT": "gs://bucket/root",
        "AIPLATFORM_EMULATOR_HOST": "127.0.0.1:1",
    }
    return document(run, read_settings(environment))


def test_a_spot_run_is_tried_here(compiled, tmp_path):
    job = job_for(compiled, machine="l4-1-spot")
    record = run_job(job["pipelineSpec"], job["runtimeConfig"]["parameterValues"], tmp_path / "job")

    assert record.state == "SUCCEEDED", record.error
    task = record.task("train")
    assert task.outputs.parameters["Output"] == "workerpool0 fast"
    with open(task.outputs.artifacts["model"][0].path) as file:  # noqa: PTH123
        assert file.read() == '0\n1it\'s "quoted" \\ ü'
    name = task.custom_job.pop("name")
    assert name.startswith("projects/local/locations/local/customJobs/")
    assert task.custom_job == {
        "profile": "l4-1-spot",
        "machineType": "g2-standard-8",
        "acceleratorType": "NVIDIA_L4",
        "acceleratorCount": 1,
        "strategy": "SPOT",
        "replicas": 1,
    }
    [resource] = json.loads(task.outputs.parameters["gcp_resources"])["resources"]
    assert resource["resourceUri"].endswith(name)
    assert record.task("make-data").custom_job == {}


def test_the_service_shows_the_custom_job(compiled, service):
    from tests.emulator.conftest import PARENT

    job = job_for(compiled, machine=["h200-8-spot", "l4-1-spot"], labels={"team": "nlp"})
    created = service.client.create_pipeline_job(
        parent=PARENT,
        pipeline_job={
            "pipeline_spec": job["pipelineSpec"],
            "labels": job["labels"],
            "runtime_config": {"gcs_output_directory": "gs://bucket/root"},
        },
        pipeline_job_id="spot",
    )
    done = service.wait(created.name)
    assert done.state.name == "PIPELINE_STATE_SUCCEEDED"
    assert done.labels["machine"] == "h200-8-spot"
    [task] = [task for task in done.job_detail.task_details if task.task_name == "train"]
    assert task.executor_detail.custom_job_detail.job.startswith(f"{PARENT}/customJobs/")
    recorded = dict(task.execution.metadata["custom_job"])
    assert (recorded["strategy"], recorded["machineType"]) == ("SPOT", "a3-ultragpu-8g")


def test_a_plain_run_and_a_spot_run_share_no_cached_result(compiled, tmp_path):
    runs = [
        run_job(
            job_for(compiled, **({"machine": machine} if machine else {}))["pipelineSpec"],
            {},
            tmp_path / f"job-{number}",
            cache_folder=tmp_path / "cache",
        )
        for number, machine in enumerate(["", "l4-1-spot", "l4-1-spot", "l4-1-flex"])
    ]
    assert [run.state for run in runs] == ["SUCCEEDED"] * 4
    assert [run.task("train").cached for run in runs] == [False, False, True, False]
    assert "gcp_resources" in runs[2].task("train").outputs.parameters


def test_googles_own_wrapper_runs_here_too(tmp_path):
    @dsl.component(base_image=IMAGE, install_kfp_package=False)
    def count(data: Input[Dataset], step: int) -> int:
        with open(data.path) as file:  # noqa: PTH123
            return len(file.read().split()) + step

    wrapped = create_custom_training_job_from_component(
        count, machine_type="g2-standard-12", accelerator_type="NVIDIA_L4", accelerator_count=1, strategy="SPOT"
    )

    @dsl.pipeline(name="googles")
    def googles():
        data = samples.make_data(rows=3)
        first = wrapped(data=data.outputs["data"], step=1)
        samples.note(text=first.outputs["gcp_resources"])

    record = run_job(spec_of(googles), {}, tmp_path / "job")

    assert record.state == "SUCCEEDED", record.error
    task = record.task("count")
    assert task.outputs.parameters["Output"] == 4
    assert (task.custom_job["machineType"], task.custom_job["strategy"]) == ("g2-standard-12", "SPOT")
    assert "customJobs" in record.task("note").outputs.parameters["Output"]


def test_googles_wrapper_with_settings_that_a_task_gives_is_refused_before_it_runs():
    wrapped = create_custom_training_job_from_component(train, machine_type="g2-standard-12")

    @dsl.pipeline(name="googles")
    def googles(strategy: str = "SPOT"):
        data = samples.make_data(rows=3)
        wrapped(data=data.outputs["data"], labels={}, text="", strategy=strategy)

    [problem] = find_problems(spec_of(googles), {})
    assert "google-cloud-pipeline-components" in problem.headline


@pytest.mark.parametrize("name", ["l4-1-spot", "h100-8-flex", "b200-8"])
def test_the_step_is_the_same_in_its_custom_job_and_without(name):
    plain = compile_spec(train_on_gpu)
    before = json.dumps(plain)
    spec, jobs = unwrap(lay(plain, machines_json()["machines"][name]))
    inner = spec["deploymentSpec"]["executors"]["exec-train"]["container"]
    variable = inner["env"].pop()
    assert variable["name"] == "CLUSTER_SPEC"
    expected = plain["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert inner == {key: value for key, value in expected.items() if key != "resources"}
    assert jobs["exec-train"].about["machineType"] == PROFILES[name].machine_type
    assert json.dumps(plain) == before
    assert unwrap(plain) == (plain, {})
