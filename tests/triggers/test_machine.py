import copy
from itertools import product

import pytest

from pipelines.machines import PROFILES, machines_json
from triggers.errors import ConfigurationError, PermanentError
from triggers.machine import asks_for_accelerator, choose, lay, load_machines

MACHINES = machines_json()["machines"]
GPU = [name for name, profile in PROFILES.items() if profile.accelerator]


@pytest.fixture(scope="module")
def compiled_for(compile_with):
    return {name: compile_with(name) for name in PROFILES}


@pytest.mark.parametrize(("compiled_with", "laid"), list(product(GPU, PROFILES)))
def test_laying_a_profile_on_gives_what_compiling_with_it_gives(compiled_for, compiled_with, laid):
    before = copy.deepcopy(compiled_for[compiled_with])
    assert lay(compiled_for[compiled_with], MACHINES[laid]) == compiled_for[laid]
    assert compiled_for[compiled_with] == before


def test_other_steps_keep_what_they_have(compiled_for):
    laid = lay(compiled_for["l4-1"], MACHINES["a100-80-1"])["deploymentSpec"]["executors"]
    for label, executor in compiled_for["l4-1"]["deploymentSpec"]["executors"].items():
        assert (laid[label] == executor) is (label != "exec-on-gpu")
    assert laid["exec-on-cpu"]["container"]["resources"]["resourceMemoryLimit"] == "4G"


def test_a_pipeline_without_gpu_steps_stays_as_it_is(compiled_for):
    assert lay(compiled_for["cpu"], MACHINES["l4-1"]) == compiled_for["cpu"]


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


def test_the_first_choice_is_taken():
    assert choose(MACHINES, ["t4-1", "l4-1"]) == MACHINES["t4-1"]
    assert choose(MACHINES, []) is None


@pytest.mark.parametrize("wanted", [["l4"], ["l4-1", "l4-8"]])
def test_an_unknown_machine_names_the_nearest(wanted):
    with pytest.raises(PermanentError, match=f"no machine '{wanted[-1]}'. Did you mean 'l4-"):
        choose(MACHINES, wanted)


def test_the_table_is_read_from_the_compiled_folder(compiled, tmp_path):
    assert load_machines(compiled) == MACHINES
    with pytest.raises(ConfigurationError):
        load_machines(tmp_path)
