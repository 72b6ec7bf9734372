"""CPU features in a result."""

from benchmarks.provenance import cpu_features


def test_cpu_features_are_those_that_count(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu sse avx2 fma avx512_vnni\n\nprocessor : 1\nflags : fpu\n")
    assert cpu_features(cpuinfo) == ["avx2", "fma", "avx512_vnni"]
    assert cpu_features(tmp_path / "missing") == []
