import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from components.errors import InputError
from components.inference.engine import TextClassifier, windows
from components.inference.engine.batching import BatchLimits
from components.inference.engine.openvino_backend import widths_for
from components.inference.engine.prefetch import Prefetch
from components.inference.engine.settings import cpu_has_bf16
from components.inference.engine.usage import Usage
from tests.tiny_model import build_tiny_model, train_tokenizer

LABELS = ["billing", "error", "praise"]
WORDS = [*("the", "invoice", "was", "charged", "twice", "and", "printer"), *("thanks", "for", "great", "quick", "help")]


# The rows that a batch may have besides those of a full one.
FILLED = [most << zeros for zeros in range(9) for most in range(1, 8)]


def make_texts(count: int, longest: int = 150) -> list[str]:
    rng = np.random.default_rng(1)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(0, longest)))) for _ in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("engine") / "model", LABELS, make_texts(100))


@pytest.fixture(scope="module")
def expected(model):
    """The answers of PyTorch, one text at a time."""
    classifier = TextClassifier(model, batch_size=1, backend="torch")
    return classifier.classify(make_texts(165))


@pytest.fixture(scope="module", params=["torch", "openvino"])
def classifier(model, request):
    classifier = TextClassifier(model, backend=request.param)
    classifier.classify(make_texts(3))
    assert (classifier.backend, classifier.precision) == (request.param, "fp32")
    return classifier


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(40)), tokens=st.integers(1, 4000), rows=st.integers(0, 9))
def test_order_and_batches_change_no_answer(classifier, expected, order, tokens, rows):
    texts = make_texts(165)
    classifier.engine._backend.limits = BatchLimits(tokens, rows)
    answers = classifier.classify([texts[number] for number in order])
    np.testing.assert_allclose(answers, expected[list(order)], atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 165), max_size=6), ahead=st.integers(0, 3))
def test_windows_come_back_in_their_order(classifier, expected, cuts, ahead):
    texts = make_texts(165)
    cuts = [0, *sorted(cuts), 165]
    parts = [texts[start:stop] for start, stop in zip(cuts, cuts[1:], strict=False)]
    answers = list(classifier.stream(iter(parts), ahead))
    assert [len(answer) for answer in answers] == [len(part) for part in parts if part]
    np.testing.assert_allclose(np.concatenate(answers), expected, atol=1e-5)


def test_shapes_are_few_however_many_windows_there_are(model):
    """What computes a shape for the first time keeps some memory of each: 100 windows would leave 100 last batches."""
    classifier = TextClassifier(model)
    classifier.classify(make_texts(2))
    shapes, backend = set(), classifier.engine._backend
    start = backend.start
    backend.start = lambda arrays, padded: shapes.add(arrays["input_ids"].shape) or start(arrays, padded)
    texts = [" ".join(["the"] * (1 + number % 7) + [WORDS[number % 12]]) for number in range(6000)]
    rng = np.random.default_rng(0)
    for count in rng.integers(1, 300, 100):
        classifier.classify(rng.choice(texts, size=int(count)).tolist())
    rows_of = backend.limits.rows_of
    kinds = {(rows, width) for width in range(1, 12) for rows in (rows_of(width), *FILLED) if rows <= rows_of(width)}
    assert shapes <= kinds


@pytest.mark.parametrize(("precision", "most", "share"), [("fp32", 160, 1 / 32), ("int8", 96, 1 / 16)])
def test_widths_are_few_and_pad_little(precision, most, share):
    widths = widths_for(precision, 500)
    limits = BatchLimits(1024, longest=500, widths=widths)
    assert len(widths) <= most and widths[-1] == 500
    for length in range(1, 501):
        assert length <= limits.width_of(length) <= min(500, length * (1 + share))


def test_identical_texts_are_computed_once(model, expected):
    classifier = TextClassifier(model, backend="torch")
    texts = make_texts(165)
    different = len(set(texts[:20]))
    np.testing.assert_allclose(classifier.classify(texts[:20] * 7), np.tile(expected[:20], (7, 1)), atol=1e-5)
    assert (classifier.usage.rows, classifier.usage.computed_rows) == (140, different)
    assert classifier.usage.metadata()["repeated_rows"] == 140 - different


@pytest.mark.parametrize(("processes", "expected"), [(1, 50), (2, 100 / 6)])
def test_speed_leaves_out_the_time_to_start(processes, expected):
    """Of ten thousand seconds eight thousand went into starting, in one engine or in two at once."""
    usage = Usage(tokens=100_000, started=time.monotonic() - 10_000)
    usage.seconds["starting"] = 8_000.0
    assert usage.metadata(processes)["tokens_per_second"] == pytest.approx(expected, rel=0.1)


def test_memory_does_not_grow_with_the_stream(model, monkeypatch):
    """Windows are asked for as they are needed: two ahead, one on its way, one in the works."""
    classifier = TextClassifier(model, backend="torch")
    asked = [0]

    def stream():
        for _ in range(30):
            asked[0] += 1
            yield make_texts(3)

    for number, _ in enumerate(classifier.stream(stream())):
        assert asked[0] <= number + 5


def test_usage_says_where_the_time_went(model):
    classifier = TextClassifier(model)
    classifier.classify(make_texts(165))
    metadata = classifier.usage.metadata()
    shares = metadata["time_shares"]
    assert set(shares) == {"starting", "reading", "tokenizing", "waiting", "computing", "writing"}
    assert shares["starting"] > 0 and shares["computing"] > 0
    assert 0.5 < sum(shares[part] for part in ("starting", "waiting", "computing", "writing")) <= 1
    assert classifier.usage.tokens == sum(
        min(len(ids), 128) for ids in AutoTokenizer.from_pretrained(model)(make_texts(165))["input_ids"]
    )
    assert 0 <= metadata["padding_share"] < 0.2 and metadata["peak_memory_mib"] > 100


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precisions_answer_nearly_the_same(model, expected, precision, capsys):
    classifier = TextClassifier(model, precision=precision, tolerance=0.2)
    answers = classifier.classify(make_texts(165))
    if precision == "bf16" and not cpu_has_bf16():
        assert classifier.precision == "fp32" and "going on in fp32" in capsys.readouterr().out
    else:
        assert (classifier.precision, classifier.backend) == (precision, "openvino")
        assert np.abs(answers - expected).max() > 1e-5
    assert (answers.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.8


def test_bf16_in_pytorch(model, expected):
    if not cpu_has_bf16():
        pytest.skip("this CPU does not compute in bf16")
    classifier = TextClassifier(model, precision="bf16", backend="torch")
    answers = classifier.classify(make_texts(165))
    assert (classifier.backend, classifier.precision) == ("torch", "bf16")
    assert 1e-5 < np.abs(answers - expected).max() < 0.2


def test_int8_beyond_the_tolerance_is_refused(model, monkeypatch):
    from components.inference.engine import openvino_backend

    def crude(converted, calibration):
        """Throws all weights' small digits away, as a careless quantization would."""
        import openvino as ov

        for node in converted.get_ordered_ops():
            if node.get_type_name() == "Constant" and len(node.shape) == 2 and node.data.dtype == np.float32:
                constant = ov.op.Constant(np.round(node.data))
                for target in node.output(0).get_target_inputs():
                    target.replace_source_output(constant.output(0))
        return converted

    monkeypatch.setattr(openvino_backend, "quantize", crude)
    with pytest.raises(InputError, match=r"int8 is refused: .* % of \d+ checked rows get another label, and 0 %"):
        TextClassifier(model, precision="int8", tolerance=0.0).classify(make_texts(165))


def test_a_backend_that_answers_otherwise_is_not_taken(model, expected, monkeypatch, capsys):
    from components.inference.engine import openvino_backend

    convert = openvino_backend.convert

    def wrong(ov, network):
        head = network.model.classifier
        right, head.bias = head.bias, torch.nn.Parameter(head.bias + torch.tensor([0.5, 0.0, 0.0]), requires_grad=False)
        try:
            return convert(ov, network)
        finally:
            head.bias = right

    monkeypatch.setattr(openvino_backend, "convert", wrong)
    classifier = TextClassifier(model)
    np.testing.assert_allclose(classifier.classify(make_texts(165)), expected, atol=1e-5)
    assert classifier.backend == "torch"
    assert "OpenVINO in fp32 is refused: its answers differ" in capsys.readouterr().out
    with pytest.raises(InputError, match="OpenVINO in fp32 is refused"):
        TextClassifier(model, backend="openvino").classify(make_texts(3))


def test_a_model_that_cannot_be_converted_is_computed_by_pytorch(model, expected, monkeypatch, capsys):
    from components.inference.engine import openvino_backend

    def no_conversion(ov, network):
        raise openvino_backend.ConversionError("an operation is unknown")

    monkeypatch.setattr(openvino_backend, "convert", no_conversion)
    classifier = TextClassifier(model)
    np.testing.assert_allclose(classifier.classify(make_texts(165)), expected, atol=1e-5)
    assert classifier.backend == "torch"
    assert capsys.readouterr().out.count("OpenVINO cannot take this model") == 1


def test_openvino_tells_nobody_of_its_use(model):
    """Neither it nor nncf imports the package that reports to a server."""
    code = (
        "import sys\nfrom components.inference.engine import TextClassifier\n"
        f"TextClassifier({str(model)!r}, precision='int8', tolerance=1.0).classify(['the invoice', 'help'])\n"
        "assert 'openvino' in sys.modules and 'nncf' in sys.modules\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"backend": "onnx"}, "no backend 'onnx'"),
        ({"precision": "fp64"}, "no precision 'fp64'"),
        ({"precision": "fp16"}, "fp16 is for GPUs"),
        ({"precision": "int8", "backend": "torch"}, "int8 needs OpenVINO"),
        ({"precision": "int8", "tolerance": 2.0}, "tolerance is 2.0"),
        ({"batch_size": -1}, "batch_size is -1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(model, setting, message):
    with pytest.raises(InputError, match=message):
        TextClassifier(model, device="cpu", **setting)


def small_memory(classifier: TextClassifier, rows: int, tried: list[int]) -> None:
    def fails(module, arguments, inputs):
        tried.append(len(inputs["input_ids"]))
        if tried[-1] > rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    classifier.engine._backend._network.model.register_forward_pre_hook(fails, with_kwargs=True)


def test_a_batch_that_does_not_fit_is_halved(model, expected, capsys):
    classifier = TextClassifier(model, batch_size=50, backend="torch")
    classifier.classify(["the"])
    tried: list[int] = []
    small_memory(classifier, 12, tried)
    np.testing.assert_allclose(classifier.classify(make_texts(165)), expected, atol=1e-5)
    assert tried[:2] == [16, 8] and sum(rows > 12 for rows in tried) < 8
    assert "A batch of 16 texts (2,048 tokens) does not fit into the memory of cpu" in capsys.readouterr().out


def test_a_text_that_does_not_fit_alone_is_an_error(model):
    classifier = TextClassifier(model, batch_size=4, backend="torch")
    classifier.classify(["the"])
    small_memory(classifier, 0, [])
    with pytest.raises(InputError, match="One text of 3 tokens does not fit"):
        classifier.classify(["the", "invoice", "was"])


def test_another_error_of_the_model_is_not_taken_for_a_lack_of_memory(model):
    classifier = TextClassifier(model, backend="torch")
    classifier.classify(["the"])

    def broken(module, arguments):
        raise RuntimeError("shapes do not match")

    classifier.engine._backend._network.model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        classifier.classify(["the"])


def test_what_fails_in_the_reading_thread_is_raised_and_the_thread_ends():
    def items():
        yield 1
        raise OSError("the disk is gone")

    before = threading.active_count()
    with Prefetch(items()) as prefetch:
        iterator = iter(prefetch)
        assert next(iterator) == 1
        with pytest.raises(OSError, match="the disk is gone"):
            next(iterator)
    with Prefetch(iter(range(1000))) as prefetch:
        assert next(iter(prefetch)) == 0
    assert threading.active_count() == before


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="ab", max_size=30), max_size=60))
def test_windows_in_memory_hold_all_texts_and_are_bounded(texts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW_ROWS", 7)
        patch.setattr(windows, "WINDOW_BYTES", 40)
        cut = list(windows.cut_texts(texts))
    assert [text for part in cut for text in part] == texts
    assert all(len(part) <= 7 and (len(part) == 1 or sum(map(len, part)) <= 40) for part in cut)


def small(config_class, **more):
    return config_class(
        vocab_size=120,
        num_labels=3,
        id2label=dict(enumerate(LABELS)),
        label2id={n: i for i, n in enumerate(LABELS)},
        **more,
    )


def save(model_, folder, **tokenizer_options):
    torch.manual_seed(0)
    model_.eval().save_pretrained(folder)
    tokenizer = train_tokenizer(make_texts(50), size=120)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **tokenizer_options).save_pretrained(folder)
    return folder


def test_a_model_that_takes_no_token_types(tmp_path):
    """The tokenizer gives DistilBERT token_type_ids, which its forward does not take."""
    config = small(DistilBertConfig, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64)
    folder = save(DistilBertForSequenceClassification(config), tmp_path / "model", pad_token="[PAD]")
    classifier = TextClassifier(folder)
    assert classifier.max_length == 64
    answers = classifier.classify(["", "the invoice " * 100])
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_roberta_counts_positions_from_behind_the_padding_index(tmp_path):
    config = small(
        RobertaConfig, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=66, pad_token_id=1, type_vocab_size=1,
    )  # fmt: skip
    folder = save(
        RobertaForSequenceClassification(config), tmp_path / "model", pad_token="[UNK]", model_input_names=["input_ids"]
    )
    classifier = TextClassifier(folder)
    assert classifier.max_length == 64
    assert np.isfinite(classifier.classify(["the invoice " * 100])).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_without_a_padding_token(tmp_path, side):
    config = small(
        GPT2Config,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=64,
        bos_token_id=3,
        eos_token_id=3,
        initializer_range=0.5,
    )
    model_ = GPT2ForSequenceClassification(config)
    model_.config.pad_token_id = None
    folder = save(model_, tmp_path / "model", eos_token="[SEP]", padding_side=side)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = None
    tokenizer.save_pretrained(folder)
    texts = ["", "the invoice was charged", "thanks", "printer error " * 60]
    alone = np.concatenate([TextClassifier(folder, backend="torch").classify([text]) for text in texts])
    for backend in ("torch", "auto"):
        np.testing.assert_allclose(TextClassifier(folder, backend=backend).classify(texts), alone, atol=1e-5)


def test_a_tokenizer_that_cannot_pad_is_refused(tmp_path, model):
    folder = shutil.copytree(model, tmp_path / "model")
    tokenizer = train_tokenizer(make_texts(50))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(folder)
    with pytest.raises(InputError, match="neither a padding nor an end-of-text token"):
        TextClassifier(folder)
