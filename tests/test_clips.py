"""Clips: what the model hears is what plain transformers would give it, sample for sample; what
would be heard otherwise than it was recorded is refused, with the name of the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers as hf
from brought import loaded, read
from test_card import executed
from tiny import SHAPE, SOUND, STABLE, network, plain

import acn_compress
from acn_compress.data.load import Data
from acn_compress.errors import AcnError, ConfigError, DataError, UnsupportedError
from acn_compress.measure.quality import measure
from acn_compress.onnx.inputs import inputs_for
from acn_compress.training.teacher import load_teacher

sf = pytest.importorskip("soundfile")
soxr = pytest.importorskip("soxr")
RATE = 16_000
PITCH = {"low": 220, "mid": 660, "high": 1800}
RNG = np.random.default_rng(0)


def model(directory: Path, stable: bool = False, masks: bool | None = None, **fields: Any) -> Path:
    """A tiny wav2vec 2.0 with its feature extractor, of which the stable variant takes masks."""
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(PITCH)), "label2id": {n: i for i, n in enumerate(PITCH)}}
    config = hf.Wav2Vec2Config(**{**SHAPE, **SOUND, **(STABLE if stable else {}), **names} | fields)
    net = hf.Wav2Vec2ForSequenceClassification(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    net.save_pretrained(directory)
    told = stable if masks is None else masks
    hf.Wav2Vec2FeatureExtractor(return_attention_mask=told).save_pretrained(directory)
    return directory


def tone(name: str, samples: int, rate: int = RATE, channels: int = 1) -> Any:
    """[samples, channels] of a sine and some noise."""
    time = np.arange(samples)[:, None] / rate
    noise = 0.05 * RNG.standard_normal((samples, channels))
    return (0.3 * np.sin(2 * np.pi * PITCH[name] * time) + noise).astype("float32")


def folder(directory: Path) -> Path:
    """Clips of several lengths by class: wav and flac, mono and stereo, at two sampling rates."""
    for name in PITCH:
        (directory / name).mkdir(parents=True)
        for i, (samples, rate, channels, kind) in enumerate(
            [
                (400, RATE, 1, "wav"),
                (400, RATE, 2, "wav"),
                (517, RATE, 1, "flac"),
                (700, 22_050, 1, "wav"),
                (300, 8_000, 2, "flac"),
            ]
        ):
            wave = tone(name, samples, rate, channels)
            sf.write(directory / name / f"{i}.{kind}", wave, rate)
    return directory


def heard(path: Path) -> Any:
    """A file as one hears it: the mean of its channels at 16,000 Hz."""
    wave, rate = sf.read(path, dtype="float32", always_2d=True)
    mono = wave.mean(1)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE)


def theirs(directory: Path, paths: list[Path]) -> torch.Tensor:
    """What plain transformers answers, a clip at a time: [clips, classes]."""
    net = hf.AutoModelForAudioClassification.from_pretrained(directory).eval()
    extractor = hf.AutoFeatureExtractor.from_pretrained(directory)
    with torch.inference_mode():
        made = (extractor(heard(path), sampling_rate=RATE, return_tensors="pt") for path in paths)
        return torch.cat([net(**inputs).logits for inputs in made])


def ours(data: Data, directory: Path) -> torch.Tensor:
    """The answers of our network, in the order of the rows: [clips, classes]."""
    net, found = loaded(directory), dict[int, torch.Tensor]()
    for places, batch in zip(data.places(4), data.batches(4), strict=True):
        batch.pop("labels")
        with torch.inference_mode():
            found |= dict(zip(places.tolist(), net(**batch).logits, strict=True))
    return torch.stack([found[i] for i in range(len(data))])


def paths_of(root: Path) -> list[Path]:
    """The files of a folder in the order in which datasets reads them."""
    return [root / name / file.name for name in sorted(PITCH) for file in files(root / name)]


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


@pytest.mark.parametrize("kind", ["group", "layer", "group-masked", "layer-unmasked"])
def test_answers_are_those_of_plain_transformers_to_each_clip_alone(
    kind: str, tmp_path: Path
) -> None:
    masks = kind in {"layer", "group-masked"}
    source = model(tmp_path / "m", kind.startswith("layer"), masks)
    data = read(str(folder(tmp_path / "clips")), source)
    expected = theirs(source, paths_of(tmp_path / "clips"))
    together = kind == "layer"  # elsewhere padding would change what it answers
    apart = float((ours(data, source) - expected).abs().max())
    assert apart <= 1e-5 and float(expected.std(0).max()) > 1e-3
    sizes = [len(places) for places in data.places(4)]
    assert (sizes == [4, 4, 4, 3]) is together
    assert ("attention_mask" in next(iter(data.batches(4)))) is masks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_hears_the_same_clips(dtype: torch.dtype, tmp_path: Path) -> None:
    source, root = model(tmp_path / "m", stable=True), str(folder(tmp_path / "clips"))
    whole = measure(loaded(source), read(root, source))
    hf.AutoModelForAudioClassification.from_pretrained(source).to(dtype).save_pretrained(source)
    net = loaded(source)
    assert net.dtype == dtype
    half = measure(net, read(root, source))
    assert half.loss == pytest.approx(whole.loss, abs=0.05)


def test_positions_that_begin_with_a_norm_over_time_are_not_padded(tmp_path: Path) -> None:
    norms = {"conv_pos_batch_norm": True, "feat_extract_norm": "layer"}
    config = hf.HubertConfig(**SHAPE, **SOUND, **norms, num_labels=3)
    config.id2label = dict(enumerate(PITCH))
    torch.manual_seed(0)
    net = hf.HubertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    net.save_pretrained(tmp_path / "m")
    hf.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(tmp_path / "m")
    data = read(str(folder(tmp_path / "clips")), tmp_path / "m")
    expected = theirs(tmp_path / "m", paths_of(tmp_path / "clips"))
    assert float((ours(data, tmp_path / "m") - expected).abs().max()) <= 1e-5


def test_one_length_gives_the_bits_of_plain_transformers(tmp_path: Path) -> None:
    source = model(tmp_path / "m")
    data = read(str(folder(tmp_path / "clips")), source)
    extractor = hf.AutoFeatureExtractor.from_pretrained(source)
    paths = paths_of(tmp_path / "clips")
    for places, batch in zip(data.places(4), data.batches(4), strict=True):
        waves = [heard(paths[i]) for i in places.tolist()]
        made = extractor(waves, sampling_rate=RATE, return_tensors="pt", padding=True)
        assert torch.equal(batch["input_values"], made["input_values"])
    masked = model(tmp_path / "s", stable=True)
    data = read(str(tmp_path / "clips"), masked)
    extractor = hf.AutoFeatureExtractor.from_pretrained(masked)
    for places, batch in zip(data.places(4), data.batches(4), strict=True):
        waves = [heard(paths[i]) for i in places.tolist()]
        made = extractor(waves, sampling_rate=RATE, return_tensors="pt", padding=True)
        for name, values in made.items():
            assert torch.equal(batch[name], values.to(batch[name].dtype))


def test_the_report_says_what_was_heard(tmp_path: Path) -> None:
    data = read(str(folder(tmp_path / "clips")), model(tmp_path / "m"))
    assert data.read is not None and data.read.clips is not None
    clips = data.read.clips
    assert (clips.rate, clips.resampled, clips.stereo) == (RATE, 6, 6)
    assert clips.longest == pytest.approx(0.0375)
    assert data.read.columns == {"label": "label", "audio": "audio"}
    assert any("4 lengths" in note for note in data.read.notes)


@pytest.mark.parametrize("kind", ["bytes", "parquet", "paths", "csv"])
def test_a_table_of_recordings_is_the_folder(kind: str, tmp_path: Path) -> None:
    source, root = model(tmp_path / "m"), folder(tmp_path / "clips")
    paths = paths_of(root)
    labels = [path.parent.name for path in paths]
    recordings: list[Any] = [str(path) for path in paths]
    if kind in {"bytes", "parquet"}:
        recordings = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    rows = datasets.Dataset.from_dict({"audio": recordings, "label": labels})
    place: Any = rows
    if kind == "parquet":
        place = str(tmp_path / "rows.parquet")
        rows.cast_column("audio", datasets.Audio()).to_parquet(place)
    if kind == "csv":
        place = str(tmp_path / "rows.csv")
        rows.to_csv(place)
    found, expected = read(place, source), read(str(root), source)
    for a, b in zip(found.batches(4), expected.batches(4), strict=True):
        assert torch.equal(a["input_values"], b["input_values"])
        assert torch.equal(a["labels"], b["labels"])


def test_a_metadata_file_says_the_labels(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    lines = ["file_name,label"]
    for i, name in enumerate(PITCH):
        sf.write(tmp_path / "clips" / f"{i}.wav", tone(name, 400), RATE)
        lines.append(f"{i}.wav,{name}")
    (tmp_path / "clips/metadata.csv").write_text("\n".join(lines))
    data = read(str(tmp_path / "clips"), model(tmp_path / "m"))
    assert [int(data.examples[i]["labels"]) for i in range(3)] == [0, 1, 2]


def broken(path: Path, what: str) -> None:
    """A file that is no clip."""
    wave = tone("low", 400)
    if what == "empty":
        path.write_bytes(b"")
    elif what == "no-samples":
        sf.write(path, wave[:0], RATE)
    elif what == "text":
        path.write_text("this is no sound at all")
    elif what == "short":
        sf.write(path, wave[:13], RATE)
    elif what == "surround":
        sf.write(path, np.repeat(wave, 6, 1), RATE)
    elif what == "nan":
        sf.write(path, np.where(wave > 0.3, np.nan, wave), RATE, subtype="FLOAT")
    elif what == "cut":
        whole = io.BytesIO()
        sf.write(whole, tone("low", 40_000), RATE, format="FLAC")
        path.write_bytes(whole.getvalue()[:20_000])


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("empty", "is empty"),
        ("no-samples", "is empty"),
        ("text", "is no audio that can be read"),
        ("short", r"is too short: 0.0008125 s, but the model needs 14 samples"),
        ("surround", "has 6 channels"),
        ("nan", "samples that are no numbers"),
        ("cut", "cut short|no audio that can be read"),
    ],
)
def test_a_file_that_is_no_clip_is_named(what: str, text: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "clips")
    broken(root / "high" / "bad.wav", what)
    with pytest.raises(DataError, match=rf"row 5 of column 'audio' \(.*high/bad\.wav\) .*({text})"):
        read(str(root), model(tmp_path / "m"))


@pytest.mark.parametrize(
    ("audio", "text"),
    [
        ("https://example.org/a.wav", "is not a file of this machine"),
        ("/nowhere/a.wav", "is not a file of this machine"),
        ([0.1, 0.2], "holds no recordings"),
    ],
)
def test_what_is_no_recording_is_refused(audio: Any, text: str, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"audio": [audio], "label": ["low"]})
    with pytest.raises(DataError, match=text):
        read(rows, model(tmp_path / "m"))


def test_a_missing_or_foreign_feature_extractor_is_refused(tmp_path: Path) -> None:
    root, source = str(folder(tmp_path / "clips")), model(tmp_path / "m")
    hf.WhisperFeatureExtractor().save_pretrained(source)
    with pytest.raises(DataError, match=r"WhisperFeatureExtractor.* makes input_features"):
        read(root, source)
    hf.Wav2Vec2FeatureExtractor(padding_side="left").save_pretrained(source)
    with pytest.raises(DataError, match="at the left"):
        read(root, source)
    (source / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match="has no feature extractor, so its sampling rate"):
        read(root, source)


def test_options_of_other_modalities_are_refused(tmp_path: Path) -> None:
    root, source = str(folder(tmp_path / "clips")), model(tmp_path / "m")
    with pytest.raises(ConfigError, match="augment 'crop' is for images"):
        read(root, source, augment="crop")
    with pytest.raises(DataError, match="max_length is of texts"):
        read(root, source, max_length=10)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"use_weighted_layer_sum": True}, "weighted sum of what every block says"),
        ({"adapter_attn_dim": 8}, "adapters behind its blocks or in them"),
        ({"problem_type": "multi_label_classification"}, "several classes per clip"),
        ({"problem_type": "regression"}, "gives numbers and no classes"),
    ],
)
def test_heads_that_cannot_be_right_are_refused(
    fields: dict[str, Any], text: str, tmp_path: Path
) -> None:
    root, source = str(folder(tmp_path / "clips")), model(tmp_path / "m", **fields)
    with pytest.raises(UnsupportedError, match=text):
        read(root, source)


def test_layerdrop_is_off_and_no_block_is_left_out_in_training(tmp_path: Path) -> None:
    net = loaded(model(tmp_path / "m", layerdrop=0.999))
    assert net.config.layerdrop == 0.0
    net.model.train()
    with net.recording() as prefixes:
        net(**net.example_inputs())
    assert len(prefixes) == net.depth + 1


def test_old_names_of_the_normed_convolution_are_read(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = model(tmp_path / "m")
    state = load_file(source / "model.safetensors")
    old = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    before = loaded(source)
    save_file(old, source / "model.safetensors", metadata={"format": "pt"})
    inputs = before.example_inputs()
    with torch.inference_mode():
        assert torch.equal(loaded(source).answer(**inputs), before.answer(**inputs))


@pytest.mark.parametrize("name", ["wav2vec2-stable", "hubert-stable"])
def test_the_frames_that_count_are_those_of_the_model(name: str) -> None:
    net = network_of(name)
    inputs = inputs_for(net, 3, 19, 0)
    counted = net.counted(inputs)
    assert counted is not None and 0 < int(counted[-1].sum()) < counted.shape[1]
    base: Any = net.model.base_model
    told = base._get_feature_vector_attention_mask(counted.shape[1], inputs["attention_mask"])
    assert torch.equal(counted.bool(), told)
    with net.recording() as prefixes, torch.inference_mode():
        net(**inputs)
    assert prefixes[0].shape[:2] == counted.shape


def network_of(name: str) -> Any:
    from acn_compress.network.adopt import adopt

    return adopt(plain(name))


def test_clips_too_short_for_what_training_hides_are_refused(tmp_path: Path) -> None:
    root = str(folder(tmp_path / "clips"))
    source = model(tmp_path / "m", mask_time_prob=0.5, mask_time_length=100)
    data = read(root, source, role="train")
    rows = [data.examples[0], data.examples[1]]
    assert "input_values" in data.examples.collate(rows)
    with pytest.raises(DataError, match=r"hides 806 at a time while it trains"):
        data.examples.collate(rows, train=True)


def test_a_teacher_that_hears_otherwise_is_refused(tmp_path: Path) -> None:
    from acn_compress.checkpoint.find import find_source

    sources = [find_source(model(tmp_path / name)) for name in ("a", "b")]
    net = loaded(tmp_path / "a")
    load_teacher(sources[1], net, sources[0])
    hf.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "b")
    with pytest.raises(ConfigError, match="hears clips with do_normalize False"):
        load_teacher(sources[1], net, sources[0])


def test_prepared_again_on_every_use_clips_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, source = str(folder(tmp_path / "clips")), model(tmp_path / "m")
    kept = read(root, source)
    monkeypatch.setattr("acn_compress.data.audio.IN_MEMORY", 0)
    for a, b in zip(kept.batches(4), read(root, source).batches(4), strict=True):
        assert torch.equal(a["input_values"], b["input_values"])


def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    root, source = str(folder(tmp_path / "clips")), model(tmp_path / "m")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(AcnError, match=r"pip install 'acn-compress\[audio\]'"):
        read(root, source)


@pytest.mark.long
def test_from_clips_to_a_file_that_a_stranger_can_use(tmp_path: Path) -> None:
    import onnxruntime

    root, source = folder(tmp_path / "clips"), model(tmp_path / "m", stable=True)
    place = str(root)
    acn_compress.convert(source, tmp_path / "acn", data=place, epochs=1, batch_size=4)
    acn_compress.truncate(tmp_path / "acn", tmp_path / "cut", depth=2)
    acn_compress.prune(tmp_path / "cut", tmp_path / "small", target_sparsity=0.3, data=place)
    acn_compress.export(tmp_path / "small", tmp_path / "out")
    session = onnxruntime.InferenceSession(str(tmp_path / "out/onnx/model.onnx"))
    extractor = hf.AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    assert len(executed(tmp_path / "small")) == 2 and len(executed(tmp_path / "out")) == 1
    names = [i.name for i in session.get_inputs()]
    assert names == ["input_values", "attention_mask"]
    waves = [heard(path) for path in paths_of(root)[:3]]
    made = extractor(waves, sampling_rate=RATE, return_tensors="np", padding=True)
    feeds = {n: made[n].astype("int64" if n == "attention_mask" else "float32") for n in names}
    found = session.run(["logits"], feeds)[0]
    net = network(tmp_path / "small")
    with torch.inference_mode():
        expected = net(**{n: torch.from_numpy(v) for n, v in feeds.items()}).logits
    assert float(np.abs(found - expected.numpy()).max()) < 1e-5
    data = read(place, tmp_path / "small")
    scores = measure(net, data)
    report = acn_compress.evaluate(tmp_path / "out", data=place)
    assert report.result.value == pytest.approx(scores.value)
    assert report.result.loss == pytest.approx(scores.mean_loss, abs=1e-5)


def test_what_depends_on_padding_is_not_kept_of_a_teacher(tmp_path: Path) -> None:
    whole, clips = model(tmp_path / "m", apply_spec_augment=False), folder(tmp_path / "clips")
    how: dict[str, Any] = {"teacher": whole, "cache_teacher": True, "epochs": 1}
    with pytest.raises(ConfigError, match="may depend on the batch that it is padded in"):
        acn_compress.finetune(whole, tmp_path / "out", data=clips, eval_data=clips, **how)
