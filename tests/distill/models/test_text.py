import pytest
import torch
from tiny_gpt import write_tiny_gpt

from distill.models.text import embed_titles, find_text_model
from distilrec.config import TextConfig
from distilrec.core.errors import ConfigError, MissingExtraError


def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(tiny_bert):
    titles = ["genre 1 number 7", "genre 2", "genre 1 number 7 number 8 number 9"]
    together = embed_titles(titles, tiny_bert)
    alone = torch.cat([embed_titles([title], tiny_bert) for title in titles])
    assert together.shape == (3, 16)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    assert (together[0] - together[1]).norm() > 1e-3


def test_a_model_without_a_token_for_padding_embeds_titles_too(tmp_path):
    model = write_tiny_gpt(tmp_path / "gpt", "gpt2")
    together = embed_titles(["genre 1", "genre 2 number 3"], model)
    torch.testing.assert_close(together[:1], embed_titles(["genre 1"], model))


def test_find_text_model(tiny_bert, tmp_path, monkeypatch):
    assert find_text_model(TextConfig(use="off")) is None
    assert find_text_model(TextConfig(model=tiny_bert)) == tiny_bert
    with pytest.raises(ConfigError, match="found no folder"):
        find_text_model(TextConfig(model=tmp_path / "nowhere"))
    monkeypatch.setattr("distill.models.text._PACKAGE", "no_such_package_here")
    assert find_text_model(TextConfig()) is None
    with pytest.raises(MissingExtraError, match=r"pip install 'distilrec\[text\]'"):
        find_text_model(TextConfig(use="on"))


def test_installed_text_model_tells_titles_apart():
    folder = find_text_model(TextConfig(use="on"))
    assert folder is not None
    star_wars, empire, babe = embed_titles(["Star Wars (1977)", "Empire Strikes Back, The (1980)", "Babe (1995)"], folder)
    assert star_wars @ empire > star_wars @ babe
