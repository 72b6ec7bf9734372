import re
import tomllib
from pathlib import Path

import pytest

from distilrec.config import Config, UndistilledConfig, as_cold, load_config, parse_config, preset_names, spec_of_run, with_seed
from distilrec.core.errors import ConfigError
from distilrec.core.specs import RecommenderSpec


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_names_itself(name):
    assert load_config(name).name == name


def test_all_faults_are_listed_at_once():
    text = """
    name = "shop"
    [data]
    source = "ml-100k"
    k_core = 0
    [teachers.big]
    kind = "sequence"
    embedding_size = 30
    heads = 4
    [student]
    dropuot = 0.1
    """
    with pytest.raises(ConfigError) as error:
        parse_config(text, where="shop.toml", folder=Path())
    message = str(error.value)
    assert message.startswith("shop.toml: 3 fault(s)")
    assert "data.k_core" in message
    assert "(found 0)" in message
    assert "teachers.big: embedding_size (30) must be a multiple of heads (4)" in message
    assert "student.dropuot: no such setting" in message


@pytest.mark.parametrize("name", [".", "..", "..."])
@pytest.mark.parametrize("settings", ['name = "{}"', 'name = "x"\n[teachers."{}"]\nkind = "ease"'])
def test_a_name_of_dots_is_refused_since_it_is_another_folder(settings, name):
    with pytest.raises(ConfigError, match="expected a name that is more than dots"):
        parse_config(f'{settings.format(name)}\n[data]\nsource = "ml-100k"', where="x", folder=Path())


def test_a_name_may_hold_and_begin_with_dots():
    assert parse_config('name = ".shop.v2"\n[data]\nsource = "ml-100k"', where="x", folder=Path()).name == ".shop.v2"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "either 'source'"),
        ('source = "ml-100k"\ninteractions = "x.csv"', "either 'source'"),
        ('interactions = "x.csv"\nevents = ["buy"]', "which columns.event has to name"),
        ('interactions = "x.csv"\nusers = "u.csv"', "belong together"),
        ('interactions = "x.csv"\nattributes = ["age"]', "belong together"),
        ('source = "ml-100k"\nusers = "u.csv"', "a named source brings its own"),
        ('interactions = "x.csv"\nusers = "u.csv"\nattributes = ["a", "a"]', "must be different columns"),
        ('source = "ml-100k"\nvalidation_fraction = 0.6\ntest_fraction = 0.5', "leave nothing to train on"),
    ],
)
def test_data_that_cannot_be(data, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(f'name = "x"\n[data]\n{data}', where="x", folder=Path())


def test_data_paths_are_relative_to_the_file(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text('name = "shop"\n[data]\ninteractions = "logs.csv"\nitems = "items.csv"\nusers = "u.csv"\nattributes = ["a"]\n')
    config = load_config(str(path))
    assert config.data.interactions == tmp_path / "logs.csv"
    assert config.data.items == tmp_path / "items.csv"
    assert config.data.users == tmp_path / "u.csv"
    assert config.data.split_kind == "temporal"


def test_unknown_preset_lists_what_there_is():
    with pytest.raises(ConfigError, match=r"'ml-10k', expected one of amazon-beauty, ml-100k, smoke"):
        load_config("ml-10k")


def test_broken_toml():
    with pytest.raises(ConfigError, match="not valid TOML"):
        parse_config("name = ", where="x", folder=Path())


def examples_of(document):
    return re.findall(r"```toml\n(.*?)```", (Path(__file__).parents[3] / document).read_text(encoding="utf-8"), re.S)


def test_examples_of_own_data_are_valid():
    examples = [text for name in ("README.md", "docs/your-data.md", "docs/open-catalogue.md") for text in examples_of(name)]
    own = [text for text in examples if "interactions" in tomllib.loads(text).get("data", {})]
    assert len(own) == 3
    for text in own:
        parse_config(text if "name" in tomllib.loads(text) else f'name = "shop"\n{text}', where="docs", folder=Path())


def test_example_of_requests_that_choose_is_valid():
    (example,) = (text for text in examples_of("docs/serving.md") if "[data.filters" in text)
    files = {"interactions": "events.csv", "items": "products.csv"}
    settings = tomllib.loads(example)
    export = {"exclude_length": 128, **settings["export"]}
    config = Config.model_validate({"name": "shop", **settings, "data": {**files, **settings["data"]}, "export": export})
    assert spec_of_run(config, 1000).choices == RecommenderSpec(1000, 50, 128, 100, 16, 200, repeats=True, similar=True).choices


def test_engine_batch_sizes_must_fit():
    text = 'name = "x"\n[data]\nsource = "ml-100k"\n[export.engine]\noptimal_batch_size = 65\n'
    with pytest.raises(ConfigError, match=r"export\.engine: optimal_batch_size \(65\) exceeds max_batch_size \(64\)"):
        parse_config(text, where="x.toml", folder=Path())


def test_recorded_requests_are_looked_for_beside_the_settings():
    text = 'name = "x"\n[data]\nsource = "ml-100k"\n[export.calibration]\nrequests = "traffic.npz"\n'
    assert parse_config(text, where="x.toml", folder=Path("shop")).export.calibration.requests == Path("shop/traffic.npz")


def test_undistilled_student_gets_the_training_of_the_student_but_for_what_is_set():
    student = 'epochs = 7\npatience = 2\nbatch_size = 16\nlearning_rate = 0.01\nschedule = "constant"\nhidden_size = 32\n'
    text = f'name = "x"\n[data]\nsource = "ml-100k"\n[student]\n{student}[undistilled]\ndropout = 0.5\n'
    config = parse_config(text, where="x", folder=Path())
    shared = set(UndistilledConfig.model_fields) - {"dropout"}
    assert config.undistilled.model_dump(include=shared) == config.student.model_dump(include=shared)
    assert (config.undistilled.dropout, config.undistilled.epochs) == (0.5, 7)


def test_undistilled_student_may_differ_in_training_only():
    text = 'name = "x"\n[data]\nsource = "ml-100k"\n[undistilled]\ndropout = 0.5\n'
    assert parse_config(text, where="x", folder=Path()).undistilled.dropout == 0.5
    with pytest.raises(ConfigError, match=r"undistilled.hidden_size: no such setting"):
        parse_config(text + "hidden_size = 256\n", where="x", folder=Path())


def test_another_seed_has_a_folder_of_its_own():
    config = load_config("smoke")
    assert with_seed(config, config.seed) == config
    assert (with_seed(config, 7).seed, with_seed(config, 7).name) == (7, "smoke-seed7")


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("depth = 2", r"student\.depth: is not read by kind 'mlp', only by gru, residual, transformer\. Leave it out \(found 2\)"),
        ('kind = "residual"\nheads = 4', r"student\.heads: is not read by kind 'residual', only by transformer"),
        ('kind = "gru"\ndecays = [0.5]', r"student\.decays: is not read by kind 'gru', only by mlp, residual"),
        ('kind = "transformer"\nheads = 3', r"embedding_size \(64\) must be a multiple of heads \(3\)"),
        ("rank = 8", r"rank \(8\) is not read by a full table"),
        ('table = "low_rank"', r"needs a rank below embedding_size \(64\), found None"),
        ('table = "low_rank"\nrank = 64', r"needs a rank below embedding_size \(64\), found 64"),
        ('kind = "lstm"', "student: found the student kind 'lstm', expected one of gru, mlp, residual, transformer"),
    ],
)
def test_students_that_cannot_be(student, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(f'name = "x"\n[data]\nsource = "ml-100k"\n[student]\n{student}\n', where="x", folder=Path())


@pytest.mark.parametrize(
    "student",
    [
        'kind = "residual"\ndepth = 3\ndecays = [1.0, 0.5]',
        'kind = "gru"\ndepth = 2',
        'kind = "transformer"\ndepth = 2\nheads = 4',
        'table = "low_rank"\nrank = 16',
    ],
)
def test_students_that_can_be(student):
    parse_config(f'name = "x"\n[data]\nsource = "ml-100k"\n[student]\n{student}\n', where="x", folder=Path())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'name = "shop"\nseed = "\xe9"', r"row 2: found bytes that are not UTF-8 \(b'\\xe9"),
        ('name = "shop"'.encode("utf-16"), r"row 1: found bytes that are not UTF-8"),
        (b"seed = " + b"9" * 5000, "not valid TOML: Exceeds the limit"),
        (b"name = " + b"[" * 5000, "nested too deeply"),
        (b'name = "a\0"', "not valid TOML: Illegal character"),
        (b'\xef\xbb\xbfname = "shop"', r"1 fault\(s\):\n  data: is missing, and it has no default"),  # the mark is none
    ],
)
def test_file_that_is_no_text_or_no_toml_is_named(tmp_path, content, message):
    path = tmp_path / "shop.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"shop\.toml: .*{message}"):
        load_config(str(path))


def test_a_number_of_negatives_needs_temperature_1():
    text = 'name = "x"\n[data]\nsource = "ml-100k"\n[student]\nnegatives = 500\n[student.distillation]\ntemperature = {}\n'
    assert parse_config(text.format(1.0), where="x", folder=Path()).student.negatives == 500
    with pytest.raises(ConfigError, match=r"student\.negatives: found 500 with a distillation temperature of 2\.0"):
        parse_config(text.format(2.0), where="x", folder=Path())


OWN = 'name = "s"\n[data]\ninteractions = "e.csv"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[data]\ninteractions = "e.csv"', 'name: is missing, and it has no default; expected it, as name = "shop"'),
        ('name = "s"', 'data: is missing, and it has no default; expected it, as [data] with interactions = "events.csv"'),
        (OWN.replace('"s"', '"my shop"'), "name: expected letters, digits, '.', '_' and '-' alone (found 'my shop')"),
        (f'{OWN}events = "buy"', "data.events: expected a list, as events = [\"buy\"] (found 'buy')"),
        (f'{OWN}events = ["buy"]', 'by a column, which columns.event has to name, as columns = { event = "event" }'),
        (OWN.replace("actions", "actons"), "data.interactons: no such setting; did you mean interactions?"),
        ('name = "s"\ninteractions = "e.csv"', "interactions: no such setting; expected it in section [data]"),
        (OWN.replace('"e.csv"', '["e.csv"]'), "data.interactions: expected the path of a file, as text (found ['"),
        (f'{OWN}columns = "u"', "data.columns: expected a section, as [data.columns] (found 'u')"),
        (f'{OWN}[teachers]\nkind = "ease"', "teachers.kind: expected a section, under a name of yours, as [teachers.mine] (found"),
        (f"{OWN}[teachers.big]\nepochs = 3", 'teachers.big: found no kind, expected kind = one of "assistant", '),
        (f"{OWN}[student]\nkind = 3", 'student: found kind = 3, expected kind = one of "gru", "mlp"'),
        (f'{OWN}[teacher.x]\nkind = "ease"', "teacher: no such setting; did you mean teachers?"),
    ],
)
def test_faults_are_in_the_words_of_the_settings(text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_config(text, where="shop.toml", folder=Path())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("untouched = true", "'features' and 'untouched' need 'items'"),
        ('items = "i.csv"\nfeatures = { categories = ["a"], numbers = ["a"] }', "must be different columns"),
        ('items = "i.csv"\nfeatures = { texts = ["title"] }', "other columns than those of the id and the title"),
        ('vectors.image.file = "v.npy"', "belongs to a .npy file"),
        ('items = "i.csv"\nfeatures = { texts = ["image"] }\nvectors.image.file = "v.parquet"', "must have other names"),
        ('vectors.image.file = "v.parquet"\n[student]\ncontent = ["sound"]', "student.content: found sound, expected"),
    ],
)
def test_content_that_contradicts_itself_is_refused(data, message):
    text = f'name = "x"\n[data]\ninteractions = "x.csv"\n{data}'
    with pytest.raises(ConfigError, match=message):
        parse_config(text, where="x", folder=Path())


def test_cold_run_has_a_folder_of_its_own_and_paths_of_vectors_are_relative_to_the_file():
    text = 'name = "x"\n[data]\ninteractions = "x.csv"\nvectors.image = { file = "v.npy", ids = "ids.txt" }'
    config = parse_config(text, where="x", folder=Path("shop"))
    assert (config.data.vectors["image"].file, config.data.vectors["image"].ids) == (Path("shop/v.npy"), Path("shop/ids.txt"))
    cold = as_cold(config)
    assert (cold.name, cold.data.cold_fraction, cold.data.has_cold_items) == ("x-cold", 0.1, True)
    assert as_cold(cold) == cold
    assert config.student.dropout_of_ids(cold_items=config.data.has_cold_items) == 0
    assert cold.student.dropout_of_ids(cold_items=cold.data.has_cold_items) == 0.1
