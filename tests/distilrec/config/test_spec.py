from distilrec.config import load_config, spec_of_run
from distilrec.core.specs import RecommenderSpec


def test_answers_are_never_longer_than_the_catalogue():
    config = load_config("ml-100k")
    sizes = config.history_length, config.export.exclude_length
    assert spec_of_run(config, 1000) == RecommenderSpec(1000, *sizes, config.export.top_k)
    assert spec_of_run(config, 1000, top_k=10) == RecommenderSpec(1000, *sizes, 10)
    assert spec_of_run(config, 7).top_k == spec_of_run(config, 7, top_k=10).top_k == 7
