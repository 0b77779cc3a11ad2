import json
from dataclasses import FrozenInstanceError, replace
from datetime import date

import pytest
from google.cloud.aiplatform_v1.types import AcceleratorType, Scheduling
from kfp import dsl

from pipelines.compile import compile_spec
from pipelines.machines import OWN_PROFILES, PROFILES, apply, machines_json, make_profile
from pipelines.machines.profiles import by_name
from pipelines.machines.table import MAX_MEMORY_GIB, MAX_VCPU, STRATEGIES, accelerator_problem, machine_problem, table

PLAIN = [name for name, profile in PROFILES.items() if not profile.wrapped]
NAMED = [
    "cpu",
    "t4-1",
    "t4-4",
    "v100-8",
    "l4-1",
    "l4-2",
    "l4-4",
    "l4-8",
    "rtx6000-1",
    "rtx6000-8",
    "a100-40-1",
    "a100-40-16",
    "a100-80-2",
    "h100-1",
    "h100-8",
    "h100-mega-8",
    "h200-8",
    "b200-8",
    "l4-1-spot",
    "l4-1-flex",
    "t4-1-spot",
    "b200-8-flex",
    "rtx6000-1-spot",
    "h100-mega-8-spot",
]


def test_accelerators_and_strategies_are_those_of_googles_own_api():
    nvidia = {member.name for member in AcceleratorType if member.name.startswith("NVIDIA_")}
    # Ended before this table began.
    assert set(table()["accelerators"]) == nvidia - {"NVIDIA_TESLA_K80"}
    assert set(STRATEGIES) <= {member.name for member in Scheduling.Strategy}
    assert {s for about in table()["accelerators"].values() for s in about["strategies"]} == set(STRATEGIES)


def test_the_table_is_whole():
    date.fromisoformat(table()["as_of"]), date.fromisoformat(table()["regions_as_of"])
    assert table()["source"].startswith("https://")
    used = {name for about in table()["machine_types"].values() for name in about["accelerators"]}
    assert used == set(table()["accelerators"])
    for name, about in table()["machine_types"].items():
        assert about["vcpu"] > 0 and about["memory_gib"] > 0
        for accelerator, counts in about["accelerators"].items():
            assert counts == sorted(counts)
            if "ended" not in table()["accelerators"][accelerator]:
                assert machine_problem(name, accelerator, counts[0]) == ""


@pytest.mark.parametrize("name", NAMED)
def test_there_is_a_profile_for(name):
    assert PROFILES[name].name == name


def test_flex_start_is_for_what_google_gives_that_way():
    flex = {profile.accelerator for profile in PROFILES.values() if profile.strategy == "FLEX_START"}
    assert flex == {
        "NVIDIA_L4",
        "NVIDIA_TESLA_A100",
        "NVIDIA_A100_80GB",
        "NVIDIA_H100_80GB",
        "NVIDIA_H200_141GB",
        "NVIDIA_B200",
    }


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_plain_step_asks_for_no_more_than_vertex_picks_a_machine_for(name):
    profile = PROFILES[name]
    fits = profile.vcpu <= MAX_VCPU and profile.memory_gib <= MAX_MEMORY_GIB
    assert profile.wrapped or (fits and profile.strategy == "STANDARD")


@pytest.mark.parametrize(
    ("profile", "changes", "problem"),
    [
        ("l4-1", {"count": 2}, "takes 1 x NVIDIA_L4, not 2: 2 x NVIDIA_L4 is on g2-standard-24"),
        ("l4-1", {"machine_type": "g2-standard-24"}, "takes 2 x NVIDIA_L4, not 1"),
        ("l4-1", {"machine_type": "g2-standard-10"}, "takes no NVIDIA_L4: 1 x NVIDIA_L4 is on g2-standard-4, "),
        ("l4-1", {"machine_type": "n1-standard-8"}, "takes no NVIDIA_L4"),
        ("l4-1", {"accelerator": "NVIDIA_TESLA_T4"}, "comes with 1 x NVIDIA_L4, and with nothing else"),
        ("l4-1", {"accelerator": "", "count": 0}, "comes with 1 x NVIDIA_L4"),
        ("l4-1", {"accelerator": "NVIDIA_TESLA_L4"}, "no accelerator 'NVIDIA_TESLA_L4': use NVIDIA_L4"),
        ("t4-1", {"accelerator": "NVIDIA_TESLA_P100"}, "Google ended NVIDIA_TESLA_P100 on 2026-09-15"),
        ("a100-40-1", {"count": 3}, "takes 1 x NVIDIA_TESLA_A100, not 3: no machine has 3 x .*ask for 1 or 2 or 4 or"),
        ("t4-1", {"count": 3}, "takes 1 or 2 or 4 x"),
        ("t4-1", {"machine_type": "n1-standard-32"}, "takes 2 or 4 x"),
        ("t4-1", {"machine_type": "e2-standard-8"}, "e2-standard-8 takes no NVIDIA_TESLA_T4: 1 x NVIDIA_TESLA_T4 is"),
        ("t4-1", {"count": 0}, "give both"),
        ("t4-1", {"bf16": True}, "NVIDIA_TESLA_T4 has 16 GiB and no bf16"),
        ("t4-1", {"vcpu": 4}, "n1-standard-8 has 8 vCPU and 30 GiB"),
        ("t4-1", {"strategy": "FLEX_START"}, "NVIDIA_TESLA_T4 is given as STANDARD or SPOT"),
        ("l4-1", {"strategy": "SPOTT"}, "there is none of that name, and NVIDIA_L4 is given as STANDARD or SPOT"),
        ("cpu", {"bf16": True}, "no bf16"),
        ("cpu", {"count": 1}, "give both"),
        ("cpu", {"machine_type": "c3-standard-8"}, "trains on no c3-standard-8: use "),
        ("cpu", {"machine_type": "n1-standard-2"}, "trains on no n1-standard-2: use n1-standard-"),
        ("cpu", {"machine_type": "e2-big"}, "trains on no e2-big: use "),
        ("cpu", {"gpu_memory_gib": 16}, "GPU memory"),
        ("cpu", {"strategy": "FLEX_START"}, "a CPU is given as STANDARD or SPOT"),
        ("l4-1", {"boot_disk_gb": 50}, "100 to 64000"),
        ("l4-1", {"reservation": "mine"}, "projects/P/zones/Z/reservations/R"),
        ("l4-1-spot", {"reservation": "projects/p/zones/z/reservations/r"}, "on demand"),
        ("l4-1", {"network": "projects/p/global/networks/n"}, "with the number"),
        ("l4-1", {"replicas": 0}, "at least one"),
        ("l4-1", {"name": "L4_1"}, "a name that no label can hold"),
    ],
)
def test_a_machine_that_does_not_exist_is_refused(profile, changes, problem):
    with pytest.raises(ValueError, match=problem):
        replace(PROFILES[profile], **changes)


def test_a_profile_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        PROFILES["cpu"].count = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "more",
    [
        {"boot_disk_gb": 200},
        {"replicas": 2},
        {"network": "projects/1/global/networks/n"},
        {"reservation": "projects/p/zones/z/reservations/r"},
        {"strategy": "SPOT"},
        {"exact": True},
    ],
)
def test_what_a_plain_step_cannot_have_makes_it_a_custom_job(more):
    profile = replace(PROFILES["l4-1"], **more)
    assert profile.wrapped and profile.to_json()["wrapped"]


@pytest.mark.parametrize(
    ("profile", "disk"), [("l4-1", "pd-ssd"), ("h200-8", "hyperdisk-balanced"), ("b200-8", "hyperdisk-balanced")]
)
def test_the_newest_machines_have_another_boot_disk(profile, disk):
    assert replace(PROFILES[profile], boot_disk_gb=200).to_json()["boot_disk_type"] == disk


def test_the_profiles_are_data():
    document = json.loads(json.dumps(machines_json()))
    assert set(document["machines"]) == set(PROFILES)
    assert document["machines"]["l4-2"] == {
        "name": "l4-2",
        "machine_type": "g2-standard-24",
        "accelerator": "NVIDIA_L4",
        "count": 2,
        "vcpu": 24,
        "memory_gib": 96,
        "gpu_memory_gib": 24,
        "bf16": True,
        "strategy": "STANDARD",
        "cpu_limit": "24",
        "memory_limit": "96G",
    }
    assert "europe-west4" in document["regions"]["NVIDIA_L4"]
    assert OWN_PROFILES == ()


@dsl.component(base_image="kfp-transformers-python:0.1.0", install_kfp_package=False)
def step() -> str:
    return ""


def one_step(profile):
    @dsl.pipeline(name="one")
    def one():
        apply(step(), profile)

    return one


@pytest.mark.parametrize("name", PLAIN)
def test_a_step_asks_for_everything_the_machine_has(name):
    profile = PROFILES[name]
    resources = compile_spec(one_step(name))["deploymentSpec"]["executors"]["exec-step"]["container"]["resources"]
    assert resources["resourceMemoryLimit"] == f"{profile.memory_gib}G"
    assert resources["cpuLimit"] == profile.vcpu
    assert ("accelerator" in resources) is bool(profile.count)


def test_a_custom_job_compiled_without_our_compiler_is_refused_and_not_another_machine():
    spec = one_step("l4-1-spot").pipeline_spec
    accelerator = spec.deployment_spec["executors"]["exec-step"]["container"]["resources"]["accelerator"]
    assert accelerator["resourceType"] == "l4-1-spot"
    assert "no accelerator 'l4-1-spot'" in accelerator_problem("l4-1-spot")


@pytest.mark.parametrize("machine_type", ["g2-standard-8", "n1-standard-8"])
def test_a_profile_of_ones_own_is_compiled(machine_type):
    accelerator = {"g2-standard-8": ("NVIDIA_L4", 1), "n1-standard-8": ("", 0)}[machine_type]
    own = make_profile(f"own-{machine_type}", machine_type, *accelerator, boot_disk_gb=300)
    container = compile_spec(one_step(own))["deploymentSpec"]["executors"]["exec-step"]["container"]
    pool = json.loads(container["args"][3])["job_spec"]["worker_pool_specs"][0]
    assert pool["disk_spec"] == {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 300}
    assert pool["machine_spec"]["machine_type"] == machine_type
    with pytest.raises(ValueError, match="two GPU profiles"):
        compile_spec(one_step(replace(own, boot_disk_gb=400)))


def test_a_profile_of_ones_own_does_not_take_the_name_of_another():
    own = make_profile("l4-1", "g2-standard-12", "NVIDIA_L4", 1)
    with pytest.raises(ValueError, match="two GPU profiles 'l4-1'"):
        by_name([PROFILES["l4-1"], own])


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="Choose one of: cpu, "):
        one_step("l4")
