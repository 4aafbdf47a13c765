"""Long texts, padding, answers in windows, and embeddings: as in transformers and in
sentence-transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from brought import WORDS, bert, dense, encoder, loaded, read, table, texts, tokenizer
from tiny import MODELS, outputs, tiny

from acn_compress.data.load import Data
from acn_compress.errors import DataError, UnsupportedError
from acn_compress.measure.quality import Scores, measure, summary
from acn_compress.network.network import Network
from acn_compress.tasks import TASKS


def answers(net: Network, data: Data, size: int) -> torch.Tensor:
    """The logits of every example, in the order of the data's batches."""
    with torch.inference_mode(), net.evaluating():
        batches = [
            net(**{k: v for k, v in b.items() if k not in {"labels", "windows"}}).logits
            for b in data.batches(size)
        ]
    return torch.cat(batches)


# --- lengths


def test_a_text_is_read_to_the_models_own_limit(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", longest=400)
    long = [" ".join(["w1"] * n) for n in (20, 300, 390, 500)]
    data = read(table(tmp_path / "d.csv", text=long, label=[0, 1, 0, 1]), model)
    assert data.read is not None and data.read.lengths is not None
    lengths = data.read.lengths
    assert (lengths.limit, lengths.longest, lengths.cut) == (400, 400, 1)
    assert "3 of 4 texts have more than 256 tokens, the longest 400" in data.read.notes[-1]
    short = read(table(tmp_path / "d.csv", text=long, label=[0, 1, 0, 1]), model, max_length=30)
    assert short.read is not None and short.read.lengths is not None
    assert (short.read.lengths.longest, short.read.lengths.cut) == (30, 3)
    with pytest.raises(DataError, match=r"2 tokens stand around every text\. Expected at least 3"):
        read(table(tmp_path / "d.csv", text=long, label=[0, 1, 0, 1]), model, max_length=2)


# --- padding: the batch a text is in never changes its answer


def decoder(directory: Path, kind: str, **fields: Any) -> Path:
    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
    shape |= {"vocab_size": 35, "max_position_embeddings": 64, "num_labels": 3}
    ends = {"bos_token_id": 2, "eos_token_id": 3}
    extra = {} if kind == "GPT2" else {"intermediate_size": 16, "num_key_value_heads": 1}
    config = getattr(hf, f"{kind}Config")(**shape, **ends, **extra, **fields)
    model = getattr(hf, f"{kind}ForSequenceClassification")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(directory)
    return directory


def set_pad(directory: Path, pad: int | None) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token_id": pad}))


@pytest.mark.parametrize("pad", [0, None, -1, 999])
@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Mistral"])
def test_the_last_real_token_is_read_in_every_batch(
    kind: str, pad: int | None, tmp_path: Path
) -> None:
    model = decoder(tmp_path / "m", kind)
    tokenizer(model, frame=False)
    plain = hf.AutoModelForSequenceClassification.from_pretrained(model).eval()
    given = texts(12)
    encode = hf.AutoTokenizer.from_pretrained(model)
    plain.config.pad_token_id = None  # one text at a time, as it is
    with torch.inference_mode():
        theirs = {t: plain(input_ids=torch.tensor([encode(t)["input_ids"]])).logits for t in given}
    set_pad(model, pad)
    data = read(table(tmp_path / "d.parquet", text=given, label=[0, 1, 2] * 4), model)
    order = sorted(range(12), key=lambda i: len(given[i]))
    wanted = torch.cat([theirs[given[i]] for i in order])
    for size in (1, 5, 12):
        found = answers(loaded(model), data, size)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_text_that_ends_with_the_padding_is_refused_if_nobody_chose_it(tmp_path: Path) -> None:
    model = decoder(tmp_path / "m", "Llama")
    tokenizer(model, frame=True, pad_token=None)  # texts end with token 3, the end
    spec = table(tmp_path / "d.parquet", text=texts(3), label=[0, 1, 2])
    set_pad(model, None)
    with pytest.raises(DataError, match="row 0 ends with token 3, which is also the padding"):
        read(spec, model)
    set_pad(model, 3)  # said by the checkpoint: as transformers reads it
    assert len(read(spec, model)) == 3


# --- answers


def squad(path: Path, context: str, spans: list[tuple[int, str] | None]) -> str:
    found = [
        {"text": [] if s is None else [s[1]], "answer_start": [] if s is None else [s[0]]}
        for s in spans
    ]
    return table(
        path, question=["w1 w2"] * len(spans), context=[context] * len(spans), answers=found
    )


def test_spaces_around_an_answer_belong_to_no_token(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", "ForQuestionAnswering")
    context = "w3 w4 w5 w6 w7"
    spans = [(3, "w4 w5"), (2, " w4 w5"), (3, "w4 w5 "), (2, " w4 w5 "), (2, " "), (3, "w4 w")]
    data = read(squad(tmp_path / "d.parquet", context, [*spans, None]), model)
    labels = [data.examples[i]["labels"].tolist() for i in range(7)]
    assert labels == [[[5, 6]]] * 4 + [[[0, 0]]] + [[[5, 6]]] + [[[0, 0]]]


@pytest.mark.parametrize("longest", [512, 24])
def test_of_several_right_answers_any_is_right_in_any_order(longest: int, tmp_path: Path) -> None:
    """As SQuAD measures: the most over the answers, in windows too; F1 is not below exact match."""
    model = bert(tmp_path / "m", "ForQuestionAnswering", longest=longest)
    context, token = " ".join(WORDS[:28]), hf.AutoTokenizer.from_pretrained(model).vocab[WORDS[22]]
    long = (context.index(WORDS[20]), " ".join(WORDS[20:23]))
    short = (context.index(WORDS[22]), WORDS[22])
    task, found = TASKS["question-answering"], []
    for number, golds in enumerate(
        ([long, short], [short, long], [short, long, short], [short], [long])
    ):
        answers = {"text": [t for _, t in golds], "answer_start": [b for b, _ in golds]}
        rows = [answers, {"text": [], "answer_start": []}]
        path = tmp_path / f"{number}.parquet"
        data = read(table(path, question=["w1"] * 2, context=[context] * 2, answers=rows), model)
        batch = data.examples.collate([data.examples[0], data.examples[1]])
        ids = batch["input_ids"]
        logits = torch.zeros(len(ids), 2, ids.shape[1])
        logits[:, :, 0] = 1.0  # nothing, but where the first example has the short answer
        for window in range(int(batch.get("windows", [1])[0])):
            logits[window, :, ids[window] == token] = 2.0
        output = type("Output", (), {"start_logits": logits[:, 0], "end_logits": logits[:, 1]})()
        scores = Scores.of(task.score(output, batch))
        found.append((scores.score.tolist(), summary(scores, task)["token_f1"]))
    assert found[:4] == [([1.0, 1.0], 1.0)] * 4
    assert found[4] == ([0.0, 1.0], pytest.approx((2 * 1 / 4 + 1) / 2))


def test_answers_that_stand_elsewhere_are_told(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", "ForQuestionAnswering")
    spans = [(3, "w4 w5"), (4, "w4 w5"), (5, "w3"), None]
    data = read(squad(tmp_path / "d.parquet", "w3 w4 w5 w6 w7", spans), model)
    assert data.read is not None
    (note,) = [n for n in data.read.notes if "answer_start" in n]
    assert note.startswith("2 of 4 answers are not") and "row 1: 'w4 w5', there '4 w5 w6" in note


def test_an_answer_is_found_in_the_windows_as_run_qa_finds_it(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", "ForQuestionAnswering", longest=24)
    words = [WORDS[i % 30] for i in range(60)]
    context, at = " ".join(words), 47
    begin = sum(len(w) + 1 for w in words[:at])
    spans = [(begin, " ".join(words[at : at + 3])), None]
    data = read(squad(tmp_path / "d.parquet", context, spans), model)
    batch = data.examples.collate([data.examples[0], data.examples[1]])
    counts = batch["windows"].tolist()
    encode, decoded = hf.AutoTokenizer.from_pretrained(model), []
    for ids, (a, b) in zip(batch["input_ids"], batch["labels"].tolist(), strict=True):
        decoded.append(encode.decode(ids[a : b + 1]) if (a, b) != (0, 0) else None)
    own = [d for d in decoded[: counts[0]] if d is not None]
    assert own and set(own) == {" ".join(words[at : at + 3])}
    assert decoded[counts[0] :] == [None] * counts[1]
    assert data.read is not None and data.read.lengths is not None
    assert data.read.lengths.windows == sum(counts) and data.read.lengths.cut == 0
    with pytest.raises(DataError, match="the question of row 0 has 2 tokens"):
        read(squad(tmp_path / "d.parquet", context, spans), model, max_length=5)


def test_the_surest_window_that_finds_something_answers(tmp_path: Path) -> None:
    score = TASKS["question-answering"].score
    labels = torch.tensor([[0, 0], [4, 5], [0, 0], [0, 0], [0, 0], [3, 3]])
    logits = torch.zeros(6, 2, 8)
    batch = {
        "labels": labels,
        "windows": torch.tensor([2, 2, 2]),
        "attention_mask": torch.ones(6, 8, dtype=torch.long),
    }

    def say(window: int, start: int, end: int, sure: float) -> None:
        logits[window] = 0
        logits[window, 0, start], logits[window, 1, end] = sure, sure

    def right() -> list[float]:
        output = type("Output", (), {"start_logits": logits[:, 0], "end_logits": logits[:, 1]})()
        found = score(output, batch)
        assert found.loss.shape == found.weight.shape == (3,) and len(found.logits) == 12
        return [float(x) for x in found.score]

    say(0, 0, 0, 9.0)
    say(1, 4, 5, 1.0)  # the sure "nothing" gives way
    say(2, 0, 0, 1.0)
    say(3, 0, 0, 1.0)  # nothing in either, and nothing there
    say(4, 0, 0, 9.0)
    say(5, 0, 0, 1.0)  # nothing found, but there is an answer
    assert right() == [1.0, 1.0, 0.0]
    for spoken in ((0, 2, 3, 9.0), (3, 1, 1, 0.5), (4, 1, 1, 1.0), (5, 3, 3, 2.0)):
        say(*spoken)
    assert right() == [0.0, 0.0, 1.0]


def test_a_model_that_finds_every_answer_is_measured_right_in_windows(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", "ForQuestionAnswering", longest=24)
    context = " ".join(WORDS[i % 30] for i in range(40))
    data = read(squad(tmp_path / "d.parquet", context, [(0, "w0"), None, (30, "w9")]), model)
    scores = measure(loaded(model), data, batch_size=2)
    assert len(scores.score) == len(scores.weight) == 3


# --- embeddings

POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls_token": lambda h: h[0],
    "mean_tokens": lambda h: h.mean(0),
    "max_tokens": lambda h: h.amax(0),
    "mean_sqrt_len_tokens": lambda h: h.sum(0) / len(h) ** 0.5,
    "weightedmean_tokens": lambda h: (
        (h * torch.arange(1, len(h) + 1)[:, None]).sum(0) / sum(range(1, len(h) + 1))
    ),
    "lasttoken": lambda h: h[-1],
}


def own(directory: Path, given: list[str]) -> list[torch.Tensor]:
    """The last hidden states of plain transformers, one text at a time."""
    plain = hf.AutoModel.from_pretrained(directory).eval()
    encode = hf.AutoTokenizer.from_pretrained(directory)
    with torch.inference_mode():
        return [
            plain(**encode(t, return_tensors="pt", return_token_type_ids=True)).last_hidden_state[0]
            for t in given
        ]


def embedded(directory: Path, spec: str, count: int) -> list[torch.Tensor]:
    """The embeddings that stand for labels."""
    data = read(spec, directory)
    return [data.examples[i]["labels"] for i in range(count)]


@pytest.mark.parametrize("name", [*POOLS, "word", "two"])
def test_the_pooling_is_the_encoders_own(name: str, tmp_path: Path) -> None:
    flags: dict[str, Any] = {f"pooling_mode_{n}": n == name for n in POOLS}
    if name == "word":
        flags = {"pooling_mode": "lasttoken"}
    elif name == "two":
        flags = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    model = encoder(tmp_path / "m", flags)
    given = texts(7)
    pools = {"word": ["lasttoken"], "two": ["cls_token", "mean_tokens"]}.get(name, [name])
    found = embedded(model, table(tmp_path / "d.parquet", text=given), 7)
    for ours, hidden in zip(found, own(model, given), strict=True):
        theirs = torch.cat([POOLS[p](hidden) for p in pools])
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_dense_layers_norm_prompt_and_longest_text_are_the_encoders_own(tmp_path: Path) -> None:
    model = encoder(tmp_path / "m", {"pooling_mode_mean_tokens": True}, "Dense", "Normalize")
    weight, bias = torch.randn(5, 16), torch.randn(5)
    dense(model / "2_Dense", weight, bias)
    (model / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
    (model / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"q": "w1 w2 "}, "default_prompt_name": "q"})
    )
    given = ["w5 w6", "w7 w8 w9 w10 w11"]
    read_by_it = ["w1 w2 w5 w6", "w1 w2 w7 w8"]  # the prompt, cut at six tokens with the frame
    found = embedded(model, table(tmp_path / "d.parquet", text=given), 2)
    for ours, hidden in zip(found, own(model, read_by_it), strict=True):
        theirs = torch.tanh(hidden.mean(0) @ weight.T + bias)
        torch.testing.assert_close(ours, theirs / theirs.norm(), rtol=1e-4, atol=1e-5)
    net = loaded(model)
    assert net.copy().sentence is net.twin().sentence is net.sentence is not None
    data = read(table(tmp_path / "d.parquet", text=given), model)
    assert float(measure(net, data).value) == pytest.approx(1.0, abs=1e-5)


def test_the_reference_is_read_by_its_own_pooling(tmp_path: Path) -> None:
    first = encoder(tmp_path / "first", {"pooling_mode_cls_token": True})
    shutil.copytree(first, tmp_path / "mean")
    (tmp_path / "mean/1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    spec = table(tmp_path / "d.parquet", text=texts(4))
    data = read(spec, tmp_path / "mean", reference=loaded(first))
    hidden = own(first, texts(4))
    assert all(
        torch.allclose(data.examples[i]["labels"], hidden[i][0], atol=1e-5) for i in range(4)
    )
    assert measure(loaded(tmp_path / "mean"), data).value < 0.999
    assert measure(loaded(first), data).value > 0.9999


def test_modules_that_cannot_be_computed_are_refused_where_they_matter(tmp_path: Path) -> None:
    model = encoder(tmp_path / "m", {"pooling_mode_mean_tokens": True}, "LSTM")
    assert loaded(model).depth == 2
    with pytest.raises(UnsupportedError, match=r"modules\.json names a LSTM"):
        read(table(tmp_path / "d.parquet", text=texts(2)), model)


# --- tokens that the model does not embed


def test_a_tokenizer_may_know_more_than_the_model(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", "ForMaskedLM")
    larger = hf.AutoTokenizer.from_pretrained(model)
    larger.add_tokens([f"more{i}" for i in range(5000)])
    larger.save_pretrained(model)
    data = read(table(tmp_path / "d.parquet", text=texts(200)), model)
    highest = max(int(b["input_ids"].max()) for b in data.batches(50))
    assert highest < 35
    spec = table(tmp_path / "e.parquet", text=["w1 more7"])
    with pytest.raises(DataError, match="knows token 42, but the model embeds 35"):
        read(spec, model)


@pytest.mark.parametrize("name", [name for name in MODELS if tiny(name).modality == "text"])
def test_the_longest_text_is_as_long_as_the_table_of_positions(name: str) -> None:
    net = tiny(name)
    longest = min(net.longest_text, 64)
    outputs(net, input_ids=torch.full((1, longest), 5))
    embeddings = [m for n, m in net.model.named_modules() if n.endswith("position_embeddings")]
    absolute = [m for m in embeddings if isinstance(m, torch.nn.Embedding)]
    if absolute and net.family.model_type != "deberta-v2":  # its positions are relative, too
        with pytest.raises((IndexError, RuntimeError)):
            outputs(net, input_ids=torch.full((1, longest + 1), 5))
