import json
from pathlib import Path

import fsspec
import pytest
from huggingface_hub import ModelCard
from kfp import dsl
from kfp.dsl import Metrics, Model

from components import pin_model, push_model, resolve_model
from components.deployment.pin_model.pin import pin
from components.deployment.push_model.push import push
from components.deployment.resolve_model.resolve import resolve
from components.deployment.store.store import ModelStore
from components.errors import InputError
from components.models import digest_of_model, is_absent, write_absent
from tests.local_run import run_pipeline
from tests.tiny_model import build_tiny_model

LABELS = ["no | pipe", "`tick`", "dash ---"]
LINEAGE = {"dataset": "gs://bucket/tickets.csv", "hyperparameters": {"epochs": 3.0, "learning_rate": 2e-5}}
METADATA = {"base_model": "org/base", "training_dataset_digest": "d" * 64, "labels": ["x"], "digest": "not this one"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("push")
    texts = ["a few words", "for a tokenizer"]
    return [build_tiny_model(folder / str(n), LABELS, [*texts, *("first", "second")[:n]]) for n in range(3)]


@pytest.fixture
def store(tmp_path):
    return ModelStore(str(tmp_path / "store"))


def champion_of(store):
    return store.aliases("tickets").get("champion", "")


def test_candidate_after_candidate_becomes_the_champion(models, store):
    references = [""]
    for model in models:
        references.append(push(model, store.uri, "tickets", compared_with=references[-1]))
    assert references[1:] == [f"{store.uri}/tickets@{version}" for version in store.versions("tickets")]
    second, third = store.versions("tickets")[1:]
    assert store.aliases("tickets") == {"champion": third, "previous": second}


def test_a_step_that_is_retried_pushes_nothing_twice(models, store):
    first = push(models[0], store.uri, "tickets")
    second = push(models[1], store.uri, "tickets", compared_with=first)
    aliases = store.aliases("tickets")
    assert push(models[1], store.uri, "tickets", compared_with=first) == second
    assert store.aliases("tickets") == aliases and len(store.versions("tickets")) == 2


def test_a_champion_that_moved_meanwhile_wins(models, store):
    first = push(models[0], store.uri, "tickets")
    winner = push(models[1], store.uri, "tickets", compared_with=first).rpartition("@")[2]
    with pytest.raises(InputError, match=f"{winner} is now the champion of 'tickets'.* is stored.*Run again"):
        push(models[2], store.uri, "tickets", compared_with=first)
    assert champion_of(store) == winner and len(store.versions("tickets")) == 3
    with pytest.raises(InputError, match="no longer none"):
        push(models[2], store.uri, "tickets")
    again = push(models[2], store.uri, "tickets", compared_with=f"{store.uri}/tickets@{winner}")
    assert again == f"{store.uri}/tickets@{champion_of(store)}" and len(store.versions("tickets")) == 3


def test_storing_moves_no_alias(models, store):
    push(models[0], store.uri, "tickets", promote=False)
    assert len(store.versions("tickets")) == 1 and store.aliases("tickets") == {}


@pytest.mark.parametrize(
    "reference",
    ["org/name@main", "gs://other/models/tickets@champion", "{store}/tickets@champion", "{store}/other@{v}"],
)
def test_what_a_candidate_cannot_have_been_compared_with(models, store, reference):
    reference = reference.format(store=store.uri, v="20200101-000000-0123456789ab")
    with pytest.raises(InputError, match="compared_with is .*, which is no version of 'tickets'"):
        push(models[0], store.uri, "tickets", compared_with=reference)
    assert store.names() == []


@pytest.mark.parametrize("name", ["", "../tickets", "a/b", "a@b"])
def test_names_that_are_refused(models, store, name):
    with pytest.raises(InputError, match="is no name for a model"):
        push(models[0], store.uri, name)


def test_no_model_and_a_broken_one_are_not_pushed(models, store, tmp_path):
    write_absent(tmp_path / "absent", "gs://b/m/tickets@champion")
    with pytest.raises(InputError, match="There is no model .'gs://b/m/tickets@champion' is not there yet"):
        push(tmp_path / "absent", store.uri, "tickets")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    with pytest.raises(InputError, match="There is no model.safetensors"):
        push(broken, store.uri, "tickets")
    assert store.names() == []


def test_the_model_card_is_one_that_the_hub_reads(models, store):
    metrics = {"macro_f1": 0.75, "accuracy": 0.9, "rows": 40, "nan": float("nan"), "text": "x", "flag": True}
    reference = push(
        models[0], store.uri, "tickets", lineage=LINEAGE, metrics=metrics, metadata=METADATA, job="projects/p/jobs/j"
    )
    version = store.find("tickets", "champion")
    card = ModelCard.load(Path(version.uri, "README.md"))
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-classification")
    assert (card.data.base_model, card.data.labels) == ("org/base", LABELS)
    results = {result.metric_name: (result.metric_type, result.metric_value) for result in card.data.eval_results}
    assert results == {"macro_f1": ("f1", 0.75), "accuracy": ("accuracy", 0.9), "rows": ("rows", 40)}
    assert card.data.eval_results[0].dataset_name == "gs://bucket/tickets.csv"
    for text in (reference, "d" * 64, "projects/p/jobs/j", "learning_rate", r"`no \| pipe`", "`` `tick` ``"):
        assert text in card.text, text
    lineage = version.details["lineage"]
    assert lineage["hyperparameters"] == {"epochs": 3, "learning_rate": 2e-5} and lineage["job"] == "projects/p/jobs/j"
    assert lineage["training_dataset_digest"] == "d" * 64 and "digest" not in lineage
    assert set(version.details["libraries"]) == {"transformers", "torch", "safetensors"}
    assert card.data.to_dict()["lineage"] == lineage


def test_an_encoder_is_pushed_without_labels(models, store, tmp_path):
    encoder = make_encoder(models[0], tmp_path / "encoder")
    push(encoder, store.uri, "tickets")
    version = store.find("tickets", "champion")
    assert (version.details["architecture"], version.details["labels"]) == ("BertModel", [])
    assert ModelCard.load(Path(version.uri, "README.md")).data.pipeline_tag == "feature-extraction"


def make_encoder(model: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertModel"]}
    config.pop("id2label")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_resolves_and_pins_as_the_champion(models, store, tmp_path):
    alias = f"{store.uri}/tickets@champion"
    assert pin(alias, allow_none=True) == pin("", allow_none=True) == ""
    with pytest.raises(InputError, match="has no alias 'champion'"):
        pin(alias)
    metadata = resolve(alias, tmp_path / "none", allow_none=True)
    assert is_absent(tmp_path / "none") and metadata == {"absent": True, "reference": alias}
    first = push(models[0], store.uri, "tickets")
    assert pin(alias) == pin(first) == first
    second = push(models[1], store.uri, "tickets", compared_with=first)
    assert pin(alias, allow_none=True) == second and pin(f"{store.uri}/tickets@previous") == first
    resolved = resolve(second, tmp_path / "model")
    assert resolved["digest"] == digest_of_model(models[1]) == digest_of_model(tmp_path / "model")
    assert (resolved["reference"], resolved["revision"]) == (second, second.rpartition("@")[2])
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == sorted(p.name for p in models[1].iterdir())
    missing = f"{store.uri}/tickets@20200101-000000-0123456789ab"
    for call in (lambda: pin(missing, True), lambda: resolve(missing, tmp_path / "x", allow_none=True)):
        with pytest.raises(InputError, match="has no version"):
            call()


@pytest.mark.parametrize("file", ["config.json", "version.json"])
def test_a_version_that_someone_changed_is_refused(models, store, tmp_path, file):
    reference = push(models[0], store.uri, "tickets")
    path = Path(store.find("tickets", "champion").uri, file)
    document = json.loads(path.read_text())
    document |= {"classifier_dropout": 0.5} if file == "config.json" else {"digest": document["digest"][:12] + "0" * 52}
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="are not those that were pushed"):
        resolve(reference, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_store_in_a_bucket(models, tmp_path, storage_emulator):
    store = ModelStore("gs://bucket/models")
    first = push(models[0], "gs://bucket/models/", "tickets")
    second = push(models[1], "gs://bucket//models", "tickets", compared_with=first)
    assert first.startswith("gs://bucket/models/tickets@") and store.aliases("tickets")["previous"] in first
    assert pin("gs://bucket/models/tickets@champion") == second
    assert resolve(second, tmp_path / "model")["digest"] == digest_of_model(models[1])
    fs = fsspec.filesystem("gs", token="anon")
    assert fs.exists(f"{store.find('tickets', 'champion').uri}/README.md")


@dsl.pipeline
def push_pipeline(model_uri: str, metrics_uri: str, store: str, reference: str):
    champion = pin_model(model_reference=reference, allow_none=True).set_caching_options(False)
    old = resolve_model(model_reference=champion.output, allow_none=True)
    model = dsl.importer(artifact_uri=model_uri, artifact_class=Model, metadata={"base_model": "org/base"})
    evaluation = dsl.importer(artifact_uri=metrics_uri, artifact_class=Metrics, metadata={"macro_f1": 0.5})
    pushed = push_model(
        model=model.output,
        store_uri=store,
        name="tickets",
        compared_with=champion.output,
        evaluation=evaluation.output,
        lineage={"epochs": 3},
        job=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
    ).set_caching_options(False)
    resolve_model(model_reference=pushed.output).after(old)


def test_the_components_run(models, store, tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    alias = f"{store.uri}/tickets@champion"
    arguments = {"store": store.uri, "reference": alias, "metrics_uri": str(tmp_path / "metrics.json")}
    run = run_pipeline(push_pipeline, tmp_path / "1", model_uri=str(models[0]), **arguments)
    assert run.parameter("pin-model") == "" and is_absent(run.artifact("resolve-model", "model")[0])
    first = run.parameter("push-model")
    assert pin(alias) == first
    path, metadata = run.artifact("resolve-model-2", "model")
    assert digest_of_model(path) == digest_of_model(models[0]) == metadata["digest"]
    details = store.find("tickets", "champion").details
    assert details["metrics"] == {"macro_f1": 0.5}
    assert details["lineage"]["epochs"] == 3 and details["lineage"]["base_model"] == "org/base"
    assert details["lineage"]["job"].startswith("projects/local/locations/local/pipelineJobs/")
    run = run_pipeline(push_pipeline, tmp_path / "2", model_uri=str(models[1]), **arguments)
    assert (run.parameter("pin-model"), run.parameter("push-model")) == (first, pin(alias))


@dsl.pipeline
def store_pipeline(model_uri: str, store: str):
    model = dsl.importer(artifact_uri=model_uri, artifact_class=Model)
    push_model(model=model.output, store_uri=store, name="tickets", promote=False).set_caching_options(False)


def test_a_push_without_an_evaluation_runs(models, store, tmp_path):
    run_pipeline(store_pipeline, tmp_path, model_uri=str(models[0]), store=store.uri)
    assert store.aliases("tickets") == {} and len(store.versions("tickets")) == 1
