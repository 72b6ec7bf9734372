import pytest

from distilrec.config import Config, load_config, spec_of_run
from distilrec.core.errors import ConfigError
from distilrec.core.specs import RecommenderSpec


def test_answers_are_never_longer_than_the_catalogue():
    config = load_config("ml-100k")
    sizes = config.history_length, config.export.exclude_length
    assert spec_of_run(config, 1000) == RecommenderSpec(1000, *sizes, config.export.top_k)
    assert spec_of_run(config, 1000, top_k=10) == RecommenderSpec(1000, *sizes, 10)
    assert spec_of_run(config, 7).top_k == spec_of_run(config, 7, top_k=10).top_k == 7


def test_a_size_that_follows_from_the_data_must_be_known():
    config = Config.model_validate({"name": "shop", "data": {"interactions": "events.csv"}})
    with pytest.raises(ConfigError, match=r"export\.exclude_length: found 'auto'.* Run the stage data"):
        spec_of_run(config, 1000)
