import copy

import pytest

from pipelines.compile.interface import compare, verdict
from pipelines.machines import machines_json

SPEC = {
    "pipelineInfo": {"name": "p"},
    "root": {
        "inputDefinitions": {
            "parameters": {
                "uri": {"parameterType": "STRING"},
                "count": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1.0, "isOptional": True},
            },
            "artifacts": {"data": {"artifactType": {"schemaTitle": "system.Dataset"}}},
        },
        "outputDefinitions": {"artifacts": {"model": {"artifactType": {"schemaTitle": "system.Model"}}}},
    },
}


def parameters(spec):
    return spec["root"]["inputDefinitions"]["parameters"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda s: None, "interface unchanged"),
        (lambda s: parameters(s).pop("uri"), "BREAKING: the parameter uri was removed"),
        (
            lambda s: parameters(s)["count"].update(parameterType="STRING"),
            "BREAKING: the parameter count is STRING, was NUMBER_INTEGER",
        ),
        (
            lambda s: parameters(s)["count"].update(parameterType="NUMBER_DOUBLE"),
            "compatible: the parameter count is NUMBER_DOUBLE, was NUMBER_INTEGER",
        ),
        (
            lambda s: parameters(s).update(x={"parameterType": "STRING"}),
            "BREAKING: the parameter x is new, and required",
        ),
        (
            lambda s: parameters(s).update(x={"parameterType": "STRING", "isOptional": True}),
            "compatible: the parameter x is new, and optional",
        ),
        (
            lambda s: parameters(s).update(count={"parameterType": "NUMBER_INTEGER"}),
            "BREAKING: the parameter count is required now",
        ),
        (lambda s: parameters(s)["uri"].update(isOptional=True), "compatible: the parameter uri is optional now"),
        (
            lambda s: parameters(s)["count"].update(defaultValue=2.0),
            "compatible: the parameter count has the default 2.0, had 1.0",
        ),
        (lambda s: s["root"].pop("outputDefinitions"), "BREAKING: the output model was removed"),
        (
            lambda s: s["root"]["inputDefinitions"]["artifacts"]["data"].update(isArtifactList=True),
            "BREAKING: the artifact input data is a list of system.Dataset, was system.Dataset",
        ),
        (
            lambda s: s["pipelineInfo"].update(name="q"),
            "compatible: the name is q, was p: no cached result is found under it",
        ),
    ],
)
def test_the_verdict(change, line):
    after = copy.deepcopy(SPEC)
    change(after)
    assert verdict(compare(SPEC, after)) == line


def test_breaking_changes_stand_first():
    after = copy.deepcopy(SPEC)
    parameters(after)["new"] = {"parameterType": "STRING", "isOptional": True}
    del parameters(after)["uri"]
    assert verdict(compare(SPEC, after)).startswith("BREAKING: the parameter uri was removed; the parameter new is")


def test_changes_of_a_kind_stand_in_the_order_of_their_names():
    after = copy.deepcopy(SPEC)
    parameters(after).update({name: {"parameterType": "STRING", "isOptional": True} for name in "zyxwvabcd"})
    added, removed = compare(SPEC, after), compare(after, SPEC)
    assert [change.text.split()[2] for change in added] == sorted("zyxwvabcd")
    assert [change.text.split()[2] for change in removed] == sorted("zyxwvabcd")


def test_another_gpu_under_the_same_name_is_shown():
    before, after = machines_json(), machines_json()
    after["machines"]["v100-1"] |= {"accelerator": "NVIDIA_TESLA_T4"}
    assert verdict(compare(before, after)) == (
        "compatible: the machine v100-1 is 1 x NVIDIA_TESLA_T4 on n1-standard-8, was 1 x NVIDIA_TESLA_V100 on "
        "n1-standard-8"
    )


def test_a_region_without_a_gpu_that_it_had_breaks_requests():
    before, after = machines_json(), machines_json()
    after["regions"]["NVIDIA_L4"].remove("europe-west4")
    assert verdict(compare(before, after)) == "BREAKING: NVIDIA_L4 is no longer in europe-west4"
    assert verdict(compare(after, before)) == "compatible: NVIDIA_L4 is also in europe-west4"
    del before["regions"]["NVIDIA_L4"]
    assert verdict(compare(before, machines_json())).startswith("BREAKING: NVIDIA_L4 was taken to be everywhere, is in")


def test_a_machine_that_was_removed_breaks_requests():
    before, after = machines_json(), machines_json()
    del after["machines"]["l4-1"]
    assert verdict(compare(before, after)) == "BREAKING: the machine l4-1 was removed"
    assert verdict(compare(after, before)) == "compatible: 1 new machine: l4-1"
