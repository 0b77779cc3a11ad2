import pytest
import yaml
from kfp import compiler, components, dsl, kubernetes

from components.errors import InputError
from pipelines.compile import PIPELINES, compile_pipeline, compile_spec
from pipelines.compile.kubernetes import Secret, to_kfp
from pipelines.machines import apply, make_profile


@dsl.component(base_image="kfp-transformers-python:0.1.0", install_kfp_package=False)
def train(text: str) -> str:
    return text


def documents(machine, **options):
    @dsl.pipeline(name="one")
    def one(text: str):
        apply(train(text=text), machine)

    return list(yaml.safe_load_all(to_kfp(compile_spec(one), **options)))


@pytest.mark.parametrize("strategy", ["", "-spot", "-flex"])
def test_it_is_what_kfp_kubernetes_writes(strategy, tmp_path):
    label = {"-spot": "cloud.google.com/gke-spot", "-flex": "cloud.google.com/gke-flex-start"}.get(strategy)

    @dsl.pipeline(name="one", pipeline_root="s3://bucket/root")
    def one(text: str):
        step = train(text=text).set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(4)
        step.set_retry(1, backoff_duration="60s")
        kubernetes.use_secret_as_env(step, "hub", {"token": "HF_TOKEN"})
        kubernetes.add_node_selector(step, "cloud.google.com/gke-accelerator", "nvidia-l4")
        kubernetes.add_toleration(step, key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
        if label:
            kubernetes.add_node_selector(step, label, "true")
            kubernetes.add_toleration(step, key=label, operator="Exists", effect="NoSchedule")

    compiler.Compiler().compile(one, str(tmp_path / "one.yaml"))
    expected = list(yaml.safe_load_all((tmp_path / "one.yaml").read_text()))
    secrets = (Secret.parse("HF_TOKEN=hub/token"),)
    assert documents(f"l4-4{strategy}", pipeline_root="s3://bucket/root", secrets=secrets) == expected


def test_a_step_without_gpu_needs_nothing_of_kubernetes():
    [document] = documents("cpu")
    assert document["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]["resourceCpuLimit"] == "8"


def test_what_kubernetes_does_otherwise_is_refused():
    reserved = make_profile(
        "own-l4", "g2-standard-8", "NVIDIA_L4", 1, replicas=2, network="projects/1/global/networks/n", boot_disk_gb=200
    )
    with pytest.raises(InputError, match="a network, a boot disk, several replicas"):
        documents(reserved)


def test_any_gpu_is_taken_where_nodes_have_no_label():
    config = documents("l4-1", gpu_label="")[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    assert set(config) == {"tolerations"}


def test_a_custom_job_without_a_gpu_is_a_step_there():
    spot = make_profile("cpu-spot", "n1-standard-8", strategy="SPOT")
    pipeline, platform = documents(spot)
    container = pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert container["image"] == "kfp-transformers-python:0.1.0" and "resources" not in container
    config = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    assert config["nodeSelector"]["labels"] == {"cloud.google.com/gke-spot": "true"}
    assert [each["key"] for each in config["tolerations"]] == ["cloud.google.com/gke-spot"]
    with pytest.raises(InputError, match="a boot disk"):
        documents(make_profile("cpu-with-disk", "n1-standard-8", boot_disk_gb=300))


@pytest.mark.parametrize("name", PIPELINES)
def test_our_pipelines_load_as_kfp_loads_them(name):
    text = to_kfp(compile_pipeline(name), "minio://bucket/root")
    loaded = components.load_component_from_text(text)
    assert loaded.pipeline_spec.default_pipeline_root == "minio://bucket/root"
    executors = next(yaml.safe_load_all(text))["deploymentSpec"]["executors"].values()
    kinds = {e["container"]["resources"]["accelerator"]["resourceType"] for e in executors if "accelerator" in str(e)}
    assert kinds <= {"nvidia.com/gpu"}


@pytest.mark.parametrize("root", ["/tmp/root", "http://bucket", "gs://", "s3:bucket"])
def test_another_root_is_refused(root):
    with pytest.raises(InputError, match="pipeline root"):
        to_kfp(compile_pipeline("basic"), root)


@pytest.mark.parametrize("text", ["HF_TOKEN", "HF_TOKEN=hub", "1A=hub/token", "A=Hub/token", "=hub/token"])
def test_another_secret_is_refused(text):
    with pytest.raises(InputError, match="VARIABLE=SECRET/KEY"):
        Secret.parse(text)
