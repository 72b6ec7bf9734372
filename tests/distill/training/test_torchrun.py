"""Processes that torchrun starts, on one machine and as on two, train the same model as one process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from safetensors.numpy import load_file

from distilrec.config import load_config
from distilrec.core.manifest import verify_manifest
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.stages import run_stage
from distilrec.serving.process.environment import free_ports

STAGE = "student-undistilled"


def torchrun(*options):
    """Starts a torchrun that trains the student without a teacher."""
    trained = ["-m", "distilrec", "student", "--undistilled", "--preset", "shared.toml"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, *trained]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.pipeline
def test_several_processes_train_as_one(shop_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = shop_config.model_dump(mode="json", exclude_none=True, exclude={"undistilled"}) | {"text": {"use": "off"}}
    # Dropout would be another in each process; Adam and bfloat16 make much of the last digits.
    settings["student"] |= {"epochs": 2, "dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.1, "precision": "float32"}
    for name in ("alone", "shared"):
        Path(f"{name}.toml").write_text(tomli_w.dumps(settings | {"name": name}))
        for stage in ("data", "text"):
            run_stage(load_config(f"{name}.toml"), stage)
    run_stage(load_config("alone.toml"), STAGE)
    alone = load_file(f"runs/alone/{STAGE}/weights.safetensors")
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_ports().grpc}", "--rdzv-id", "test"]
    for started in (
        [["--standalone", "--nproc-per-node", "2"]],
        [["--nnodes", "2", "--nproc-per-node", "1", *rendezvous]] * 2,
    ):
        agents = [torchrun(*options) for options in started]
        said = [agent.communicate(timeout=300)[0] for agent in agents]
        assert [agent.returncode for agent in agents] == [0] * len(agents), said
        folder = run_dir(load_config("shared.toml")) / STAGE
        verify_manifest(folder)
        shared = load_file(folder / "weights.safetensors")
        assert shared.keys() == alone.keys()
        for name, values in alone.items():
            np.testing.assert_allclose(shared[name], values, atol=1e-5, err_msg=name)
        assert "".join(said).count(f"{STAGE}: runs/shared") == 1  # the first process speaks
        assert not list(run_dir(load_config("shared.toml")).glob("*.partial"))
        (folder / "manifest.json").unlink()
        for path in folder.iterdir():
            path.unlink()
