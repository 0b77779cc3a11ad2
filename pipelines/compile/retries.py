"""The retry policy of steps that name none: a machine that vanishes at night must not end the run."""

from typing import Any

# One more attempt, after a minute. A step that is wrong for good (an InputError) is tried again in vain, for a step
# cannot tell Vertex AI so: each further attempt is another start of its machine, and GPUs are paid for from there on,
# while what one more attempt does not mend is seldom mended by two. It is the same for every machine, because a request
# can lay another one on. The emulator does not try a step again that is wrong for good.
DEFAULT_POLICY: dict[str, Any] = {
    "maxRetryCount": 1,
    "backoffDuration": "60s",
    "backoffFactor": 2.0,
    "backoffMaxDuration": "3600s",
}


def retry_steps(spec: dict[str, Any]) -> dict[str, Any]:
    """Gives a retry policy to every step of a compiled pipeline that has none.

    A step keeps the policy that its author gave it; `set_retry(0)` is one, and tries once.

    Args:
        spec: A compiled pipeline; it is not changed.

    Returns:
        A new spec, which shares what did not change with the old one.
    """
    components, executors = spec.get("components", {}), spec["deploymentSpec"]["executors"]
    steps = {
        name for name, each in components.items() if "container" in executors.get(each.get("executorLabel", ""), {})
    }

    def with_policies(component: dict[str, Any]) -> dict[str, Any]:
        if "dag" not in component:
            return component
        tasks = {
            name: {"retryPolicy": DEFAULT_POLICY, **task} if task["componentRef"]["name"] in steps else task
            for name, task in component["dag"]["tasks"].items()
        }
        return component | {"dag": component["dag"] | {"tasks": tasks}}

    new = {name: with_policies(component) for name, component in components.items()}
    return spec | {"root": with_policies(spec["root"])} | ({"components": new} if new else {})
