import importlib.util
import sys
import types

import pytest

from distilrec.core.errors import EngineError, MissingExtraError
from export.engines.backends import Message, capabilities, choose_backend, errors_of, find_backend


def installed(*names):
    return lambda name: name in names


@pytest.mark.parametrize(
    ("name", "present", "chosen"),
    [
        ("auto", ["tensorrt", "tensorrt_rtx"], "tensorrt"),
        ("auto", ["tensorrt_rtx"], "tensorrt_rtx"),
        ("tensorrt", ["tensorrt", "tensorrt_rtx"], "tensorrt"),
        ("tensorrt_rtx", ["tensorrt", "tensorrt_rtx"], "tensorrt_rtx"),
    ],
)
def test_backend_is_the_named_one_or_the_first_installed(name, present, chosen):
    assert choose_backend(name, installed(*present)) == chosen


@pytest.mark.parametrize(
    ("name", "present", "command"),
    [
        ("auto", [], r"pip install 'distilrec\[tensorrt\]'$"),
        ("tensorrt", ["tensorrt_rtx"], r"pip install 'distilrec\[tensorrt\]'$"),
        ("tensorrt_rtx", ["tensorrt"], r"pip install 'distilrec\[tensorrt-rtx\]'$"),
    ],
)
def test_choice_names_the_one_command_when_it_is_not_installed(name, present, command):
    with pytest.raises(MissingExtraError, match=command):
        choose_backend(name, installed(*present))


def test_only_old_tensorrt_needs_the_flag_for_strong_typing():
    assert capabilities("tensorrt", "10.12.0.36").strongly_typed_flag
    assert not capabilities("tensorrt", "11.1.0").strongly_typed_flag


@pytest.mark.parametrize("version", ["10.12.0.36", "10.16.1", "11.0.0", "11.4.1"])
def test_tensorrt_builds_on_the_gpu_and_on_demand_for_others(version):
    can = capabilities("tensorrt", version)
    assert can.hardware_compatible
    assert can.version_compatible
    assert can.timing_cache
    assert not can.builds_without_gpu
    assert not can.own_cuda_graphs


def test_tensorrt_for_rtx_builds_without_a_gpu_and_has_none_of_the_rest():
    can = capabilities("tensorrt_rtx", "1.7.1.116")
    assert can.builds_without_gpu
    assert can.own_cuda_graphs
    assert not any((can.hardware_compatible, can.version_compatible, can.timing_cache, can.strongly_typed_flag))


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("tensorrt", "8.6.1", "10.12 or newer, but below 12"),
        ("tensorrt", "10.11.0.33", "10.12 or newer, but below 12"),
        ("tensorrt", "12.0.0", "10.12 or newer, but below 12"),
        ("tensorrt", "unknown", "10.12 or newer, but below 12"),
        ("tensorrt_rtx", "1.3.0.35", "1.4 or newer, but below 2"),
        ("tensorrt_rtx", "2.0", "1.4 or newer, but below 2"),
    ],
)
def test_version_is_refused_with_found_and_expected_when_it_is_not_supported(name, version, expected):
    with pytest.raises(EngineError, match=f"found .* {version}, expected {expected}.*pip install --upgrade"):
        capabilities(name, version)


def test_broken_installation_is_named_when_it_cannot_be_loaded(tmp_path, monkeypatch):
    package = tmp_path / "tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match=r"cannot be loaded \(libnvinfer.so.10.*pip install --force-reinstall"):
        find_backend("tensorrt")


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed")
def test_installed_backend_says_its_full_version():
    import tensorrt_rtx

    backend = find_backend("tensorrt_rtx")
    assert isinstance(backend.module, types.ModuleType)
    assert (backend.name, backend.version) == ("tensorrt_rtx", tensorrt_rtx.__version__)
    assert backend.label == "TensorRT for RTX"
    assert backend.cuda_version in {"12", "13"}


def test_error_text_keeps_what_is_serious_when_the_log_is_long():
    log = [Message("VERBOSE", "layer")] * 1000 + [Message("ERROR", "no such file "), Message("INFO", "done")]
    assert errors_of(log) == "  no such file"
    assert "no reason" in errors_of([Message("INFO", "done")])
