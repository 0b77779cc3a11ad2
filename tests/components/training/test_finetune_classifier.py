import json
import re

import numpy as np
import pytest
import torch
from kfp import dsl
from kfp.dsl import Artifact, Dataset, Model
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

from components.errors import InputError
from components.models import inspect_model
from components.training.finetune_classifier import callbacks
from components.training.finetune_classifier import train as training
from components.training.finetune_classifier.component import finetune_classifier
from components.training.finetune_classifier.finetune import finetune
from components.training.hyperparameters import parse_hyperparameters
from tests.components.training.corpus import build_base, make_rows, write_dataset
from tests.components.training.training_runs import FAST, largest_difference, train, weights
from tests.local_run import run_pipeline

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_model_learns_and_is_a_model(data, tmp_path):
    result = train(data, tmp_path / "model", epochs=8, evaluations_per_epoch=2, learning_rate=1e-2)
    facts = inspect_model(tmp_path / "model", "it")
    assert facts.labels == result.metadata["labels"] == ["bad", "good"]
    assert facts.digest == result.metadata["digest"]
    assert result.metrics["accuracy"] > 0.75
    assert result.metrics["steps"] == 48 and result.metrics["epochs"] == 8
    assert len(result.evaluations) == 16
    best = max(result.evaluations, key=lambda one: one["macro_f1"])
    assert result.metrics["macro_f1"] == best["macro_f1"] and result.metrics["best_step"] == best["step"]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads(json.dumps(result.metadata)) == result.metadata


def test_the_exported_model_is_the_best_checkpoint_by_the_engine_too(data, tmp_path):
    from components.inference.engine import TextClassifier

    # The rate falls apart after a good start: the best checkpoint is not the last.
    result = train(data, tmp_path / "model", epochs=8, learning_rate=3e-2, schedule="constant", warmup_share=0)
    rows = make_rows(40, seed=2)
    classifier = TextClassifier(tmp_path / "model")
    answers = classifier.classify([text for text, _ in rows]).argmax(axis=1)
    right = np.mean([classifier.labels[answer] == label for answer, (_, label) in zip(answers, rows, strict=True)])
    assert right == pytest.approx(result.metrics["accuracy"])


def test_the_same_seed_gives_the_same_bytes(data, tmp_path):
    train(data, tmp_path / "one", dropout=0.2, token_masking=0.2, seed=5)
    train(data, tmp_path / "two", dropout=0.2, token_masking=0.2, seed=5)
    train(data, tmp_path / "three", dropout=0.2, token_masking=0.2, seed=6)
    assert weights(tmp_path / "one") == weights(tmp_path / "two") != weights(tmp_path / "three")


SECOND_PROCESS_IS_SMALL = """
import os
if os.environ.get("RANK") == "1":
    import torch
    from transformers import BertForSequenceClassification
    forward = BertForSequenceClassification.forward

    def limited(self, *arguments, **inputs):
        if self.training and len(inputs["input_ids"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, *arguments, **inputs)

    BertForSequenceClassification.forward = limited
"""


def test_two_processes_give_what_one_gives(data, tmp_path, monkeypatch, capfd):
    # 81 rows leave one for the last step of an epoch, and none for one of the two processes.
    settings = {"class_weights": "balanced", "label_smoothing": 0.1, "token_masking": 0.2, "epochs": 3}
    one = train(data, tmp_path / "one", **settings)
    (tmp_path / "sitecustomize.py").write_text(SECOND_PROCESS_IS_SMALL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    heard = []
    two = train(
        data, tmp_path / "two", processes=2, on_evaluation=lambda step, seen: heard.append((step, seen)), **settings
    )
    assert two.metadata["processes"] == 2
    # One of them runs out of memory, and neither of them waits for ever.
    assert "8 rows at once do not fit into memory: each step now takes at most" in capfd.readouterr().out
    assert two.metrics["steps"] == one.metrics["steps"]
    assert two.metrics["train_loss"] == pytest.approx(one.metrics["train_loss"], abs=1e-5)
    for first, second in zip(one.evaluations, two.evaluations, strict=True):
        assert second == pytest.approx(first, abs=1e-5)
    assert [(entry["step"], entry["loss"]) for entry in two.evaluations] == [(step, s["loss"]) for step, s in heard]
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 2e-5


def limit_memory(monkeypatch, rows):
    """Has the model run out of memory above a number of rows while it learns."""
    forward = BertForSequenceClassification.forward

    def limited(self, *arguments, **inputs):
        if self.training and len(inputs["input_ids"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, *arguments, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", limited)


def test_out_of_memory_takes_fewer_rows_at_once_with_the_same_result(data, tmp_path, monkeypatch, capsys):
    expected = train(data, tmp_path / "expected", class_weights="balanced")
    limit_memory(monkeypatch, 5)
    result = train(data, tmp_path / "small", class_weights="balanced")
    assert "16 rows at once do not fit" in capsys.readouterr().out
    assert result.metrics["steps"] == expected.metrics["steps"]
    for one, other in zip(result.evaluations, expected.evaluations, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert largest_difference(tmp_path / "small", tmp_path / "expected") < 2e-5


def test_a_model_without_a_fixed_order_is_trained_all_the_same(data, tmp_path, monkeypatch, capsys):
    """As an operation does on a GPU that adds up in any order, in the middle of a step."""
    expected = train(data, tmp_path / "expected")
    forward = BertForSequenceClassification.forward

    def strict(self, *arguments, **inputs):
        if not torch.is_deterministic_algorithms_warn_only_enabled():
            self.classifier.weight.grad = torch.ones_like(self.classifier.weight)
            raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set ...")
        return forward(self, *arguments, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", strict)
    torch.use_deterministic_algorithms(True)
    try:
        result = train(data, tmp_path / "lenient")
    finally:
        torch.use_deterministic_algorithms(False)
    assert "in any order" in capsys.readouterr().out
    assert result.metrics["loss"] == expected.metrics["loss"]


def test_a_single_row_that_does_not_fit_is_an_error_that_says_what_to_do(data, tmp_path, monkeypatch):
    limit_memory(monkeypatch, 0)
    with pytest.raises(InputError, match="smaller max_length"):
        train(data, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_small_model_on_a_cpu_trains_in_one_thread(data, tmp_path, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("on a GPU the processor has little to do")
    seen = []
    given = {"epochs": 1, "on_evaluation": lambda *_: seen.append(torch.get_num_threads())}
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(3)
    train(data, tmp_path / "small", **given)
    assert torch.get_num_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    train(data, tmp_path / "told", **given)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(training, "ONE_THREAD_WEIGHTS", 0)
    train(data, tmp_path / "large", **given)
    assert seen == [1, 3, 3]


def test_what_the_listener_raises_comes_out_unchanged(data, tmp_path):
    class Pruned(Exception):
        pass

    def prune(step, metrics):
        assert set(metrics) == {"loss", "accuracy", "macro_f1"}
        raise Pruned(step)

    with pytest.raises(Pruned, match="6"):
        train(data, tmp_path / "model", on_evaluation=prune)
    assert not (tmp_path / "model").exists()


def test_data_that_cannot_be_trained_with_is_refused(data, tmp_path, capsys):
    def attempt(train_rows, validation_rows, **settings):
        write_dataset(tmp_path / "train", train_rows)
        write_dataset(tmp_path / "validation", validation_rows)
        return finetune(
            tmp_path / "train",
            tmp_path / "validation",
            data / "base",
            tmp_path / "model",
            parse_hyperparameters({**FAST, "epochs": 1, **settings}),
        )

    rows = make_rows(20)
    for wrong, told in [
        (([], rows), "nothing in the training Dataset.*no rows"),
        ((rows, []), "nothing in the validation Dataset.*no rows"),
        (([("text", None)] * 3, rows), "its 3 rows have no label"),
        (([("text", "good")] * 3, rows), "All training rows have the label 'good'"),
        (([("text", f"a title {number}") for number in range(10_001)], rows), "more than 10,000 labels"),
    ]:
        with pytest.raises(InputError, match=told):
            attempt(*wrong)
    with pytest.raises(InputError, match="Give auto"):
        if torch.cuda.is_available():
            pytest.skip("fp16 is all right on a GPU")
        attempt(rows, rows, precision="fp16")
    assert not (tmp_path / "model").exists()

    # A label of the validation rows alone is a class that is never predicted, and a row without a label is no row.
    result = attempt([*rows, ("no label", None)], [*rows, ("where", "other")], class_weights="balanced")
    assert result.metadata["labels"] == ["bad", "good", "other"]
    told = capsys.readouterr().out
    assert "1 training rows without a label are left out" in told
    assert "no training row has the label 'other'" in told


@pytest.mark.parametrize("processes", [1, 2])
def test_a_loss_that_is_no_number_ends_the_run(data, tmp_path, processes):
    base = build_base(tmp_path / "base", ["good", "bad"])
    broken = load_file(base / "model.safetensors")
    broken["classifier.bias"][0] = float("nan")
    save_file(broken, base / "model.safetensors", metadata={"format": "pt"})
    settings = parse_hyperparameters(FAST)
    with pytest.raises(InputError, match="lower learning_rate"):
        finetune(data / "train", data / "validation", base, tmp_path / "model", settings, processes=processes)
    assert not (tmp_path / "model").exists()


def test_the_losses_are_those_of_the_rows(data, tmp_path):
    # So slow that the weights stay as they are: the mean training loss is the loss of the training rows.
    result = finetune(
        data / "train",
        data / "train",
        data / "base",
        tmp_path / "model",
        parse_hyperparameters({**FAST, "learning_rate": 1e-12, "epochs": 1, "batch_size": 27}),
    )
    assert result.metrics["train_loss"] == pytest.approx(result.metrics["loss"], rel=1e-5)


def test_bf16_on_a_cpu_when_asked(data, tmp_path):
    result = train(data, tmp_path / "model", precision="bf16", epochs=1)
    assert result.metadata["precision"] == "bf16"
    assert {tensor.dtype for tensor in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.float32}


def test_the_log_says_how_far_it_is(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_LINES", 0.0)
    train(data, tmp_path / "model", epochs=1)
    told = capsys.readouterr().out
    assert re.search(
        r"finetune_classifier: step 3 of 6 \(50 %\), epoch 0.50 of 1, loss \d\.\d{3}, [\d,]+ rows/s, \d+ s left\n", told
    )
    assert re.search(r"after step 6: validation loss \d\.\d{3}, accuracy \d\.\d{3}, macro_f1 \d\.\d{3}\n", told)


def test_report_and_logs(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(data, tmp_path / "model", report=tmp_path / "report.html", logs=tmp_path / "logs")
    page = (tmp_path / "report.html").read_text()
    assert f"{result.metrics['macro_f1']:.3f}" in page and "warmup_share" in page and page.count("<svg") == 3
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert {"train/loss", "train/learning_rate", "validation/macro_f1"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("validation/loss")] == [6, 12]
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 13))


def test_component(data, tmp_path):
    (tmp_path / "settings.yaml").write_text("epochs: 1\nlearning_rate: 0.002\n")

    @dsl.pipeline(name="p")
    def pipeline(train: str, validation: str, base: str, settings: str):
        def read(uri, kind, name):
            return dsl.importer(artifact_uri=uri, artifact_class=kind, reimport=True).set_display_name(name).output

        finetune_classifier(
            train=read(train, Dataset, "train"),
            validation=read(validation, Dataset, "validation"),
            base_model=read(base, Model, "base"),
            hyperparameters={"epochs": 5, "batch_size": 8},
            hyperparameters_file=read(settings, Artifact, "settings"),
            model_config={"model_type": "distilbert", "dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32},
        )

    run = run_pipeline(
        pipeline,
        tmp_path / "run",
        train=str(data / "train"),
        validation=str(data / "validation"),
        base=str(data / "absent"),
        settings=str(tmp_path / "settings.yaml"),
    )
    model, metadata = run.artifact("finetune-classifier", "model")
    assert inspect_model(model, "it").labels == metadata["labels"] == ["bad", "good"]
    assert metadata["hyperparameters"]["epochs"] == 1 and metadata["hyperparameters"]["batch_size"] == 8
    assert metadata["steps"] == 11
    metrics, values = run.artifact("finetune-classifier", "metrics")
    assert json.loads(metrics.read_text())["macro_f1"] == values["macro_f1"]
    report, _ = run.artifact("finetune-classifier", "report")
    assert report.suffix == ".html" and report.is_file()
    logs, _ = run.artifact("finetune-classifier", "logs")
    assert list(logs.glob("events*"))
    assert f"checkpoints are kept at {tmp_path / 'run'}" in run.log
    # The job's own checkpoints are gone when the step is done.
    assert not list(tmp_path.rglob("checkpoint-*"))
