"""Small pipelines for the tests of the emulator; steps leave a line in a file where a test counts their runs."""

# ruff: noqa: PTH123 - a step's source stands alone, and is kept short

from typing import NamedTuple

from google.protobuf import json_format
from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

IMAGE = "no-such-image:1"


def spec_of(pipeline):
    """The compiled pipeline, as JSON."""
    return json_format.MessageToDict(pipeline.pipeline_spec)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def note(text: str, file: str = "", seconds: float = 0.0) -> str:
    import time

    if file:
        with open(file, "a") as log:
            log.write(text + "\n")
    print("noted", text)
    time.sleep(seconds)
    return text


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def flags() -> NamedTuple("Flags", [("yes", bool), ("no", bool)]):
    return (True, False)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def is_long(text: str) -> bool:
    return len(text) > 3


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_data(rows: int, data: Output[Dataset]):
    with open(data.path, "w") as file:
        file.write("\n".join(str(n) for n in range(rows)))
    data.metadata["rows"] = rows


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_model(model: Output[Model]):
    with open(model.path, "w") as file:
        file.write("10")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(data: Input[Dataset], shards: int) -> list:
    return [{"index": i, "of": int(shards)} for i in range(int(shards))]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def classify(data: Input[Dataset], model: Input[Model], shard: dict, factor: int, result: Output[Dataset]):
    with open(data.path) as source, open(model.path) as weights, open(result.path, "w") as target:
        rows, weight = source.read().split("\n"), int(weights.read())
        chosen = rows[int(shard["index"]) :: int(shard["of"])]
        target.write("\n".join(str(int(row) * weight * factor) for row in chosen))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect(parts: Input[list[Dataset]], whole: Output[Dataset]):
    values = []
    for part in parts:
        with open(part.path) as file:
            values += file.read().split("\n")
    with open(whole.path, "w") as file:
        file.write(",".join(values))
    whole.metadata["parts"] = len(parts)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def show(data: Input[Dataset]) -> str:
    with open(data.path) as file:
        return file.read()


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fail(text: str) -> str:
    raise ValueError("no good: " + text)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def announce(status: dsl.PipelineTaskFinalStatus, text: str, file: str) -> str:
    import json

    said = {
        "text": text,
        "state": status.state,
        "job": status.pipeline_job_resource_name,
        "error": status.error_message,
        "code": status.error_code,
    }
    with open(file, "w") as out:
        json.dump(said, out)
    return json.dumps(said)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def nothing():
    pass


@dsl.pipeline
def shards(data: Input[Dataset], model: Input[Model], num_shards: int, factor: int) -> Dataset:
    planned = plan(data=data, shards=num_shards)
    with dsl.ParallelFor(planned.output, name="parts") as shard:
        done = classify(data=data, model=model, shard=shard, factor=factor)
    return collect(parts=dsl.Collected(done.outputs["result"])).outputs["whole"]


@dsl.pipeline
def artifacts_only(data: Input[Dataset]) -> str:
    return show(data=data).output


@dsl.pipeline(name="batch")
def batch(said: str, rows: int = 4, num_shards: int = 2, text: str = "long enough", broken: bool = False):
    """An exit handler over a sub-pipeline with a loop, a condition on a task's output, and one on a parameter."""
    last = announce(text=text, file=said)
    with dsl.ExitHandler(last, name="work"):
        data = make_data(rows=rows)
        model = make_model().set_caching_options(False)
        whole = shards(data=data.outputs["data"], model=model.outputs["model"], num_shards=num_shards, factor=2)
        artifacts_only(data=whole.output)
        with dsl.If(is_long(text=text).output == True, name="if-long"):  # noqa: E712 - kfp reads the comparison
            note(text=f"{text} {rows}")
        with dsl.If(text == "short", name="if-short"):
            note(text="never")
        with dsl.If(broken == True, name="if-broken"):  # noqa: E712
            fail(text="on purpose")


@dsl.pipeline(name="three-steps")
def three_steps(file: str, seconds: float = 0.0):
    """The first is cached, the second opted out, the third waits."""
    first = note(text="first", file=file)
    second = note(text="second", file=file).after(first).set_caching_options(False)
    note(text="third", file=file, seconds=seconds).after(second).set_caching_options(False)


@dsl.pipeline(name="one-step")
def one_step(
    text: str = "hello",
    count: int = 1,
    ratio: float = 0.5,
    on: bool = True,
    items: list = [],  # noqa: B006
    more: dict = {},  # noqa: B006
):
    note(text=text)
