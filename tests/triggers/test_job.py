import copy

import pytest

from triggers import custom_job
from triggers.errors import ConfigurationError, PermanentError
from triggers.job import check, document, with_image, without_caching
from triggers.request import Origin, from_document
from triggers.settings import read_settings, topic_path

ORIGIN = Origin("//pubsub.googleapis.com/projects/p/topics/t", "7", "2026-01-31T05:06:07Z")
ENVIRONMENT = {
    "GOOGLE_CLOUD_PROJECT": "my-project",
    "VERTEX_LOCATION": "europe-west4",
    "PIPELINE_ROOT": "gs://bucket/root/",
    "COMPONENT_IMAGE": "registry/image@sha256:00",
}


@pytest.fixture
def checked(compiled):
    def make(**fields):
        parameters = {"count": 1} | fields.pop("parameters", {})
        return check(
            from_document({"version": 1, "pipeline": "two_steps", "parameters": parameters, **fields}), ORIGIN, compiled
        )

    return make


def test_the_run_key_is_given_to_a_pipeline_that_takes_it(checked):
    assert checked(run_key="k").parameters["run_key"] == "k"
    assert checked(run_key="k", parameters={"run_key": "mine"}).parameters["run_key"] == "mine"
    assert checked().parameters["run_key"] == f"{ORIGIN.source}/7@{ORIGIN.published}"


def test_a_run_key_that_can_be_a_label_is_one(checked):
    assert checked(run_key="weekly-{date}").labels["run-key"] == "weekly-2026-01-31"
    # Of letters beyond ASCII, the service takes some only: a label that it refuses would cost a valid run.
    for run_key in ("Weekly", "a b", "x" * 64, "wöchentlich", "m²", "\N{MODIFIER LETTER SMALL H}", None):
        assert "run-key" not in checked(run_key=run_key).labels


@pytest.mark.parametrize("labels", [{"team": "nlp"}, {"a-b_c": ""}, {"ä": "ö1"}, {"x" * 63: "y" * 63}])
def test_a_label_within_the_rules_is_kept(checked, labels):
    assert labels.items() <= checked(labels=labels).labels.items()


@pytest.mark.parametrize(
    "labels",
    [
        {"Team": "a"},
        {"team": "A"},
        {"1a": "a"},
        {"": "a"},
        {"a b": "a"},
        {"a": "b.c"},
        {"x" * 64: "a"},
        {"a": "x" * 64},
        {"pipeline": "a"},
        {"request-fingerprint": "a"},
        {"message-id": "1"},
        {"trace": "a"},
        {f"a{number}": "" for number in range(61)},
    ],
)
def test_a_label_against_the_rules_is_refused(checked, labels):
    with pytest.raises(PermanentError, match="label"):
        checked(labels=labels)


def test_a_display_name_is_cut(checked):
    run = checked(run_key="k" * 256)
    assert len(document(run, read_settings(ENVIRONMENT))["displayName"]) == 128


def test_the_job_names_image_root_and_account(checked, two_steps):
    settings = read_settings(ENVIRONMENT | {"PIPELINE_SERVICE_ACCOUNT": "runs@my-project.iam.gserviceaccount.com"})
    job = document(checked(), settings)
    assert job["serviceAccount"] == "runs@my-project.iam.gserviceaccount.com"
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/root"
    images = {
        label: executor["container"]["image"]
        for label, executor in job["pipelineSpec"]["deploymentSpec"]["executors"].items()
    }
    assert images == {
        "exec-on-gpu": "registry/image@sha256:00",
        "exec-on-cpu": "registry/image@sha256:00",
        "exec-elsewhere": "python:3.11",
    }
    assert settings.endpoint == "https://europe-west4-aiplatform.googleapis.com"


def test_a_custom_job_runs_the_components_image_too(checked):
    run = checked(machine="l4-1-spot")
    container = document(run, read_settings(ENVIRONMENT))["pipelineSpec"]["deploymentSpec"]["executors"]["exec-on-gpu"]
    assert custom_job.image_of(container["container"]) == "registry/image@sha256:00"
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "COMPONENT_IMAGE"}
    with pytest.raises(ConfigurationError, match="COMPONENT_IMAGE is not set"):
        document(run, read_settings(environment))


def test_the_constant_image_never_reaches_vertex(checked):
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "COMPONENT_IMAGE"}
    with pytest.raises(ConfigurationError, match="COMPONENT_IMAGE is not set"):
        document(checked(), read_settings(environment))
    local = read_settings(environment | {"AIPLATFORM_EMULATOR_HOST": "127.0.0.1:8080"})
    image = document(checked(), local)["pipelineSpec"]["deploymentSpec"]["executors"]["exec-on-gpu"]["container"]
    assert image["image"] == "kfp-transformers-python:0.1.0"


def caching(spec):
    dags = [spec["root"], *spec["components"].values()]
    tasks = {name: task for dag in dags if "dag" in dag for name, task in dag["dag"]["tasks"].items()}
    return {name: task.get("cachingOptions", {}).get("enableCache", False) for name, task in tasks.items()}


@pytest.mark.parametrize("wanted", [None, True])
def test_caching_is_never_switched_on(checked, two_steps, wanted):
    assert caching(checked(enable_caching=wanted).spec) == caching(two_steps)
    assert not caching(two_steps)["on-cpu"]
    assert caching(two_steps)["on-gpu"]


def test_caching_is_switched_off_everywhere(checked):
    assert not any(caching(checked(enable_caching=False).spec).values())


def test_what_is_laid_on_a_spec_leaves_the_spec_as_it_was(two_steps):
    before = copy.deepcopy(two_steps)
    without_caching(two_steps)
    with_image(two_steps, "other")
    assert two_steps == before


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"GOOGLE_CLOUD_PROJECT": ""}, "GOOGLE_CLOUD_PROJECT is not set"),
        ({"VERTEX_LOCATION": ""}, "VERTEX_LOCATION is not set"),
        ({"PIPELINE_ROOT": ""}, "PIPELINE_ROOT is not set"),
        ({"PIPELINE_ROOT": "/tmp/root"}, "PIPELINE_ROOT is '/tmp/root'"),  # noqa: S108
        ({"AIPLATFORM_EMULATOR_HOST": "http://127.0.0.1:1"}, "AIPLATFORM_EMULATOR_HOST is"),
        ({"VERTEX_TIMEOUT_SECONDS": "0"}, "VERTEX_TIMEOUT_SECONDS is '0'"),
        ({"VERTEX_TIMEOUT_SECONDS": "soon"}, "VERTEX_TIMEOUT_SECONDS is 'soon'"),
    ],
)
def test_a_wrong_setting_is_named(changes, problem):
    with pytest.raises(ConfigurationError, match=problem):
        read_settings(ENVIRONMENT | changes)


def test_the_timeout_is_half_a_minute_unless_it_is_set():
    assert read_settings(ENVIRONMENT).timeout == 30
    assert read_settings(ENVIRONMENT | {"VERTEX_TIMEOUT_SECONDS": "5"}).timeout == 5


def test_the_message_and_its_trace_are_labels_where_they_can_be(checked, compiled):
    def labels(**origin):
        request = from_document({"version": 1, "pipeline": "two_steps", "parameters": {"count": 1}})
        return check(request, Origin(**{"source": "s", "published": ORIGIN.published, **origin}), compiled).labels

    found = labels(id="4711", trace="a" * 32)
    assert (found["message-id"], found["trace"]) == ("4711", "a" * 32)
    assert not {"message-id", "trace"} & labels(id="").keys()
    assert not {"message-id", "trace"} & labels(id="An id. " * 20, trace="A").keys()


def test_a_topic_is_named_in_full_or_within_the_project():
    assert topic_path("projects/p/topics/t", "X", {}) == "projects/p/topics/t"
    assert topic_path("t", "X", {"GOOGLE_CLOUD_PROJECT": "p"}) == "projects/p/topics/t"
    with pytest.raises(ConfigurationError, match="GOOGLE_CLOUD_PROJECT"):
        topic_path("t", "X", {})
    with pytest.raises(ConfigurationError, match="X is"):
        topic_path("projects/p/t", "X", {})
