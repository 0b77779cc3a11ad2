import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google_cloud_pipeline_components.v1.custom_job import (
    CustomTrainingJobOp,
    create_custom_training_job_from_component,
)
from kfp import compiler, dsl, kubernetes
from kfp.dsl import Dataset, Output

from components.errors import InputError
from pipelines.compile import PIPELINES, compile_pipeline, compile_spec
from pipelines.lint import lint
from pipelines.lint.subject import CHECKS, Severity, Target, read_spec
from pipelines.machines import apply

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "europe-docker.pkg.dev/p/r/python@sha256:00"
component = dsl.component(base_image=IMAGE, install_kfp_package=False)


@component
def echo(text: str) -> str:
    return text


@component
def letters(text: str) -> list:
    return list(text)


@component
def download(url: str) -> str:
    return url


@component
def look(seed: str) -> str:
    return seed + "1"


@component
def digest(url: str, fingerprint: str) -> str:
    return url + fingerprint


@component
def stamp() -> str:
    import datetime

    return datetime.datetime.now().isoformat()


@dsl.component(base_image="python", packages_to_install=["pandas", "numpy==2.0"])
def unprepared(text: str) -> str:
    return text


@dsl.container_component
def container(text: str, data: Output[Dataset]):
    return dsl.ContainerSpec(image="alpine:latest", command=["cp"], args=[text, data.path])


def compiled(body, **parameters):
    """Compiles a pipeline of one text parameter."""

    @dsl.pipeline(name="one")
    def one(text: str = "a"):
        body(text)

    return compile_spec(one)


def found(spec, tmp_path, target=Target.VERTEX, ignore=frozenset({"retry"})):
    """What lint says of a pipeline, as (check, severity, message)."""
    path = tmp_path / "one.json"
    path.write_text(spec if isinstance(spec, str) else json.dumps(spec, indent=1))
    return [(name, each.severity, each.message) for name, each in lint(read_spec(path, target), ignore)]


def one(findings, check, severity, text):
    [(name, found_severity, message)] = findings
    assert (name, found_severity) == (check, severity)
    assert text in message


def test_a_pipeline_that_is_in_order_gives_nothing(tmp_path):
    def body(text):
        apply(echo(text=text).set_retry(2), "l4-1")
        apply(echo(text="b").set_retry(2), "h100-8-flex")

    assert found(compiled(body), tmp_path, ignore=frozenset()) == []


@pytest.mark.parametrize("name", PIPELINES)
def test_our_pipelines_have_no_error_and_no_warning(name, tmp_path):
    findings = found(compile_pipeline(name), tmp_path, ignore=frozenset())
    assert [each for each in findings if each[1] is not Severity.NOTE] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.set_accelerator_type("NVIDIA_TESLA_L4"), "no accelerator 'NVIDIA_TESLA_L4'"),
        (lambda s: s.set_accelerator_type("NVIDIA_L4").set_accelerator_limit(3), "No machine has 3 x NVIDIA_L4"),
        (lambda s: s.set_accelerator_type("NVIDIA_TESLA_P100"), "ended NVIDIA_TESLA_P100"),
        (lambda s: s.set_accelerator_type("nvidia.com/gpu"), "a resource of Kubernetes"),
        (lambda s: s.set_accelerator_type("l4-1-spot"), "needs a Custom Job, which is not laid on"),
        (lambda s: s.set_cpu_limit("128"), "asks for 128 CPUs"),
        (lambda s: s.set_memory_limit("700Gi"), "751.619 GB"),
    ],
)
def test_a_gpu_that_does_not_exist(change, message, tmp_path):
    spec = compiled(lambda text: change(echo(text=text)))
    if "Custom Job" in message:
        # As kfp's own compiler leaves it.
        resources = spec["deploymentSpec"]["executors"]["exec-echo"]["container"]
        resources.update(resources={"accelerator": {"resourceType": "l4-1-spot", "resourceCount": "1"}}, image=IMAGE)
        resources["args"] = ["-m", "kfp.dsl.executor_main"]
    one(found(spec, tmp_path), "gpu", "error", message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda job: job["scheduling"].update(strategy="SPOTT"), "no strategy 'SPOTT'"),
        (lambda job: machine_of(job).update(accelerator_count=2), "takes 1 x NVIDIA_L4, not 2"),
        (lambda job: machine_of(job).update(machine_type="e2-standard-4"), "e2-standard-4 takes no NVIDIA_L4"),
        (lambda job: machine_of(job).pop("accelerator_type"), "1 x no GPU"),
        (
            lambda job: (
                machine_of(job).update(machine_type="n1-standard-4", accelerator_type="NVIDIA_TESLA_T4"),
                job["scheduling"].update(strategy="FLEX_START"),
            ),
            "NVIDIA_TESLA_T4 is not given as FLEX_START",
        ),
        (
            lambda job: (
                machine_of(job).update(
                    machine_type="a4-highgpu-8g", accelerator_type="NVIDIA_B200", accelerator_count=8
                ),
                job["worker_pool_specs"][0].update(disk_spec={"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100}),
            ),
            "a4-highgpu-8g has no boot disk pd-ssd",
        ),
    ],
)
def test_a_custom_job_that_vertex_refuses(change, message, tmp_path):
    spec = compiled(lambda text: apply(echo(text=text), "l4-1-spot"))
    args = spec["deploymentSpec"]["executors"]["exec-echo"]["container"]["args"]
    job = json.loads(args[3])
    change(job["job_spec"])
    args[3] = json.dumps(job)
    one(found(spec, tmp_path), "gpu", "error", message)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"machine_type": "g2-standard-8", "accelerator_type": "NVIDIA_TESLA_T4"}, "comes with 1 x NVIDIA_L4"),
        ({"machine_type": "e2-standard-4", "accelerator_type": "NVIDIA_L4"}, "e2-standard-4 takes no NVIDIA_L4"),
        (
            {"machine_type": "a2-highgpu-1g", "accelerator_type": "NVIDIA_TESLA_A100", "accelerator_count": 3},
            "takes 1 x NVIDIA_TESLA_A100, not 3",
        ),
        (
            {"machine_type": "g2-standard-8", "accelerator_type": "NVIDIA_L4", "strategy": "SPOTT"},
            "There is no strategy 'SPOTT'",
        ),
    ],
)
def test_what_googles_wrapper_compiles_without_a_word(wrong, message, tmp_path):
    step = create_custom_training_job_from_component(echo, **wrong)
    one(found(compiled(lambda text: step(text=text)), tmp_path), "gpu", "error", message)


@pytest.mark.parametrize(
    ("spec", "strategy", "message"),
    [
        ({"machine_type": "g2-standard-8", "accelerator_type": "NVIDIA_L4", "accelerator_count": 2}, "", "not 2"),
        ({"machine_type": "e2-standard-4", "accelerator_type": "NVIDIA_L4", "accelerator_count": 1}, "", "takes no"),
        ({"machine_type": "n1-standard-2"}, "", "trains on no n1-standard-2"),
        ({"machine_type": "n1-standard-8"}, "SPOTT", "There is no strategy 'SPOTT'"),
        ({"machine_type": "n1-standard-8", "accelerator_type": "ACCELERATOR_TYPE_UNSPECIFIED"}, "", ""),
        ({"machine_type": "g2-standard-8", "accelerator_type": "NVIDIA_L4", "accelerator_count": "1"}, "SPOT", ""),
        ({}, "", ""),
    ],
)
def test_what_a_task_gives_to_googles_custom_job(spec, strategy, message, tmp_path):
    pools = [{"machine_spec": spec, "replica_count": 1, "container_spec": {"image_uri": IMAGE}}]
    more = {"strategy": strategy} if strategy else {}
    lines = compiled(lambda text: CustomTrainingJobOp(display_name="a", worker_pool_specs=pools, **more))
    findings = [each for each in found(lines, tmp_path) if each[0] == "gpu"]
    if message:
        one(findings, "gpu", "error", message)
    else:
        assert findings == []


def test_a_machine_that_a_parameter_names_is_not_judged(tmp_path):
    def body(text):
        pools = [{"machine_spec": {"machine_type": text}, "replica_count": 1, "container_spec": {"image_uri": IMAGE}}]
        CustomTrainingJobOp(display_name="a", worker_pool_specs=pools)

    assert [each for each in found(compiled(body), tmp_path) if each[0] == "gpu"] == []


def machine_of(job):
    return job["worker_pool_specs"][0]["machine_spec"]


def test_what_is_for_kubernetes_alone(tmp_path):
    @dsl.pipeline(name="two-documents")
    def pipeline():
        step = echo(text="a")
        kubernetes.add_node_selector(step, "a", "b")
        step.set_caching_options(True, cache_key="k")

    compiler.Compiler().compile(pipeline, str(tmp_path / "p.yaml"))
    text = (tmp_path / "p.yaml").read_text()
    messages = [message for _, _, message in found(text, tmp_path)]
    assert "It has a second document, for Kubernetes; Vertex AI reads one." in messages
    assert "It has a cache key of its own, which Vertex AI does not know." in messages
    assert found(text, tmp_path, Target.KFP) == []


def test_a_gpu_by_vertex_ais_name_never_starts_on_kubernetes(tmp_path):
    spec = compiled(lambda text: apply(echo(text=text), "l4-1"))
    one(found(spec, tmp_path, Target.KFP), "gpu", "error", "no node has: the pod waits for ever")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec.update(schemaVersion="1.0"), "schema version is 1.0"),
        (lambda spec: spec["components"]["comp-echo"].update(taskConfigPassthroughs=[{}]), "settings of Kubernetes"),
        (
            lambda spec: spec["components"]["comp-echo"]["inputDefinitions"]["parameters"].update(
                config={"parameterType": "TASK_CONFIG", "isOptional": True}
            ),
            "The input config is a TaskConfig",
        ),
    ],
)
def test_what_vertex_refuses(change, message, tmp_path):
    spec = compiled(lambda text: echo(text=text))
    change(spec)
    findings = [each for each in found(spec, tmp_path) if each[0] == "vertex"]
    one(findings, "vertex", "error", message)


def test_a_large_default_is_beyond_vertex_ais_limit(tmp_path):
    spec = compiled(lambda text: echo(text=text))
    spec["root"]["inputDefinitions"]["parameters"]["text"]["defaultValue"] = "x" * 140_000
    assert ("limits", "error") in [each[:2] for each in found(spec, tmp_path)]


def test_an_image_that_moves_under_a_cached_step(tmp_path):
    findings = found(compiled(lambda text: container(text=text)), tmp_path, ignore=frozenset({"local", "retry"}))
    one(findings, "image", "warning", "has the moving tag latest. The cache knows the name")


def test_packages_that_are_installed_at_each_start(tmp_path):
    findings = {name: message for name, _, message in found(compiled(lambda text: unprepared(text=text)), tmp_path)}
    assert findings["pip"] == (
        "Packages are installed at each start, of no fixed version: pandas. That takes time and network."
    )
    assert "no tag, which means latest" in findings["image"]


@component
def installs(text: str) -> str:
    import subprocess
    import sys

    subprocess.check_call([sys.executable, "-m", "pip", "install", "pandas"])
    return text


def test_packages_that_the_source_itself_installs(tmp_path):
    one(found(compiled(lambda text: installs(text=text)), tmp_path), "pip", "warning", "installed at each start")


def test_what_is_for_kubernetes_inside_the_one_document(tmp_path):
    spec = compiled(lambda text: echo(text=text)) | {"platforms": {"kubernetes": {}}}
    one(found(spec, tmp_path), "vertex", "error", "for Kubernetes")
    assert found(spec, tmp_path, Target.KFP) == []


SECRET = "hf_" + "a1B2" * 9


@pytest.mark.parametrize(
    ("name", "value", "severity"),
    [
        ("HF_TOKEN", SECRET, "error"),
        ("SETTINGS", f"--key {SECRET}", "error"),
        ("DB_PASSWORD", "correcthorse", "warning"),
        ("apiKey", "a1b2c3d4e5", "warning"),
        ("TOKENIZERS_PARALLELISM", "false-or-true", None),
        ("MAX_TOKENS", "1000000000", None),
        ("SECRET_NAME", "my_long_secret_name", None),
        ("HF_TOKEN", "projects/p/secrets/hub/versions/1", None),
        ("HF_TOKEN", "", None),
        ("CREDENTIALS", "/etc/credentials.json", None),
        ("TOKEN", "my-hub-token", None),
    ],
)
def test_a_secret_in_the_environment_is_found_and_not_printed(name, value, severity, tmp_path):
    findings = found(compiled(lambda text: echo(text=text).set_env_variable(name, value)), tmp_path)
    assert [each[1] for each in findings] == ([severity] if severity else [])
    assert not value or value not in str(findings)


def test_steps_that_are_not_tried_again(tmp_path):
    def body(text):
        echo(text=text)
        look(seed=text).set_retry(0)

    one(
        found(compiled(body), tmp_path, ignore=frozenset()),
        "retry",
        "note",
        "1 of 2 steps: not one of them is tried again",
    )


def test_a_cached_step_that_asks_for_the_time(tmp_path):
    one(found(compiled(lambda text: stamp()), tmp_path), "cache", "warning", "datetime.datetime.now")


def test_a_cached_step_that_reads_a_place_by_name(tmp_path):
    one(found(compiled(lambda text: download(url=text)), tmp_path), "cache", "note", "by the text of url")
    assert found(compiled(lambda text: download(url=text).set_caching_options(False)), tmp_path) == []

    def with_digest(text):
        seen = look(seed=text).set_caching_options(False)
        digest(url=text, fingerprint=seen.output)

    assert found(compiled(with_digest), tmp_path) == []


def test_what_the_local_runner_gets_silently_wrong(tmp_path):
    def body(text):
        outer = echo(text=text)
        with dsl.ParallelFor(letters(text=text).output) as item:
            echo(text=f"{outer.output} {item}")

    one(found(compiled(body), tmp_path), "local", "warning", "silently gives it the loop's item")


def test_a_reference_to_nothing(tmp_path):
    spec = compiled(lambda text: echo(text=text))
    spec["components"]["comp-echo"]["executorLabel"] = "exec-nothing"
    assert ("spec", "error") in [each[:2] for each in found(spec, tmp_path)]


@pytest.mark.parametrize("form", ["json", "yaml", "job"])
def test_the_line_is_that_of_the_step(form, tmp_path):
    spec = compiled(lambda text: echo(text=text).set_accelerator_type("NVIDIA_TESLA_L4"))
    document = {"displayName": "a", "pipelineSpec": spec} if form == "job" else spec
    path = tmp_path / f"one.{'yaml' if form == 'yaml' else 'json'}"
    path.write_text(yaml.safe_dump(document) if form == "yaml" else json.dumps(document, indent=2))
    subject = read_spec(path)
    [(_, finding)] = lint(subject, frozenset({"retry"}))
    assert "exec-echo" in path.read_text().splitlines()[subject.line_of(finding.keys) - 1]


@pytest.mark.parametrize("text", ["", "{", "a: [", "[]", "a: b", '{"root": {}}'])
def test_another_file_is_refused(text, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match="x.yaml (cannot be read|is no compiled pipeline)"):
        read_spec(tmp_path / "x.yaml")


def command(*arguments):
    run = [sys.executable, "-m", "pipelines.lint", *map(str, arguments)]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True)


def test_the_command(tmp_path):
    bad = copy.deepcopy(compiled(lambda text: echo(text=text).set_accelerator_type("NVIDIA_TESLA_L4")))
    (tmp_path / "bad.json").write_text(json.dumps(bad, indent=2))
    run = command(tmp_path / "bad.json", "--ignore", "retry")
    assert run.returncode == 1
    assert "error [gpu] step echo: Vertex AI has no accelerator 'NVIDIA_TESLA_L4'.\n    Use NVIDIA_" in run.stdout
    as_json = json.loads(command(tmp_path / "bad.json", "--json").stdout)
    assert {each["check"] for each in as_json} == {"gpu"}
    assert command(tmp_path / "bad.json", "--ignore", "gpu").returncode == 0
    assert command(tmp_path / "bad.json", "--ignore", "gpus").returncode == 2
    assert command(tmp_path / "no.json").returncode == 2
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "machines.json").write_text("{}")
    (tmp_path / "folder" / "bad.yaml").write_text(yaml.safe_dump(bad))
    assert "bad.yaml" in command(tmp_path / "folder").stdout
    listed = command("--checks").stdout
    assert all(name in listed for name in CHECKS)
