import copy

from kfp import dsl

from pipelines.compile import PIPELINES, compile_pipeline, compile_spec
from pipelines.compile.retries import DEFAULT_POLICY, retry_steps


@dsl.component(base_image="kfp-transformers-python:0.1.0", install_kfp_package=False)
def step() -> str:
    return ""


@dsl.pipeline(name="inner")
def inner():
    step()


@dsl.pipeline(name="outer")
def outer():
    step()
    step().set_retry(0)
    step().set_retry(5, backoff_duration="1s")
    dsl.importer(artifact_uri="gs://b/o", artifact_class=dsl.Dataset)
    inner()


def policies(spec):
    dags = [spec["root"], *spec["components"].values()]
    tasks = {name: task for each in dags for name, task in each.get("dag", {}).get("tasks", {}).items()}
    return {name: task.get("retryPolicy", {}) for name, task in tasks.items()}


def test_a_step_without_a_policy_is_tried_twice_and_the_authors_choice_is_kept():
    found = policies(compile_spec(outer))
    assert found["step"] == DEFAULT_POLICY and DEFAULT_POLICY["maxRetryCount"] == 1
    assert not found["step-2"].get("maxRetryCount")
    assert found["step-3"]["maxRetryCount"] == 5
    assert found["importer"] == found["inner"] == {}


def test_the_spec_that_is_given_stays_as_it_is():
    spec = compile_spec(outer)
    for task in spec["root"]["dag"]["tasks"].values():
        task.pop("retryPolicy", None)
    before = copy.deepcopy(spec)
    assert retry_steps(spec) != before == spec


def test_every_step_of_ours_is_tried_again():
    for name in PIPELINES:
        spec = compile_pipeline(name)
        dags = [spec["root"], *spec["components"].values()]
        for task in (task for each in dags for task in each.get("dag", {}).get("tasks", {}).values()):
            is_step = "executorLabel" in spec["components"][task["componentRef"]["name"]]
            assert bool(task.get("retryPolicy")) is is_step, (name, task)
