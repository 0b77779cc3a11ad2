"""The function that people write today, for comparison with ours: `PipelineJob(...).submit()` in the handler.

It has what the usual samples have: the payload names the pipeline and its parameters. Two things are in its favour:
the job's id follows from the message's (the default, the name and the second, lets two messages of one second
collide), and the look-ups in Cloud Storage and Resource Manager that `submit` makes first, for which there is nothing
to answer here, are left out.
"""

import base64
import json
import os
from pathlib import Path

import functions_framework
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform.utils import gcs_utils

gcs_utils.create_gcs_bucket_for_pipeline_artifacts_if_it_does_not_exist = lambda **_: None

aiplatform.init(
    project=os.environ["GOOGLE_CLOUD_PROJECT"],
    location=os.environ["VERTEX_LOCATION"],
    api_endpoint=f"http://{os.environ['AIPLATFORM_EMULATOR_HOST']}",
    api_transport="rest",
    credentials=AnonymousCredentials(),
)


@functions_framework.cloud_event
def on_message(event):
    """Submits the pipeline that a message names."""
    payload = json.loads(base64.b64decode(event.data["message"]["data"]))
    pipeline = payload["pipeline"]
    job = aiplatform.PipelineJob(
        display_name=pipeline,
        job_id=f"{pipeline.replace('_', '-')}-{event['id']}",
        template_path=str(Path(os.environ["COMPILED_FOLDER"], f"{pipeline}.json")),
        pipeline_root=os.environ["PIPELINE_ROOT"],
        parameter_values=payload["parameters"],
    )
    job.submit()
    print(f"Submitted {job.resource_name}")
