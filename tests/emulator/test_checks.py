"""What Vertex AI checks when a job is created."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.checks import check_job, check_job_id
from emulator.errors import ApiError
from tests.emulator import samples
from tests.emulator.samples import spec_of

SPEC = spec_of(samples.one_step)


def job(**changes):
    return {"pipelineSpec": SPEC, "runtimeConfig": {"gcsOutputDirectory": "gs://bucket/root"}, **changes}


def runtime(**changes):
    return job(runtimeConfig={"gcsOutputDirectory": "gs://bucket/root", **changes})


@pytest.mark.parametrize("job_id", ["a", "a-1", "z" * 127])
def test_good_id(job_id):
    check_job_id(job_id)


@pytest.mark.parametrize("job_id", ["", "A", "1a", "-a", "a_b", "a\n", "z" * 128, "\u212a", "a\u0660"])
def test_bad_id(job_id):
    with pytest.raises(ApiError, match="invalid"):
        check_job_id(job_id)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "JSON object"),
        (job(displayName="x" * 129), "display_name"),
        (job(labels={"Key": "x"}), "label key 'Key'"),
        (job(labels={"k" * 64: "x"}), "label key"),
        (job(labels={"1k": "x"}), "label key"),
        (job(labels={"k": "v" * 64}), "label k"),
        (job(labels={"k": "Upper"}), "label k"),
        (job(labels={"k": 1}), "label k"),
        (job(labels={f"k{n}": "" for n in range(65)}), "at most 64"),
        (job(labels={"vertex-ai-pipelines-run-billing-id": "1"}), "reserved"),
        (job(pipelineSpec=None), "missing"),
        (job(pipelineSpec=None, templateUri="https://x/y"), "template_uri"),
        (job(pipelineSpec={**SPEC, "schemaVersion": "2.0.0"}), "schema_version"),
        (job(runtimeConfig={"gcsOutputDirectory": "/tmp/x"}), "gs://"),
        (job(runtimeConfig={}), "gs://"),
        (runtime(parameters={"text": {"stringValue": "x"}}), "parameter_values"),
        (runtime(failurePolicy="SLOW"), "failure_policy"),
        (runtime(parameterValues=["x"]), "JSON object"),
        (
            runtime(parameterValues={"nope": 1, "other": 2}),
            "Unknown pipeline parameters: nope, other. The pipeline has:",
        ),
        (runtime(parameterValues={"text": 1}), "text must be STRING"),
        (runtime(parameterValues={"count": 1.5}), "count must be NUMBER_INTEGER"),
        (runtime(parameterValues={"count": True}), "count must be NUMBER_INTEGER"),
        (runtime(parameterValues={"count": "1"}), "count must be NUMBER_INTEGER"),
        (runtime(parameterValues={"ratio": "1"}), "ratio must be NUMBER_DOUBLE"),
        (runtime(parameterValues={"on": 1}), "on must be BOOLEAN"),
        (runtime(parameterValues={"items": {}}), "items must be LIST"),
        (runtime(parameterValues={"more": []}), "more must be STRUCT"),
        (runtime(parameterValues={"text": "{{$.x}}"}), "placeholder"),
        ({**job(), "pipelineSpec": spec_of(samples.batch)}, "Missing pipeline parameters: said"),
    ],
)
def test_refused(body, said):
    with pytest.raises(ApiError) as refused:
        check_job(body)
    assert (refused.value.status, refused.value.code) == ("INVALID_ARGUMENT", 400)
    assert said in refused.value.message


def test_accepted_without_what_only_the_service_sets():
    values = {"text": "x", "count": 5.0, "ratio": 1, "on": False, "items": [1], "more": {"a": None}}
    body = {
        **runtime(parameterValues=values, failurePolicy=2),
        "state": 4,
        "name": "x",
        "labels": {"größe": "klein_1-x"},
    }
    checked = check_job(body)
    assert "state" not in checked and "name" not in checked
    assert checked["runtimeConfig"]["failurePolicy"] == "PIPELINE_FAILURE_POLICY_FAIL_FAST"
    assert checked["runtimeConfig"]["parameterValues"] == values


@given(st.integers(-(2**53), 2**53))
def test_every_whole_number_survives_as_a_double(number):
    check_job(runtime(parameterValues={"count": float(number)}))
