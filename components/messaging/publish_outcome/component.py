"""The component `publish_outcome`."""

from kfp import dsl

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def publish_outcome(
    status: dsl.PipelineTaskFinalStatus, pipeline: str, topic: str = "", run_key: str = "", output_uri: str = ""
) -> str:
    """Announces how a run ended. Use it as the exit task of a `dsl.ExitHandler`; it is never cached there.

    Args:
        status: How the exit handler's tasks ended; kfp fills it in.
        pipeline: The pipeline's name.
        topic: The Pub/Sub topic, `projects/P/topics/T`; "" only logs the outcome.
        run_key: The key of the request that started the run.
        output_uri: Where the run's result is.

    Returns:
        The outcome that was announced, as JSON.
    """
    from components.messaging.publish_outcome.publish import make_outcome, publish

    outcome = make_outcome(
        pipeline, status.pipeline_job_resource_name, run_key, status.state, status.error_message, output_uri
    )
    message_id = publish(outcome, topic)
    print(f"Outcome: {outcome.to_json()}")
    print(f"Published to {topic} as message {message_id}." if message_id else "No topic is given: published nowhere.")
    return outcome.to_json()
