"""The requests that a server runs itself before a version accepts requests of clients."""

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.serving.rollout.promotion import promote, rollback
from export.repository.fill import MODELS


def test_new_version_is_warmed_up_before_it_is_asked(shop_run, serving_config):
    promote(shop_run / "export", serving_config.repository, serving_config, None)
    for model in MODELS:
        text = (serving_config.repository / model.name / "config.pbtxt").read_text()
        warmup = text_format.Parse(text, model_config_pb2.ModelConfig()).model_warmup
        expected = {"vocabulary": [], "student": ["exclude", "history"], "recommend": ["history"]}[model.name]
        assert [sample.batch_size for sample in warmup] == ([1] * 8 + [serving_config.max_batch_size] if expected else [])
        for sample in warmup:
            assert sorted(sample.inputs) == expected
            for tensor in sample.inputs.values():
                raw = (serving_config.repository / model.name / "warmup" / tensor.input_data_file).read_bytes()
                if model.name == "student":
                    assert len(raw) == 4 * tensor.dims[0]
                else:
                    assert b"item-" in raw or raw == bytes(4)
    rollback(serving_config.repository, None)
    assert list(serving_config.repository.glob("*/warmup/*")) == []
