"""What cannot run here, or would silently run wrong, is refused; each such pipeline is compiled by kfp."""

from typing import Optional

import pytest
from kfp import dsl
from kfp.dsl import Dataset

from components.errors import InputError
from emulator.preflight import MAX_PARAMETER_BYTES, check, find_problems
from tests.emulator import samples
from tests.emulator.samples import IMAGE, make_data, note, show, spec_of


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def words() -> list:
    return ["x", "y"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def named_words(out: dsl.OutputPath(list)):
    pass


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def take_int(n: Optional[int] = None):  # noqa: UP045
    pass


@dsl.container_component
def container():
    return dsl.ContainerSpec(image="alpine", command=["echo"], args=["hello"])


@dsl.component(base_image=IMAGE, target_image="registry/image:1", install_kfp_package=False)
def containerized():
    pass


@dsl.pipeline
def with_container():
    container()


@dsl.pipeline
def with_containerized():
    containerized()


@dsl.pipeline
def remote_importer():
    show(data=dsl.importer(artifact_uri="gs://bucket/data", artifact_class=Dataset).output)


@dsl.pipeline
def remote_importer_from_parameter(uri: str = "gs://bucket/data"):
    show(data=dsl.importer(artifact_uri=uri, artifact_class=Dataset).output)


@dsl.pipeline
def loop_with_outer_output():
    outer = note(text="outer")
    with dsl.ParallelFor(["a", "b"]) as item:
        note(text=outer.output, file=item)


@dsl.pipeline
def loop_with_outer_output_in_text(prefix: str = "p"):
    outer = note(text="outer")
    with dsl.ParallelFor(["a", "b"]) as item:
        note(text=f"{prefix} {outer.output} {item}")


@dsl.pipeline
def loop_that_uses_its_own_list():
    listed = words()
    with dsl.ParallelFor(listed.output) as item:
        note(text=f"{listed.output}", file=item)


@dsl.pipeline
def loop_over_named_output():
    with dsl.ParallelFor(named_words().outputs["out"]) as item:
        note(text=item)


@dsl.pipeline
def inner_loop_with_outer_item():
    with dsl.ParallelFor(words().output) as outer, dsl.ParallelFor(["1", "2"]) as inner:
        note(text=outer, file=inner)


@dsl.pipeline
def one_of_artifacts(text: str = "a"):
    with dsl.If(text == "a"):
        one = make_data(rows=1)
    with dsl.Else():
        two = make_data(rows=2)
    show(data=dsl.OneOf(one.outputs["data"], two.outputs["data"]))


@dsl.pipeline
def optional_parameter(text: Optional[str] = None):  # noqa: UP045
    note(text=text)


@dsl.pipeline
def optional_int_of_a_step():
    take_int()


@dsl.pipeline
def placeholder_in_constant():
    note(text="a {{$.nothing}} b")


@dsl.pipeline(pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi")))
def workspace_in_constant():
    note(text=dsl.WORKSPACE_PATH_PLACEHOLDER)


@dsl.pipeline
def long_constant():
    note(text="x" * (MAX_PARAMETER_BYTES + 1))


@dsl.pipeline
def condition_with_quote(text: str = "a"):
    with dsl.If(text == "it's"):
        note(text="x")


@dsl.pipeline
def mixed_items_inside_an_exit_handler():
    with dsl.ExitHandler(note(text="end")), dsl.ParallelFor(["a"]) as outer, dsl.ParallelFor(["1"]) as inner:
        note(text=f"{outer} {inner}")


@pytest.mark.parametrize(
    ("pipeline", "parameters", "said"),
    [
        (with_container, {}, "task container is a container component of the image"),
        (with_containerized, {}, "task containerized is a containerized Python component"),
        (remote_importer, {}, "importer importer names gs://bucket/data"),
        (remote_importer_from_parameter, {}, "gs://bucket/data"),
        (remote_importer_from_parameter, {"uri": "s3://other/data"}, "s3://other/data"),
        (loop_with_outer_output, {}, "uses the output Output of the task note outside it"),
        (loop_with_outer_output_in_text, {}, "uses the output Output of the task note outside it"),
        (loop_that_uses_its_own_list, {}, "uses the list that it runs over"),
        (loop_over_named_output, {}, "named output out of the task named-words"),
        (inner_loop_with_outer_item, {}, "item of a loop around it"),
        (one_of_artifacts, {}, "dsl.OneOf over artifacts"),
        (optional_parameter, {}, "optional pipeline parameter text is not given"),
        (optional_int_of_a_step, {}, "optional input n of the task take-int"),
        (placeholder_in_constant, {}, "placeholder that kfp.local does not fill: {{$.nothing}}"),
        (workspace_in_constant, {}, "{{$.workspace_path}}"),
        (long_constant, {}, "takes more than 100000 bytes"),
        (condition_with_quote, {}, "condition of condition-1 cannot be read"),
        (mixed_items_inside_an_exit_handler, {}, "which nothing around it has"),
        (samples.one_step, {"text": "{{$.inputs}}"}, "parameter text contains"),
        (samples.one_step, {"more": {"deep": ["{{$}}"]}}, "parameter more contains"),
        (samples.one_step, {"text": "x" * MAX_PARAMETER_BYTES}, "takes 100002 bytes"),
    ],
)
def test_refused(pipeline, parameters, said):
    with pytest.raises(InputError) as refused:
        check(spec_of(pipeline), parameters)
    assert said in refused.value.headline
    assert refused.value.remedy


@dsl.pipeline
def nested_loops_with_constants():
    with dsl.ParallelFor(["a", "b"]) as outer, dsl.ParallelFor(["1", "2"]) as inner:
        note(text=outer, file=inner)


@dsl.pipeline
def one_of_parameters(text: str = "a") -> str:
    with dsl.If(text == "a && b || !c"):
        one = note(text="1")
    with dsl.Else():
        two = note(text="2")
    return dsl.OneOf(one.output, two.output)


@dsl.pipeline
def placeholders(n: int = 1):
    note(text=f"{dsl.PIPELINE_ROOT_PLACEHOLDER} {dsl.PIPELINE_TASK_NAME_PLACEHOLDER} {n}")
    note(text=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER)


@pytest.mark.parametrize(
    ("pipeline", "parameters"),
    [
        (samples.batch, {"said": "x"}),
        (samples.shards, {"num_shards": 2, "factor": 1}),
        (samples.three_steps, {"file": "python3 'quoted'\nline"}),
        (optional_parameter, {"text": "given"}),
        (remote_importer_from_parameter, {"uri": "/data/local"}),
        (nested_loops_with_constants, {}),
        (one_of_parameters, {}),
        (placeholders, {}),
    ],
)
def test_accepted(pipeline, parameters):
    assert find_problems(spec_of(pipeline), parameters) == []


def test_several_problems_are_counted():
    with pytest.raises(InputError, match="1 more problem"):
        check(spec_of(samples.one_step), {"text": "{{$}}", "more": {"a": "{{$}}"}})
