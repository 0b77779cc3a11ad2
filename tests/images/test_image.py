"""The image that steps run in, built before: `make test-images`. Compiled steps are started in it as Vertex AI does."""

import json
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.datasets import DatasetWriter, part_files
from emulator.engines import Engine, Mount, find_image
from images.sources import ROOT, source_digest, version
from images.try_step import command_of
from pipelines.compile import compile_pipeline
from tests.tiny_model import build_tiny_model

IMAGE = os.environ.get("TEST_IMAGE", "")
pytestmark = pytest.mark.skipif(not IMAGE, reason="`make test-images` builds an image and tests it")

TEXTS = ["the invoice was charged twice", "thanks for the help", "the printer shows an error"]
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])
# Where Vertex AI shows a bucket to a step.
BUCKET = "/gcs/bucket"


@pytest.fixture(scope="module")
def image():
    found = find_image(IMAGE)
    assert found, f"{IMAGE} is not on this machine"
    return found


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A folder in the place of a bucket; the image's user is not ours, and may write to it as on a mount."""
    folder = tmp_path_factory.mktemp("bucket")
    for path in [folder, *list(folder.parents)[:2]]:
        path.chmod(0o777)
    return folder


class Started:
    """A command that ran in a container of the image, without a network and as the image's own user."""

    def __init__(self, engine: Engine, command: list[str], bucket: Path):
        container = engine.prepare(f"image-test-{uuid.uuid4().hex[:8]}", IMAGE)
        start = engine.start_command(
            container, IMAGE, command, [Mount(bucket, True, BUCKET)], {}, network="none", as_own_user=True
        )
        since, begin = time.time(), time.monotonic()
        done = subprocess.run([part for part in start if part != "--rm"], capture_output=True, text=True)
        self.seconds = time.monotonic() - begin
        self.code, self.log = done.returncode, done.stdout + done.stderr
        self.changed = _changed_files(engine, container, since)
        engine.remove(container)


def _changed_files(engine: Engine, container: str, since: float) -> list[str]:
    """The files that are new or other in a container, without what is mounted or temporary."""
    if engine.name == "buildah":
        look = ["find", "/opt", "/usr", "/home", "/root", "/var", "-xdev", "-type", "f", "-newermt", f"@{since:.3f}"]
        done = subprocess.run(["buildah", "run", "--user=0", container, "--", *look], capture_output=True, text=True)
        return done.stdout.split()
    done = subprocess.run([engine.name, "diff", container], capture_output=True, text=True)
    kept = ("/opt", "/usr", "/home/step/", "/root", "/var")
    return [line[2:] for line in done.stdout.splitlines() if line[2:].startswith(kept)]


def step_of(name: str, bucket: Path, artifacts: dict, **parameters) -> list[str]:
    """A compiled step's command and arguments, as Vertex AI fills them in."""
    (bucket / name).mkdir(exist_ok=True)
    (bucket / name).chmod(0o777)
    spec, folder = compile_pipeline("batch_classification"), f"gs://bucket/{name}"
    return command_of(spec, name, folder, f"{BUCKET}/{name}/executor_output.json", artifacts, parameters)


def test_the_try_that_cloud_build_makes(image, bucket):
    for name in ("compiled", "images"):
        shutil.copytree(ROOT / name, bucket / name, dirs_exist_ok=True)
    program, compiled = f"{BUCKET}/images/try_step.py", f"{BUCKET}/compiled/batch_classification.json"
    tried = Started(image[0], ["python", program, compiled], bucket)
    assert tried.code == 0 and "The step read-dataset ran in" in tried.log, tried.log


def check_start(started: Started) -> None:
    assert started.code == 0, started.log
    assert "pip" not in started.log.lower() and "installing" not in started.log.lower()
    # The step's source is written to /tmp; nothing else in the container is other than in the image.
    assert started.changed == []


def test_what_the_image_says_of_itself(image):
    engine, facts = image
    labels = facts["Labels"]
    assert labels["org.opencontainers.image.version"] == version()
    assert labels["kfp-transformers.source-digest"] == source_digest()
    assert facts["User"] not in ("", "0", "root") and "python" in IMAGE


def test_its_packages_are_those_of_the_lock(image, bucket):
    frozen = Started(image[0], ["pip", "freeze", "--all"], bucket)
    assert frozen.code == 0, frozen.log
    # The GPU build of torch pins what it brings itself.
    own = ("pip", "setuptools", "wheel", "kfp-transformers", "nvidia", "cuda", "triton")
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    found = dict(line.split("==") for line in frozen.log.splitlines() if "==" in line)
    other = {
        name: number
        for name, number in found.items()
        if pinned.get(name) != number.partition("+")[0] and not name.startswith(own)
    }
    assert other == {}, "every package has the version of constraints.txt"


def test_the_environment_cannot_be_changed_by_a_step(image, bucket):
    tried = Started(image[0], ["sh", "-c", "id -u; touch ~/new; echo >> /opt/venv/pyvenv.cfg"], bucket)
    assert "Permission denied" in tried.log and tried.log.splitlines()[0] != "0"
    assert tried.changed == ["/home/step/new"], "what a step changes is noticed"


def test_a_step_that_reads_starts_without_installing_anything(image, bucket):
    (bucket / "in.csv").write_text("text,label\n" + "".join(f'"{text}",billing\n' for text in TEXTS))
    (bucket / "in.csv").chmod(0o644)
    command = step_of("read-dataset", bucket, {}, source_uri=f"{BUCKET}/in.csv")
    started = Started(image[0], command, bucket)
    check_start(started)
    output = json.loads((bucket / "read-dataset" / "executor_output.json").read_text())
    (dataset,) = output["artifacts"]["dataset"]["artifacts"]
    assert dataset["metadata"]["rows"] == 3 and dataset["uri"] == "gs://bucket/read-dataset/dataset"
    assert pq.read_table(part_files(bucket / "read-dataset" / "dataset")[0])["text"].to_pylist() == TEXTS
    print(f"\nread_dataset in the image: {started.seconds:.1f} s from the container's start to its end")


def test_a_step_that_classifies_starts_without_installing_anything(image, bucket):
    with DatasetWriter(bucket / "data", SCHEMA) as writer:
        rows = [{"id": str(number), "text": text, "label": None} for number, text in enumerate(TEXTS)]
        writer.write(pa.RecordBatch.from_pylist(rows, SCHEMA))
    build_tiny_model(bucket / "model", ["billing", "praise"], TEXTS)
    for path in bucket.rglob("*"):
        if path.stat().st_uid == os.getuid():
            path.chmod(0o777 if path.is_dir() else 0o644)
    artifacts = {"dataset": ("system.Dataset", "gs://bucket/data"), "model": ("system.Model", "gs://bucket/model")}
    command = step_of("classify-text", bucket, artifacts, checkpoint_uri=f"{BUCKET}/state")
    started = Started(image[0], command, bucket)
    check_start(started)
    output = json.loads((bucket / "classify-text" / "executor_output.json").read_text())
    assert output["artifacts"]["predictions"]["artifacts"][0]["metadata"]["labels"] == ["billing", "praise"]
    assert pq.read_table(part_files(bucket / "classify-text" / "predictions")[0]).num_rows == 3
    print(f"\nclassify_text in the image: {started.seconds:.1f} s from the container's start to its end")


def test_how_long_python_takes_to_start_in_it(image, bucket):
    for what, code in (
        ("nothing", "pass"),
        ("kfp's runtime", "import kfp.dsl"),
        ("torch", "import torch, transformers"),
    ):
        started = Started(image[0], ["env", "_KFP_RUNTIME=true", "python3", "-c", code], bucket)
        assert started.code == 0, started.log
        print(f"\nimporting {what} in the image: {started.seconds:.1f} s")
