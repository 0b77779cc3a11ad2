"""The service in a process of its own, and Google's client for it."""

import re
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager

import pytest

from tests.emulator.samples import spec_of

PARENT = "projects/demo/locations/europe-west4"
FINAL = {4, 5, 7}


class Service(AbstractContextManager):
    """`python -m emulator` over a folder; it can be killed and started again."""

    def __init__(self, folder, *options):
        self.folder, self.options = folder, options

    def __enter__(self):
        command = [sys.executable, "-m", "emulator", "--port", "0", "--folder", str(self.folder), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.url = re.fullmatch(r"Vertex AI Pipelines on (http://127\.0\.0\.1:\d+)\n", line)[1]
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, number=signal.SIGTERM):
        """Stops it, and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20)
        self.process.stdout.close()
        return code

    @property
    def client(self):
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import aiplatform_v1

        return aiplatform_v1.PipelineServiceClient(
            transport="rest", credentials=AnonymousCredentials(), client_options={"api_endpoint": self.url}
        )

    def create(self, pipeline, job_id="", parameters=None, **fields):
        """Creates a job and returns its name."""
        from google.cloud import aiplatform_v1

        job = aiplatform_v1.PipelineJob(
            pipeline_spec=spec_of(pipeline),
            runtime_config={"gcs_output_directory": "gs://bucket/root", "parameter_values": parameters or {}},
            **fields,
        )
        return self.client.create_pipeline_job(parent=PARENT, pipeline_job=job, pipeline_job_id=job_id).name

    def wait(self, name, states=frozenset(FINAL), seconds=60):
        """Waits until a job is in one of the states, and returns it."""
        deadline, client = time.monotonic() + seconds, self.client
        while (job := client.get_pipeline_job(name=name)).state not in states:
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        return job


@pytest.fixture
def service(tmp_path):
    with Service(tmp_path / "jobs") as running:
        yield running
