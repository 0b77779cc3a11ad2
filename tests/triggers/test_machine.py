import copy
import json
from itertools import product

import pytest
from google.protobuf import json_format
from google_cloud_pipeline_components import _image
from google_cloud_pipeline_components.v1.custom_job import create_custom_training_job_from_component
from hypothesis import assume, given
from hypothesis import strategies as st
from kfp import dsl

from emulator.custom_jobs import unwrap
from pipelines.compile import compile_spec
from pipelines.machines import PROFILES, apply, machines_json, make_profile
from triggers import custom_job
from triggers.errors import ConfigurationError, PermanentError
from triggers.machine import asks_for_accelerator, choose, lay, load_machines
from triggers.spec import declared_parameters

MACHINES = machines_json()["machines"]
GPU = [name for name, profile in PROFILES.items() if profile.accelerator]
RESERVED = make_profile(
    "h200-8-reserved",
    "a3-ultragpu-8g",
    "NVIDIA_H200_141GB",
    8,
    reservation="projects/p/zones/europe-west4-a/reservations/r",
    network="projects/123/global/networks/n",
    boot_disk_gb=500,
    replicas=3,
)


@pytest.fixture(scope="module")
def compiled_for(compile_with):
    return {name: compile_with(name) for name in PROFILES}


def test_laying_a_profile_on_gives_what_compiling_with_it_gives(compiled_for):
    before = copy.deepcopy(compiled_for)
    for compiled_with, laid in product(GPU, PROFILES):
        assert lay(compiled_for[compiled_with], MACHINES[laid]) == compiled_for[laid], (compiled_with, laid)
    assert compiled_for == before


def test_laying_another_profile_on_and_the_first_again_changes_nothing(compiled_for):
    for first, second in product(GPU, GPU):
        there = lay(compiled_for[first], MACHINES[second])
        assert lay(there, MACHINES[first]) == compiled_for[first], (first, second)


@pytest.mark.parametrize("laid", ["a100-80-1", "l4-1-spot"])
def test_other_steps_keep_what_they_have(compiled_for, laid):
    after = lay(compiled_for["l4-1"], MACHINES[laid])["deploymentSpec"]["executors"]
    for label, executor in compiled_for["l4-1"]["deploymentSpec"]["executors"].items():
        assert (after[label] == executor) is (label != "exec-on-gpu")
    assert after["exec-on-cpu"]["container"]["resources"]["resourceMemoryLimit"] == "4G"


@pytest.mark.parametrize("laid", ["l4-1", "l4-1-spot"])
def test_a_pipeline_without_gpu_steps_stays_as_it_is(compiled_for, laid):
    assert lay(compiled_for["cpu"], MACHINES[laid]) == compiled_for["cpu"]


def test_the_parameters_of_the_pipeline_stay_as_they_are(compiled_for):
    assert {str(declared_parameters(spec)) for spec in compiled_for.values()} == {
        str(declared_parameters(compiled_for["cpu"]))
    }


@pytest.mark.parametrize(
    ("accelerator", "asks"),
    [
        ({"type": "NVIDIA_L4", "count": "1"}, True),
        ({"resourceType": "{{$.inputs.parameters['gpu']}}", "resourceCount": "1"}, True),
        ({"type": "NVIDIA_L4", "count": "0", "resourceType": "NVIDIA_L4", "resourceCount": "0"}, False),
        ({}, False),
    ],
)
def test_a_step_asks_for_an_accelerator(accelerator, asks):
    assert asks_for_accelerator({"container": {"resources": {"accelerator": accelerator}}}) is asks


@dsl.component(base_image="kfp-transformers-python:0.1.0", install_kfp_package=False)
def train(labels: dict, network: str, data: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model]) -> str:
    """Its inputs have names that Google's wrapper takes for its own."""
    print('"quoted" \\ ü')
    return network


def ours(profile):
    """The executor and the component of a wrapped step that has an environment variable."""

    @dsl.pipeline(name="one")
    def one():
        data = dsl.importer(artifact_uri="gs://b/d", artifact_class=dsl.Dataset)
        step = train(labels={}, network="n", data=data.output).set_env_variable("MODE", "fast")
        apply(step, profile)

    spec = compile_spec(one)
    return spec["deploymentSpec"]["executors"]["exec-train"]["container"], spec["components"]["comp-train"]


def googles(profile):
    """The same step in Google's own wrapper; the variable is given again, since the wrapper loses it."""

    @dsl.component(base_image="kfp-transformers-python:0.1.0", install_kfp_package=False)
    def train(hues: dict, web: str, data: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model]) -> str:
        return web

    reservation = (
        {
            "reservation_affinity_type": "SPECIFIC_RESERVATION",
            "reservation_affinity_key": "compute.googleapis.com/reservation-name",
            "reservation_affinity_values": [profile.reservation],
        }
        if profile.reservation
        else {}
    )
    wrapped = create_custom_training_job_from_component(
        train,
        machine_type=profile.machine_type,
        accelerator_type=profile.accelerator,
        accelerator_count=profile.count,
        replica_count=profile.replicas,
        # Its own default, pd-ssd, is refused by the newest machines; '' leaves the choice to Vertex AI.
        boot_disk_type=profile.boot_disk_type if profile.boot_disk_gb else "",
        boot_disk_size_gb=profile.boot_disk_gb,
        strategy=profile.strategy,
        network=profile.network,
        labels={"machine": profile.name},
        service_account="{{$.pipeline_service_account}}",
        env=[{"name": "MODE", "value": "fast"}],
        **reservation,
    )
    spec = json_format.MessageToDict(wrapped.pipeline_spec)
    (executor,), (component,) = spec["deploymentSpec"]["executors"].values(), spec["components"].values()
    return executor["container"], component


def job_that_is_sent(container, component):
    """The Custom Job after the component's inputs are filled in, as Google's launcher sends it: nothing empty in it."""
    payload = container["args"][container["args"].index("--payload") + 1]
    for name, definition in component["inputDefinitions"].get("parameters", {}).items():
        default = definition.get("defaultValue", {"STRUCT": {}, "LIST": []}.get(definition["parameterType"]))
        text = default if definition["parameterType"] == "STRING" else json.dumps(default)
        payload = payload.replace(f"{{{{$.inputs.parameters['{name}']}}}}", text or "")
    job = without_empty(json.loads(payload))
    if job["job_spec"]["scheduling"]["strategy"] != "FLEX_START":
        job["job_spec"]["scheduling"].pop("max_wait_duration", None)
    return job


def without_empty(value):
    if isinstance(value, dict):
        return {k: v for k, v in ((k, without_empty(v)) for k, v in value.items()) if v not in ("", 0, False, {}, [])}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "profile", [PROFILES["l4-1-spot"], PROFILES["h100-8-flex"], PROFILES["b200-8"], RESERVED], ids=lambda p: p.name
)
def test_a_wrapped_step_is_the_custom_job_that_googles_wrapper_makes(profile):
    (container, component), (expected, expected_component) = ours(profile), googles(profile)
    assert (container["image"], container["command"]) == (expected["image"], expected["command"])
    assert container["args"][-2:] == expected["args"][-2:]
    job, expected_job = job_that_is_sent(container, component), job_that_is_sent(expected, expected_component)
    # The two components differ in their source, which is not what is compared.
    for pool in (*job["job_spec"]["worker_pool_specs"], *expected_job["job_spec"]["worker_pool_specs"]):
        assert "def train(" in pool["container_spec"]["command"].pop()
    assert job == expected_job
    assert component["outputDefinitions"]["parameters"]["gcp_resources"] == {"parameterType": "STRING"}
    assert set(component["inputDefinitions"]["parameters"]) == {"labels", "network"}


def test_the_launcher_is_that_of_the_installed_components():
    assert custom_job.LAUNCHER_IMAGE == _image.GCPC_IMAGE_TAG


def test_a_custom_job_runs_as_the_pipelines_account():
    job = custom_job.job_of(ours(PROFILES["l4-1-spot"])[0])
    assert job["job_spec"]["service_account"] == "{{$.pipeline_service_account}}"
    assert job["job_spec"]["worker_pool_specs"][0]["container_spec"]["env"] == [{"name": "MODE", "value": "fast"}]


def test_placeholders_are_escaped_inside_the_job_and_come_back():
    place, text = "{{$.inputs.artifacts['d'].path}}", "{{$.inputs.parameters['t']}}"
    inner = {"image": "i", "command": ["run", "{{$}}", f"--in={place}", text], "args": ["--x={{$}}"]}
    container = custom_job.wrap(inner, MACHINES["l4-1-spot"], "run")
    spec = custom_job.job_of(container)["job_spec"]["worker_pool_specs"][0]["container_spec"]
    escaped = text.replace("}}", ".json_escape[0]}}")
    # A place has no quotes, and Google's own components escape none.
    assert spec["command"][1:] == ["{{$.json_escape[1]}}", f"--in={place}", escaped]
    assert spec["args"] == ["--x={{$.json_escape[1]}}"]
    assert custom_job.unwrap(container) == inner


_parts = st.one_of(
    st.text(), st.sampled_from(["{{$}}", "--x={{$.inputs.parameters['a b'].value}} {{$}}", '"\\"', "{{$", "{{}}", "}}"])
)


@given(
    command=st.lists(_parts),
    args=st.none() | st.lists(_parts),
    env=st.none() | st.dictionaries(st.text(min_size=1), st.text(), max_size=5),
    name=st.sampled_from([name for name, profile in PROFILES.items() if profile.wrapped]),
)
def test_whatever_is_wrapped_comes_back_as_it_was(command, args, env, name):
    assume("json_escape" not in str((command, args)))
    inner = {"image": "i", "command": command}
    inner |= {"args": args} if args is not None else {}
    inner |= {"env": [{"name": key, "value": value} for key, value in env.items()]} if env is not None else {}
    container = custom_job.wrap(inner, MACHINES[name], "run")
    assert custom_job.unwrap(container) == inner
    assert custom_job.unwrap(custom_job.with_image(container, "j")) == inner | {"image": "j"}
    assert unwrap_as_the_emulator_does(container)["command"] == command


def unwrap_as_the_emulator_does(container):
    component = {"executorLabel": "exec-a", "outputDefinitions": {"parameters": {"gcp_resources": {}}}}
    spec = {
        "root": {"dag": {"tasks": {"a": {"componentRef": {"name": "comp-a"}}}}},
        "components": {"comp-a": component},
        "deploymentSpec": {"executors": {"exec-a": {"container": container}}},
    }
    return unwrap(spec)[0]["deploymentSpec"]["executors"]["exec-a"]["container"]


def test_what_a_custom_job_has_not_is_refused():
    with pytest.raises(PermanentError, match="lifecycle"):
        custom_job.wrap({"image": "i", "lifecycle": {}}, MACHINES["l4-1-spot"], "run")
    many = [{"name": f"V{n}", "value": ""} for n in range(101)]
    with pytest.raises(PermanentError, match="more than 100 environment variables"):
        custom_job.wrap({"image": "i", "env": many}, MACHINES["l4-1-spot"], "run")


def test_an_output_of_the_launchers_name_is_refused(compiled_for):
    spec = copy.deepcopy(compiled_for["l4-1"])
    component = next(c for c in spec["components"].values() if c.get("executorLabel") == "exec-on-gpu")
    component["outputDefinitions"]["parameters"]["gcp_resources"] = {"parameterType": "STRING"}
    with pytest.raises(PermanentError, match="has an output gcp_resources"):
        lay(spec, MACHINES["l4-1-spot"])


def test_googles_own_wrapped_step_is_left_alone():
    container, _ = googles(PROFILES["l4-1-spot"])
    assert not asks_for_accelerator({"container": container})


def test_the_first_choice_is_taken():
    assert choose(MACHINES, ["t4-1", "l4-1"]).profile == MACHINES["t4-1"]
    assert not choose(MACHINES, []).profile and choose(MACHINES, []).labels == {}


def test_the_first_choice_that_the_region_offers_is_taken_and_said(compiled):
    choice = choose(load_machines(compiled), ["h100-8-spot", "a100-80-1", "t4-1"], "us-east1")
    assert choice.name == "t4-1"
    assert choice.labels == {"machine": "t4-1", "machines-passed-over": "h100-8-spot_a100-80-1"}
    assert str(choice) == "t4-1, because us-east1 offers no h100-8-spot and no a100-80-1"
    # What the table does not know of is taken at its word.
    assert choose(load_machines(compiled), ["b200-8", "t4-1"], "us-east1").name == "b200-8"


def test_a_region_that_offers_none_is_named_with_the_nearest_that_it_has(compiled):
    with pytest.raises(PermanentError, match="us-east1 offers no a100-80-1. The nearest are: a100-40-2, l4-4") as error:
        choose(load_machines(compiled), ["a100-80-1"], "us-east1")
    assert "a100-80-1 is in asia-southeast1, europe-west4" in str(error.value)


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [
        (["l4"], "l4-1, l4-2, l4-4, l4-8, l4-1-"),
        (["l4-1", "l4-16"], "l4-1, "),
        (["L4_1-Spot"], "l4-1-spot, "),
        (["t4-1-flex"], "t4-1, "),
        (["a100-1"], "a100-40-1, a100-80-1, "),
        (["NVIDIA_L4"], "l4-1, l4-1-spot, "),
        (["NVIDIA_TESLA_A100"], "a100-40-1, "),
        (["g2-standard-24"], "l4-2, l4-2-spot, "),
        ([""], ""),
    ],
)
def test_an_unknown_machine_names_the_nearest(wanted, nearest):
    with pytest.raises(PermanentError, match=f"no machine '{wanted[-1]}'. The nearest are: {nearest}") as error:
        choose(MACHINES, wanted)
    assert len(error.value.remedy.split(",")) == 5


def test_the_table_is_read_from_the_compiled_folder(compiled, tmp_path):
    machines = load_machines(compiled)
    assert machines.keys() == MACHINES.keys()
    assert "europe-west4" in machines["l4-1-spot"]["regions"]
    with pytest.raises(ConfigurationError):
        load_machines(tmp_path)
