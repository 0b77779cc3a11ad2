"""A run's own training image: only where the operator allows it."""

import json
from pathlib import Path

import pytest

from triggers import custom_job, job, machine
from triggers.errors import PermanentError
from triggers.request import Origin, parse
from triggers.settings import read_settings
from triggers.training_image import PLACEHOLDER, with_training_image

COMPILED = Path(__file__).parents[2] / "compiled"
IMAGE = "europe-west4-docker.pkg.dev/p/train/sklearn@sha256:0123"
ENVIRONMENT = {"GOOGLE_CLOUD_PROJECT": "p", "VERTEX_LOCATION": "europe-west4", "PIPELINE_ROOT": "gs://b/runs"}
PARAMETERS = {"input_uri": "gs://b/in.csv", "store_uri": "gs://b/models", "model_name": "tickets"}


def document(allowed, image=IMAGE, machine_name=None, pipeline="train_classifier_in_container"):
    request = {"version": 1, "pipeline": pipeline, "parameters": PARAMETERS | {"training_image": image}}
    if machine_name:
        request["machine"] = machine_name
    run = job.check(parse(json.dumps(request).encode()), Origin("s", "1", "2026-11-21T12:00:00Z"), COMPILED)
    settings = read_settings(ENVIRONMENT | {"TRAINING_IMAGES": allowed, "COMPONENT_IMAGE": "eu/images/python@sha256:1"})
    return job.document(run, settings)


def images(pipeline_job):
    executors = pipeline_job["pipelineSpec"]["deploymentSpec"]["executors"]
    return {label.removeprefix("exec-"): custom_job.image_of(each["container"]) for label, each in executors.items()}


@pytest.mark.parametrize(
    "allowed",
    [IMAGE, f"other:1, {IMAGE}", f"other:1 {IMAGE}\n", "europe-west4-docker.pkg.dev/p/train/sklearn@*"],
)
@pytest.mark.parametrize("machine_name", [None, "cpu", "a100-80-1-spot"])
def test_an_allowed_image_takes_the_place_of_the_placeholder_on_any_machine(allowed, machine_name):
    found = images(document(allowed, machine_name=machine_name))
    assert {name for name, image in found.items() if image == IMAGE} == {
        "train-in-container",
        "predict-in-container",
        "predict-in-container-2",
    }
    assert not any(image.startswith(PLACEHOLDER) for image in found.values())
    assert found["read-dataset"] == "eu/images/python@sha256:1"


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        ("", "It allows none: its variable TRAINING_IMAGES names no image."),
        ("a:1,b:2", "It allows: a:1, b:2."),
        (IMAGE[:-1], f"It allows: {IMAGE[:-1]}."),
        ("sklearn*", "It allows: sklearn*."),
    ],
)
def test_any_other_image_is_refused_for_good(allowed, said):
    with pytest.raises(PermanentError, match="does not allow the training image") as refused:
        document(allowed)
    assert refused.value.remedy == said


def test_an_empty_image_is_refused():
    with pytest.raises(PermanentError, match="names none"):
        document("*", image="")


def test_a_pipeline_without_a_training_image_stays_as_it_is():
    spec = json.loads((COMPILED / "basic.json").read_text())
    assert with_training_image(spec, {}, ()) is spec


def test_a_gpu_profile_and_the_image_can_be_laid_on_in_either_order():
    spec = json.loads((COMPILED / "train_classifier_in_container.json").read_text())
    profile = machine.load_machines(COMPILED)["l4-1-spot"]
    given = {"training_image": IMAGE}
    one = with_training_image(machine.lay(spec, profile), given, None)
    assert one == machine.lay(with_training_image(spec, given, None), profile)
