"""Container components: here on the project's own image, in a container on another one."""

import os
import re
from pathlib import Path

import pytest
from google.api_core import exceptions
from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import COMPONENT_IMAGE
from emulator.children import end_job, processes_of
from emulator.containers import is_own_image
from emulator.engines import CONTAINERS, Engine, Mount
from emulator.records import LOG_FILE, JobRecord
from emulator.runner import run_job, start_process
from tests.container_images import build_c_program, need_engine
from tests.emulator.conftest import Service
from tests.emulator.samples import make_data, show, spec_of
from tests.emulator.test_runner import wait_until

IMAGE = "localhost/kfp-transformers-test-program:1"
# Copies a file and counts its bytes; tells of its surroundings; fails, or waits, when it is asked to.
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>

int main(int argc, char **argv) {
    const char *mode = argv[1], *in = argv[2], *out = argv[3], *count = argv[4], *failure = argv[5];
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(mode, "exit")) { fprintf(stderr, "out of rows\n"); return 4; }
    printf("word=%s home=%s host-file=%d\n", getenv("WORD"), getenv("HOME"), access(argv[6], F_OK) == 0);
    if (!strcmp(mode, "fail")) {
        FILE *why = fopen(failure, "w");
        fprintf(why, "row 7 has no label");
        fclose(why);
        return 3;
    }
    if (!strcmp(mode, "silent")) return 0;
    if (!strcmp(mode, "wait")) { printf("waiting\n"); sleep(600); }
    if (!strcmp(mode, "call")) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
        inet_pton(AF_INET, "192.0.2.1", &to.sin_addr);
        int s = socket(AF_INET, SOCK_DGRAM, 0);
        printf("call=%d\n", connect(s, (struct sockaddr *)&to, sizeof to));
    }
    if (fopen(in, "a")) printf("the input can be written\n");
    FILE *from = fopen(in, "r"), *to = fopen(out, "w"), *number = fopen(count, "w");
    int c, n = 0;
    while ((c = fgetc(from)) != EOF) { fputc(c, to); n++; }
    fprintf(number, "%d", n);
    return 0;
}
"""


@dsl.container_component
def copy(
    mode: str, data: Input[Dataset], host_file: str, copied: Output[Dataset], failure: Output[Artifact],
    count: dsl.OutputPath(int),
):  # fmt: skip
    return dsl.ContainerSpec(image=IMAGE, args=[mode, data.path, copied.path, count, failure.path, host_file])


@dsl.component(base_image="python", install_kfp_package=False)
def say(count: int) -> str:
    return f"{count} bytes"


@dsl.pipeline(name="copies")
def copies(mode: str = "copy", host_file: str = "/none"):
    data = make_data(rows=12)
    copied = copy(mode=mode, data=data.outputs["data"], host_file=host_file).set_env_variable("WORD", "hello")
    show(data=copied.outputs["copied"])
    say(count=copied.outputs["count"])


@dsl.container_component
def count_lines(data: Input[Dataset], lines: dsl.OutputPath(int), text: Output[Dataset]):
    return dsl.ContainerSpec(
        image=COMPONENT_IMAGE,
        command=["python", "-c"],
        args=[
            "import sys, components; rows = open(sys.argv[1]).read().split(); print('kfp.dsl', sys.executable);"
            "open(sys.argv[2], 'w').write(str(len(rows))); open(sys.argv[3], 'w').write(' '.join(rows))",
            data.path,
            lines,
            text.path,
        ],
    )


@dsl.pipeline(name="own-image")
def own_image():
    counted = count_lines(data=make_data(rows=3).outputs["data"])
    show(data=counted.outputs["text"])
    say(count=counted.outputs["lines"])


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = need_engine()
    build_c_program(engine, IMAGE, tmp_path_factory.mktemp("program"), PROGRAM)
    return engine


def log_of(folder):
    return (folder / LOG_FILE).read_text()


def test_on_the_projects_own_image_the_command_runs_here(tmp_path):
    record = run_job(spec_of(own_image), {}, tmp_path / "job")
    assert record.state == "SUCCEEDED", log_of(tmp_path / "job")
    assert record.task("show").outputs.parameters == {"Output": "0 1 2"}
    assert record.task("say").outputs.parameters == {"Output": "3 bytes"}
    about = record.task("count-lines").container
    assert (about["image"], about["engine"], about["command"][0]) == (COMPONENT_IMAGE, "", "python")
    (text,) = record.task("count-lines").outputs.artifacts["text"]
    assert text.type == "system.Dataset" and Path(text.path).read_text() == "0 1 2"


def test_the_setting_names_the_own_image_too(monkeypatch):
    assert is_own_image(COMPONENT_IMAGE) and not is_own_image("eu-docker.pkg.dev/p/images/python@sha256:ab")
    monkeypatch.setenv("COMPONENT_IMAGE", "eu-docker.pkg.dev/p/images/python@sha256:ab")
    assert is_own_image("eu-docker.pkg.dev/p/images/python@sha256:ab")


def test_another_image_runs_in_a_container_that_sees_only_its_inputs(tmp_path, engine):
    secret = tmp_path / "secret.txt"
    secret.write_text("of this machine")
    record = run_job(spec_of(copies), {"mode": "call", "host_file": str(secret)}, tmp_path / "job")
    assert record.state == "SUCCEEDED", log_of(tmp_path / "job")
    text = "\n".join(map(str, range(12)))
    assert record.task("show").outputs.parameters == {"Output": text}
    assert record.task("say").outputs.parameters == {"Output": f"{len(text)} bytes"}
    about = record.task("copy").container
    assert about["image"] == IMAGE and about["engine"] == engine.name
    assert about["command"][:2] == ["/program", "call"], "the image's own entry point, and the component's arguments"
    log = log_of(tmp_path / "job")
    assert "[copy] word=hello home=/tmp host-file=0" in log
    assert "call=-1" in log, "a container has no network"
    assert "the input can be written" not in log
    assert not list((tmp_path / "job" / CONTAINERS).glob("*"))


def test_a_container_has_the_network_that_is_asked_for(tmp_path, engine):
    record = run_job(spec_of(copies), {"mode": "call"}, tmp_path / "job", env={"CONTAINER_NETWORK": "host"})
    assert record.state == "SUCCEEDED" and "call=0" in log_of(tmp_path / "job")


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("fail", "row 7 has no label"),
        ("exit", "out of rows (exit code 4)"),
        ("silent", "The program ended without writing its output count."),
    ],
)
def test_why_a_program_failed_is_the_steps_error(tmp_path, engine, mode, error):
    record = run_job(spec_of(copies), {"mode": mode}, tmp_path / "job")
    assert (record.state, record.task("copy").error) == ("FAILED", error)


def test_a_cached_result_is_that_of_the_image_not_of_its_tag(tmp_path, engine):
    runs = []
    for number, source in enumerate((PROGRAM, PROGRAM, PROGRAM.replace("word=", "other="))):
        folder = tmp_path / f"program-{number}"
        folder.mkdir()
        build_c_program(engine, IMAGE, folder, source)
        record = run_job(spec_of(copies), {}, tmp_path / f"job-{number}", cache_folder=tmp_path / "cache")
        runs.append(record.task("copy").cached)
    assert runs == [False, True, False]


def test_cancelling_a_job_ends_its_container(tmp_path, engine):
    with Service(tmp_path / "jobs") as service:
        name = service.create(copies, "waits", {"mode": "wait"})
        folder = next((tmp_path / "jobs").rglob("waits"))
        wait_until(lambda: "[copy] waiting" in log_of(folder))
        (note,) = (folder / CONTAINERS).iterdir()
        service.client.cancel_pipeline_job(name=name)
        wait_until(lambda: JobRecord.load(folder).finished)
    assert JobRecord.load(folder).task("copy").state == "CANCELLED"
    assert processes_of(folder) == [] and not note.exists()
    assert engine.inspect(IMAGE) is not None
    assert note.name not in os.popen(f"{engine.name} ps -a").read()


def test_an_image_that_is_not_here_is_refused_when_the_job_is_created(tmp_path):
    @dsl.container_component
    def elsewhere():
        return dsl.ContainerSpec(image="registry.example/train:7", command=["train"])

    @dsl.pipeline(name="elsewhere")
    def pipeline():
        elsewhere()

    with Service(tmp_path) as service:
        with pytest.raises(exceptions.BadRequest) as refused:
            service.create(pipeline, "never")
        assert not list(service.client.list_pipeline_jobs(parent="projects/demo/locations/europe-west4"))
    said = refused.value.message
    assert re.search(r"task elsewhere .* image registry\.example/train:7, .* pull registry\.example/train:7", said), (
        said
    )


def test_how_docker_and_podman_are_asked(monkeypatch):
    mounts = [Mount(Path("/job/copy"), writable=True), Mount(Path("/job/data"))]
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    command = Engine("docker").start_command("c1", "image:1", ["train", "--all"], mounts, {"A": "b"})
    assert " ".join(command) == (
        "docker run --rm --init --pull=never --name=c1 --volume=/job/copy:/job/copy:rw "
        "--volume=/job/data:/job/data:ro --env=A=b --network=none --user=1000:100 --entrypoint=train image:1 --all"
    )
    assert "--userns=keep-id" in Engine("podman").start_command("c1", "image:1", ["train"], [], {}, "host")


def test_a_container_that_a_killed_job_left_behind_is_ended(tmp_path, engine):
    folder = tmp_path / "job"
    done = run_job(spec_of(copies), {}, folder)
    assert done.state == "SUCCEEDED"
    record = JobRecord.load(folder)
    record.state, record.tasks = "PENDING", []
    record.save(folder)
    job = (folder / "job.json").read_text().replace('"parameterValues": {}', '"parameterValues": {"mode": "wait"}')
    (folder / "job.json").write_text(job)
    process = start_process(folder)
    wait_until(lambda: "[copy] waiting" in log_of(folder))
    process.kill()
    process.wait()
    assert processes_of(folder), "the container outlives the process that started it"
    end_job(folder)
    assert processes_of(folder) == [] and not list((folder / CONTAINERS).iterdir())
