import json
from dataclasses import FrozenInstanceError, asdict, replace

import pytest
from kfp import dsl

from pipelines.machines import MAX_MEMORY_GIB, MAX_VCPU, PROFILES, apply, machines_json, main

NAMES = {"cpu", "t4-1", "l4-1", "l4-2", "l4-4", "a100-40-1", "a100-80-1", "h100-1", "v100-1"}


def test_the_table_is_what_vertex_picks_a_machine_from():
    assert set(PROFILES) == NAMES
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert profile.vcpu <= MAX_VCPU
        assert profile.memory_gib <= MAX_MEMORY_GIB


@pytest.mark.parametrize(
    ("profile", "changes", "problem"),
    [
        ("l4-1", {"count": 2}, "takes 1"),
        ("l4-1", {"machine_type": "g2-standard-24"}, "takes 2"),
        ("l4-1", {"machine_type": "g2-standard-10"}, "no such GPU"),
        ("l4-1", {"machine_type": "n1-standard-8"}, "no such GPU"),
        ("l4-1", {"accelerator": "NVIDIA_TESLA_T4"}, "no such GPU"),
        ("l4-1", {"accelerator": "", "count": 0, "gpu_memory_gib": 0}, "no such GPU"),
        ("t4-1", {"count": 3}, "takes 1 or 2 or 4"),
        ("t4-1", {"machine_type": "n1-standard-32"}, "takes 2 or 4"),
        ("t4-1", {"machine_type": "e2-standard-8"}, "no such GPU"),
        ("t4-1", {"bf16": True}, "bf16"),
        ("cpu", {"bf16": True}, "bf16"),
        ("cpu", {"count": 1}, "takes 0"),
        ("cpu", {"machine_type": "c3-standard-8"}, "no such GPU"),
        ("cpu", {"gpu_memory_gib": 16}, "GPU memory"),
        ("cpu", {"vcpu": 97}, "1 to 96"),
        ("cpu", {"memory_gib": 625}, "1 to 624"),
        ("cpu", {"strategy": "SPOT"}, "STANDARD"),
    ],
)
def test_a_machine_that_does_not_exist_is_refused(profile, changes, problem):
    with pytest.raises(ValueError, match=problem):
        replace(PROFILES[profile], **changes)


def test_a_profile_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        PROFILES["cpu"].count = 1  # type: ignore[misc]


def test_the_profiles_are_data():
    document = json.loads(json.dumps(machines_json()))
    assert set(document["machines"]) == NAMES
    assert document["machines"]["l4-2"] == asdict(PROFILES["l4-2"]) | {"cpu_limit": "24", "memory_limit": "96G"}


@dsl.component(base_image="kfp-transformers-python:0.1.0", install_kfp_package=False)
def step() -> str:
    return ""


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_step_asks_for_everything_the_machine_has(name):
    @dsl.pipeline(name="one")
    def one():
        apply(step(), name)

    profile = PROFILES[name]
    resources = one.pipeline_spec.deployment_spec["executors"]["exec-step"]["container"]["resources"]
    assert resources["resourceMemoryLimit"] == f"{profile.memory_gib}G"
    assert resources["cpuLimit"] == profile.vcpu
    assert ("accelerator" in resources) is bool(profile.count)


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="Choose one of: cpu, "):

        @dsl.pipeline(name="one")
        def one():
            apply(step(), "l4")


def test_the_table_is_printed(capsys):
    main()
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)
