import shutil

import numpy as np
import pytest
import torch
from tiny_gpt import write_tiny_gpt
from transformers import AutoTokenizer, BertTokenizerFast

from distill.data.sequences import hard_windows
from distill.data.soft_targets import load_soft_targets
from distill.models.catalogue import Catalogue
from distill.models.teachers.load import load_teacher
from distill.models.teachers.pretrained import find_model, layers_of, load_pretrained, model_identity, top_norm_of
from distill.models.teachers.text import TextTeacherConfig, tokenize_titles
from distill.training.fit import fit
from distilrec.config import TextConfig, parse_config
from distilrec.core.errors import ConfigError, MissingExtraError
from distilrec.core.specs import RecommenderSpec
from distilrec.data import stage as data_stage
from distilrec.pipeline.stages import run_stage

L = 12
TITLES = ["genre 1", "number 2 number 3", "genre", "genre 4 number 5"]
CLS, SEP, PAD = "[CLS]", "[SEP]", "[PAD]"
BEGIN, END = "<s>", "</s>"


def build(tiny_bert, titles=TITLES, **settings):
    torch.manual_seed(0)
    settings = {"model": tiny_bert, "max_titles": 4, "max_tokens": 12, "embedding_size": 8} | settings
    return TextTeacherConfig(**settings).build(Catalogue(len(titles), titles, popularity=torch.zeros(len(titles))), L)


@pytest.fixture(scope="module")
def shop(shop_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "data"
    data_stage.run(shop_config, {}, folder)
    return data_stage.load(folder)


@pytest.fixture(scope="module")
def deep_bert(tmp_path_factory, tiny_bert):
    """The tiny BERT with three layers."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert") / "deep"
    shutil.copytree(tiny_bert, folder)
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(tiny_bert)
    config.num_hidden_layers = 3
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def tiny_gpt(request, tmp_path_factory):
    return write_tiny_gpt(tmp_path_factory.mktemp("gpt") / request.param, request.param)


def words(teacher, model, *history):
    tokens, present = teacher.text_of(torch.tensor([history]))
    spelled = AutoTokenizer.from_pretrained(model).convert_ids_to_tokens(tokens[0])
    read = int(present.sum())
    assert present[0].tolist() == [True] * read + [False] * (len(spelled) - read)
    assert set(spelled[read:]) <= {PAD, END}
    return spelled[:read]


def test_titles_are_read_from_the_newest_on(tiny_bert):
    teacher = build(tiny_bert)
    bar = "[UNK]"  # the tiny vocabulary has no "|"
    assert words(teacher, tiny_bert, 0, 0, 1, 2) == [CLS, "number", "2", "number", "3", bar, "genre", "1", SEP]
    assert words(teacher, tiny_bert, 0, 0, 0, 3) == [CLS, "genre", SEP]
    assert words(teacher, tiny_bert, 0, 3, 0, 3) == [CLS, "genre", bar, "genre", SEP]
    assert words(teacher, tiny_bert, 0, 0) == [CLS, SEP]


def test_truncation_keeps_the_newest(tiny_bert):
    teacher = build(tiny_bert, max_tokens=8)
    assert words(teacher, tiny_bert, 4, 1, 2) == [CLS, "number", "2", "number", "3", "[UNK]", "genre", SEP]
    assert words(teacher, tiny_bert, 4, 4, 4, 1) == [CLS, "genre", "1", "[UNK]", "genre", "4", "number", SEP]
    assert words(build(tiny_bert, max_tokens=4), tiny_bert, 1, 2) == [CLS, "number", "2", SEP]
    assert words(build(tiny_bert, max_titles=2), tiny_bert, 3, 1, 2)[-3:] == ["genre", "1", SEP]


def test_what_reads_forwards_alone_gets_the_newest_title_last(tiny_gpt):
    teacher = build(tiny_gpt)
    assert teacher.causal
    assert words(teacher, tiny_gpt, 0, 0, 1, 2) == [BEGIN, "genre", "1", "|", "number", "2", "number", "3", END]
    assert words(teacher, tiny_gpt, 0, 3, 0, 3) == [BEGIN, "genre", "|", "genre", END]
    assert words(teacher, tiny_gpt, 0, 0) == [BEGIN, END]
    assert words(build(tiny_gpt, max_tokens=8), tiny_gpt, 4, 1, 2) == [BEGIN, "1", "|", "number", "2", "number", "3", END]
    assert words(build(tiny_gpt, max_titles=2), tiny_gpt, 3, 1, 2)[:3] == [BEGIN, "genre", "1"]


def test_its_vector_is_that_of_the_last_token_whatever_stands_beside_it(tiny_gpt):
    teacher = build(tiny_gpt).eval()
    long, short = torch.tensor([4, 2, 4]), torch.tensor([0, 0, 1])
    with torch.inference_mode():
        together, alone = teacher.encode_last(torch.stack([long, short])), teacher.encode_some(short[None])
        tokens = torch.tensor(
            [AutoTokenizer.from_pretrained(tiny_gpt)(f"{BEGIN} genre 1 {END}", add_special_tokens=False)["input_ids"]]
        )
        by_hand = teacher.head(teacher.body(input_ids=tokens).last_hidden_state[:, -1])
        other = teacher.encode_last(torch.tensor([[4, 2, 3]]))
    torch.testing.assert_close(together[1:], alone)
    torch.testing.assert_close(alone, by_hand)
    assert not torch.allclose(together[:1], other)  # the newest title counts
    history, valid = torch.tensor([[4, 2, 4]]), torch.tensor([[False, True, True]])
    with torch.inference_mode():
        torch.testing.assert_close(teacher.encode_prefixes(history, valid)[1:], together[:1])


def test_its_layers_are_unfrozen_from_the_top_down_with_the_normalisation_above_them(tiny_gpt):
    teacher = build(tiny_gpt, freeze="gradual")
    parts = [teacher.body.get_input_embeddings(), *layers_of(teacher.body), top_norm_of(teacher.body)]
    learning = []
    for epoch in (0, 1, 3, 4):
        teacher.start_epoch(epoch)
        learning.append("".join("x" if next(part.parameters()).requires_grad else "-" for part in parts))
    assert learning == ["-----", "---xx", "-xxxx", "xxxxx"]
    learns = {name for name, value in build(tiny_gpt, freeze=3).body.named_parameters() if value.requires_grad}
    assert not learns


def test_saved_it_needs_no_model_and_learns_in_every_part(tiny_gpt, tmp_path):
    teacher = build(tiny_gpt, max_tokens=9)
    history = torch.tensor([[0, 1, 2], [4, 4, 3]])
    teacher.encode_last(history).pow(2).sum().backward()
    assert all(parameter.grad is not None for parameter in [*teacher.body.parameters(), *teacher.head.parameters()])
    teacher.settings.save(teacher.eval(), tmp_path)
    loaded = teacher.settings.load(tmp_path, len(TITLES), L)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.encode_last(history), teacher.encode_last(history))


def test_bert_reads_in_both_directions_and_has_no_norm_above_its_layers(deep_bert):
    teacher = build(deep_bert)
    assert not teacher.causal
    assert top_norm_of(teacher.body) is None


def test_an_encoder_with_a_decoder_and_a_tokenizer_without_ends_are_refused(tiny_gpt, tmp_path):
    from transformers import T5Config, T5Model

    shutil.copytree(tiny_gpt, tmp_path / "bare")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bare")
    tokenizer.bos_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(ConfigError, match=r"without \[CLS\] and \[SEP\] and without tokens that begin or end a text"):
        load_pretrained(tmp_path / "bare", "main")
    shutil.copytree(tiny_gpt, tmp_path / "t5", ignore=shutil.ignore_patterns("config.json", "model.safetensors"))
    T5Model(T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(tmp_path / "t5")
    with pytest.raises(ConfigError, match="found an encoder with a decoder"):
        load_pretrained(tmp_path / "t5", "main")


def test_titles_as_one_text_give_the_same_tokens(tiny_bert):
    tokenizer = BertTokenizerFast.from_pretrained(tiny_bert)
    teacher = build(tiny_bert, max_tokens=40)
    tokens, present = teacher.text_of(torch.tensor([[1, 2, 3, 4]]))
    together = tokenizer(" | ".join(TITLES[::-1]))["input_ids"]
    assert tokens[0][present[0]].tolist() == together


def test_rows_without_an_item_have_no_tokens(tiny_bert):
    tokens = tokenize_titles(TITLES, BertTokenizerFast.from_pretrained(tiny_bert), 12).titles
    assert tokens.shape[0] == 8
    assert (tokens[[0, 5, 6, 7]] == -1).all()


def test_a_step_learns_from_a_few_prefixes_of_each_window(tiny_bert, shop):
    dataset, vocabulary = shop
    teacher = build(tiny_bert, vocabulary.titles, prefixes_per_window=3)
    windows = hard_windows(dataset, 12)
    batch = windows.collate(windows.windows[:20])
    torch.manual_seed(0)
    seen, each = set(), [min(3, int((windows.targets[begin:end] > 0).sum())) for begin, end in windows.windows[:20]]
    for _ in range(40):
        vectors, targets, prefixes = teacher.training_examples(batch)
        assert len(vectors) == len(targets) == len(prefixes) == sum(each)
        assert targets.tolist() == windows.targets[prefixes.numpy()].tolist()
        seen |= set(prefixes.tolist())
    known = batch.prefixes[batch.targets > 0]
    assert seen == set(known.tolist())  # all turn up, and none without a true item


def test_a_batch_without_true_items_still_takes_part(tiny_bert, shop):
    dataset, vocabulary = shop
    windows = hard_windows(dataset, 12)
    batch = windows.collate(windows.windows[:2])
    vectors, targets, _ = build(tiny_bert, vocabulary.titles).training_examples(batch._replace(targets=batch.targets * 0))
    assert targets.tolist() == [0]
    assert vectors.requires_grad


def changed(teacher, before):
    parts = {"embeddings": teacher.body.embeddings, "head": teacher.head, "items": teacher.items}
    parts |= {f"layer {place}": layer for place, layer in enumerate(layers_of(teacher.body))}
    moved = {id(value) for name, value in teacher.named_parameters() if not torch.equal(value, before[name])}
    return {name for name, part in parts.items() if any(id(value) in moved for value in part.parameters())}


@pytest.mark.parametrize(
    ("settings", "learned"),
    [
        ({}, {"embeddings", "layer 0", "layer 1", "layer 2"}),
        ({"freeze": 0}, {"layer 0", "layer 1", "layer 2"}),
        ({"freeze": 2}, {"layer 2"}),
        ({"freeze": 3}, set()),
        ({"freeze": "gradual", "epochs": 1}, set()),
        ({"freeze": "gradual", "epochs": 3}, {"layer 1", "layer 2"}),
        ({"freeze": "gradual", "epochs": 3, "unfreeze_every": 2}, {"layer 2"}),
        ({"freeze": "gradual", "epochs": 5}, {"embeddings", "layer 0", "layer 1", "layer 2"}),
    ],
)
def test_only_what_is_not_frozen_learns(deep_bert, shop, tmp_path, settings, learned):
    dataset, vocabulary = shop
    settings = {"epochs": 1, "patience": 9, "batch_size": 120, "max_titles": 2, "ema_decay": 0.0} | settings
    teacher = build(deep_bert, vocabulary.titles, prefixes_per_window=1, **settings)
    before = {name: value.clone() for name, value in teacher.named_parameters()}
    # The weights of the last epoch, not of the best.
    fit(teacher, dataset, RecommenderSpec(dataset.item_count, 12, 16, 10), teacher.settings, seed=0, scratch=tmp_path)
    last = torch.load(tmp_path / "last.ckpt", weights_only=False)["state_dict"]
    teacher.load_state_dict({name.removeprefix("encoder."): value for name, value in last.items() if name.startswith("encoder.")})
    assert changed(teacher, before) == learned | {"head", "items"}


def test_gradual_unfreezing_goes_from_the_top_down(deep_bert):
    teacher = build(deep_bert, freeze="gradual")
    parts = [teacher.body.embeddings, *layers_of(teacher.body)]
    learning = []
    for epoch in (0, 1, 2, 3, 4, 9, 1):
        teacher.start_epoch(epoch)
        learning.append("".join("x" if next(part.parameters()).requires_grad else "-" for part in parts))
    assert learning == ["----", "---x", "--xx", "-xxx", "xxxx", "xxxx", "---x"]  # also back, as a resume does


def test_settings_must_fit_the_model(tiny_bert):
    with pytest.raises(ConfigError, match="freeze of a text teacher: found 2, expected at most 1 layers"):
        build(tiny_bert, freeze=2)
    with pytest.raises(ConfigError, match="found 600, expected at most 512"):
        build(tiny_bert, max_tokens=600)


def test_a_name_on_the_hub_that_cannot_be_reached_says_what_was_tried(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"(?s)no folder 'nobody/nothing-bert' here, so the Hugging Face hub.*leave 'model' out"):
        load_pretrained("nobody/nothing-bert", "main")


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"Tried: the folder .*Expected: a folder with config\.json"):
        load_pretrained(tmp_path, "main")


def test_which_model_is_found(tiny_bert, monkeypatch):
    packaged = find_model(None, TextConfig())
    assert (packaged / "config.json").exists()
    assert find_model(None, TextConfig(use="off")) == packaged
    assert find_model(None, TextConfig(model=tiny_bert)) == tiny_bert
    assert find_model(str(tiny_bert), TextConfig()) == tiny_bert
    assert find_model("google/some-bert", TextConfig()) == "google/some-bert"
    monkeypatch.setattr("distill.models.text._PACKAGE", "no_such_package_here")
    with pytest.raises(MissingExtraError, match=r"distilrec\[text\]"):
        find_model(None, TextConfig())


def test_model_beside_the_settings_is_found_and_a_hub_name_is_left_alone(tmp_path):
    (tmp_path / "own-bert").mkdir()
    text = 'name = "x"\n[data]\nsource = "ml-100k"\n[teachers.{0}]\nkind = "text"\nmodel = "{0}"\n'
    for name, expected in (("own-bert", str(tmp_path / "own-bert")), ("bert-base-uncased", "bert-base-uncased")):
        teacher = parse_config(text.format(name), where="x.toml", folder=tmp_path).teachers[name]
        assert isinstance(teacher, TextTeacherConfig)
        assert teacher.model == expected


def test_fingerprint_knows_the_weights(tiny_bert, deep_bert):
    assert model_identity(tiny_bert, "main") == model_identity(tiny_bert, "other")
    assert model_identity(tiny_bert, "main") != model_identity(deep_bert, "main")
    assert model_identity("bert", "v1") == {"name": "bert", "revision": "v1"}


@pytest.mark.pipeline
def test_whole_stage_and_its_targets_need_no_model_afterwards(shop_config, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    shutil.copytree(tiny_bert, model)
    teacher = {
        "kind": "text", "model": model, "epochs": 8, "patience": 8, "batch_size": 16, "embedding_size": 16, "learning_rate": 0.01,
        "body_learning_rate": 0.003, "max_titles": 8, "max_tokens": 48, "asked_prefixes_per_window": 2,
    }  # fmt: skip
    config = type(shop_config).model_validate(shop_config.model_dump() | {"name": "texts", "teachers": {"words": teacher}})
    for stage in ("data", "text", "teacher-words"):
        manifest = run_stage(config, stage)
    assert manifest.metrics["validation_ndcg@10"] > 0.1  # a random list has about 0.05
    assert str(tmp_path) not in (tmp_path / "runs/texts/teacher-words/config.json").read_text()

    shutil.rmtree(model)
    asked = run_stage(config, "targets-words")
    dataset, _ = data_stage.load(tmp_path / "runs/texts/data")
    cache = load_soft_targets(tmp_path / "runs/texts/targets-words")
    expected = np.concatenate([np.arange(max(begin, end - 2), end) for begin, end, _ in cache.windows])
    assert np.flatnonzero(cache.items[:, 0]).tolist() == sorted(expected.tolist())
    assert asked.metrics["prefixes"] == len(expected)
    loaded = load_teacher(config, "words", tmp_path / "runs/texts/teacher-words", dataset.item_count)
    begin, end, _ = cache.windows[0]
    history = torch.from_numpy(dataset.items[begin:end].astype(np.int64))[None]
    with torch.inference_mode():
        scores = loaded.score_last(history)[0, 1 : dataset.item_count + 1]
    assert scores.argsort(descending=True)[:5].tolist() == (cache.items[end - 1, :5] - 1).tolist()


@pytest.mark.pipeline
def test_resumed_gradual_unfreezing_ends_with_the_same_weights(deep_bert, shop, tmp_path, monkeypatch):
    from distill.training.module import NextItemModule

    dataset, vocabulary = shop
    spec = RecommenderSpec(dataset.item_count, 12, 16, 10)

    def train(scratch):
        teacher = build(
            deep_bert,
            vocabulary.titles,
            freeze="gradual",
            epochs=4,
            batch_size=120,
            max_titles=2,
            prefixes_per_window=1,
            patience=9,
        )
        fit(teacher, dataset, spec, teacher.settings, seed=0, scratch=scratch)
        return torch.load(scratch / "last.ckpt", weights_only=False)["state_dict"]

    straight = train(tmp_path / "straight")

    def interrupt(self):
        if self.current_epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NextItemModule, "on_train_epoch_start", interrupt, raising=False)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(tmp_path / "resumed")
    resumed = train(tmp_path / "resumed")
    for name, weights in straight.items():
        torch.testing.assert_close(resumed[name], weights, msg=name)
