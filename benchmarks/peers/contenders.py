"""Contenders of the comparison: each answers the request of one user with the K best items that the user has not seen.

Runs in the peers' environment. Input in another form (right-padded histories, sparse rows) is made before the timing; work that a
contender has to do for every request is inside the timing. Imports are inside the functions, so that a missing package leaves out
one contender.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.timing import Contender, Items

_TIMEOUT_S = 30
"""Time for one answer over loopback, which takes about a millisecond; a deadline that expires can end tritonserver 2.51."""


@dataclass(frozen=True)
class ComparisonSetup:
    """The requests, and what the contenders are made from; ``benchmarks.peers`` writes it."""

    folder: Path
    """Folder with requests.npz, student.onnx and student.pt."""
    url: str | None
    """Address of a tritonserver with the models ``student`` and ``scores``; None where no server could be started."""
    item_count: int
    top_k: int
    factors: int
    """Number of ALS factors: the student's embedding size."""
    sasrec_size: int = 64
    """Hidden size of SASRec: RecBole's default."""

    @property
    def requests(self) -> dict[str, NDArray[Any]]:
        """Arrays of requests.npz.

        ``history`` int32 [U, L], ``exclude`` int32 [U, E] and ``users`` int64 [U] are the requests. ``items`` int32 [interactions]
        and ``offsets`` int64 [all users + 1] are all interactions before the test part.
        """
        with np.load(self.folder / "requests.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    @staticmethod
    def read(path: Path) -> "ComparisonSetup":
        """Read a file of ``write``."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return ComparisonSetup(**content | {"folder": Path(content["folder"])})

    def write(self, path: Path) -> None:
        """Write a JSON file."""
        path.write_text(json.dumps(vars(self) | {"folder": str(self.folder)}), encoding="utf-8")


def onnx_student(setup: ComparisonSetup) -> Contender:
    """Make the exported student in ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(setup.folder / "student.onnx", options, providers=["CPUExecutionProvider"])
    history, exclude = setup.requests["history"], setup.requests["exclude"]

    def answer(row: int) -> Items:
        items, _ = session.run(["items", "scores"], {"history": history[row : row + 1], "exclude": exclude[row : row + 1]})
        return np.asarray(items[0])

    return answer


def torch_student(setup: ComparisonSetup) -> Contender:
    """Make the same student in eager PyTorch, on one thread."""
    import torch

    torch.set_num_threads(1)
    recommender = torch.load(setup.folder / "student.pt", weights_only=False)  # our own file
    history, exclude = setup.requests["history"], setup.requests["exclude"]

    @torch.inference_mode()
    def answer(row: int) -> Items:
        items, _ = recommender(torch.from_numpy(history[row : row + 1]), torch.from_numpy(exclude[row : row + 1]))
        return np.asarray(items[0].numpy())

    return answer


def recbole_sasrec(setup: ComparisonSetup) -> Contender:
    """Make RecBole's SASRec with its default sizes: ``full_sort_predict``, mask, top-k.

    Its weights are random, as weights do not change the time.
    """
    import torch
    from recbole.config import Config
    from recbole.data.interaction import Interaction
    from recbole.model.sequential_recommender.sasrec import SASRec

    class Catalogue:
        """The part of a data set that SASRec reads."""

        def num(self, _: str) -> int:
            return setup.item_count + 1

    history, exclude = setup.requests["history"], setup.requests["exclude"]
    sizes = {"MAX_ITEM_LIST_LENGTH": history.shape[1], "hidden_size": setup.sasrec_size}
    # The model's default loss, cross-entropy over the catalogue, needs no negatives, but RecBole's default would draw them.
    options = sizes | {"train_neg_sample_args": None, "use_gpu": False, "state": "ERROR"}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Config(model="SASRec", dataset="ml-100k", config_dict=options)
    model = SASRec(config, Catalogue()).eval()
    lengths = (history > 0).sum(axis=1)
    padded = np.zeros(history.shape, np.int64)  # RecBole pads on the right.
    for row, length in enumerate(lengths):
        padded[row, :length] = history[row, history.shape[1] - length :]
    seen = [np.concatenate([[0], history[row], exclude[row][exclude[row] > 0]]).astype(np.int64) for row in range(len(history))]

    @torch.inference_mode()
    def answer(row: int) -> Items:
        sequence = torch.from_numpy(padded[row : row + 1])
        request = Interaction({model.ITEM_SEQ: sequence, model.ITEM_SEQ_LEN: torch.tensor([int(lengths[row])])})
        scores = model.full_sort_predict(request)
        scores[0, torch.from_numpy(seen[row])] = -np.inf
        return np.asarray(torch.topk(scores, setup.top_k, dim=1).indices[0].numpy())

    return answer


def implicit_als(setup: ComparisonSetup, *, from_history: bool) -> Contender:
    """Make ``implicit``'s ALS, fitted on the interactions before the test part; seen items are filtered out.

    Args:
        setup: Requests and interactions.
        from_history: Whether the user's factors are computed from the request, as after new interactions. Otherwise the factors of
            the training are looked up.
    """
    import implicit.als
    from scipy.sparse import csr_matrix

    arrays = setup.requests
    lengths = np.diff(arrays["offsets"])
    rows = np.repeat(np.arange(len(lengths)), lengths)
    shape = (len(lengths), setup.item_count)
    ones = np.ones(len(rows), np.float32)
    model = implicit.als.AlternatingLeastSquares(factors=setup.factors, num_threads=1, random_state=0)
    model.fit(csr_matrix((ones, (rows, arrays["items"] - 1)), shape=shape), show_progress=False)
    seen = []
    for history, exclude in zip(arrays["history"], arrays["exclude"], strict=True):
        items = np.unique(np.concatenate([history, exclude]))
        items = items[items > 0] - 1
        seen.append(csr_matrix((np.ones(len(items), np.float32), (np.zeros(len(items), int), items)), shape=(1, shape[1])))

    def answer(row: int) -> Items:
        user = int(arrays["users"][row])
        items, _ = model.recommend(user, seen[row], setup.top_k, filter_already_liked_items=True, recalculate_user=from_history)
        return np.asarray(items + 1)

    return answer


def over_the_wire(setup: ComparisonSetup, *, all_scores: bool) -> Contender:
    """Make the same student behind tritonserver over loopback gRPC, from arrays to arrays.

    Args:
        setup: Requests and the server's address.
        all_scores: Whether the server sends the masked scores of all table rows and the client takes the top K. Otherwise the
            server sends the top K.

    Raises:
        RuntimeError: No server could be started.
    """
    import grpc
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

    from clients.wire import infer_request, read_answer

    if setup.url is None:
        raise RuntimeError("no tritonserver could be started")
    infer = GRPCInferenceServiceStub(grpc.insecure_channel(setup.url)).ModelInfer
    history, exclude = setup.requests["history"], setup.requests["exclude"]

    def infer_row(model: str, row: int) -> Any:
        return infer(infer_request(model, history[row : row + 1], exclude[row : row + 1]), timeout=_TIMEOUT_S)

    def best_items(row: int) -> Items:
        items, _, _ = read_answer(infer_row("student", row), rows=1)
        return np.asarray(items[0])

    def best_of_all_scores(row: int) -> Items:
        scores = np.frombuffer(infer_row("scores", row).raw_output_contents[0], "<f4")
        best = np.argpartition(scores, -setup.top_k)[-setup.top_k :]
        return np.asarray(best[np.argsort(-scores[best], kind="stable")])

    return best_of_all_scores if all_scores else best_items
