"""How each contender answers the request of one user. Every one masks what the user has had and gives the K best items.

Runs in the peers' environment. What a contender needs in another form (right-padded histories, sparse rows) is made before it is
timed; what it would make of every request is made inside.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.timing import Answerer, Items


@dataclass(frozen=True)
class Setting:
    """The requests, and what contenders are made from; written by ``benchmarks.peers``."""

    folder: Path
    """Holds requests.npz, student.onnx and student.pt."""
    url: str | None
    """Of a tritonserver with the models ``student`` and ``scores``; None where none could be started."""
    item_count: int
    top_k: int
    factors: int
    """Of ALS: the student's embedding size."""
    sasrec_size: int = 64
    """RecBole's default."""

    @property
    def requests(self) -> dict[str, NDArray[Any]]:
        """history int32 [U, L] and exclude int32 [U, E]; users int64 [U]; all training interactions as items and offsets."""
        with np.load(self.folder / "requests.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    @staticmethod
    def read(path: Path) -> "Setting":
        """Read what ``write`` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return Setting(**content | {"folder": Path(content["folder"])})

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(vars(self) | {"folder": str(self.folder)}), encoding="utf-8")


def onnx_student(setting: Setting) -> Answerer:
    """The exported student in ONNX Runtime, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(setting.folder / "student.onnx", options, providers=["CPUExecutionProvider"])
    history, exclude = setting.requests["history"], setting.requests["exclude"]

    def answer(row: int) -> Items:
        items, _ = session.run(["items", "scores"], {"history": history[row : row + 1], "exclude": exclude[row : row + 1]})
        return np.asarray(items[0])

    return answer


def torch_student(setting: Setting) -> Answerer:
    """The same student in PyTorch, eager, one thread."""
    import torch

    torch.set_num_threads(1)
    recommender = torch.load(setting.folder / "student.pt", weights_only=False)  # we wrote it
    history, exclude = setting.requests["history"], setting.requests["exclude"]

    @torch.inference_mode()
    def answer(row: int) -> Items:
        items, _ = recommender(torch.from_numpy(history[row : row + 1]), torch.from_numpy(exclude[row : row + 1]))
        return np.asarray(items[0].numpy())

    return answer


def recbole_sasrec(setting: Setting) -> Answerer:
    """RecBole's SASRec with its default sizes: ``full_sort_predict``, mask, top-k. Random weights cost what trained ones cost."""
    import torch
    from recbole.config import Config
    from recbole.data.interaction import Interaction
    from recbole.model.sequential_recommender.sasrec import SASRec

    class Catalogue:
        """All that SASRec asks of a data set."""

        def num(self, _: str) -> int:
            return setting.item_count + 1

    history, exclude = setting.requests["history"], setting.requests["exclude"]
    sizes = {"MAX_ITEM_LIST_LENGTH": history.shape[1], "hidden_size": setting.sasrec_size}
    # Cross-entropy over the catalogue, the model's default, has no negatives, which RecBole's own default would draw.
    given = sizes | {"train_neg_sample_args": None, "use_gpu": False, "state": "ERROR"}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Config(model="SASRec", dataset="ml-100k", config_dict=given)
    model = SASRec(config, Catalogue()).eval()
    lengths = (history > 0).sum(axis=1)
    padded = np.zeros(history.shape, np.int64)  # RecBole pads on the right
    for row, length in enumerate(lengths):
        padded[row, :length] = history[row, history.shape[1] - length :]
    seen = [np.concatenate([[0], history[row], exclude[row][exclude[row] > 0]]).astype(np.int64) for row in range(len(history))]

    @torch.inference_mode()
    def answer(row: int) -> Items:
        sequence = torch.from_numpy(padded[row : row + 1])
        request = Interaction({model.ITEM_SEQ: sequence, model.ITEM_SEQ_LEN: torch.tensor([int(lengths[row])])})
        scores = model.full_sort_predict(request)
        scores[0, torch.from_numpy(seen[row])] = -np.inf
        return np.asarray(torch.topk(scores, setting.top_k, dim=1).indices[0].numpy())

    return answer


def implicit_als(setting: Setting, *, from_history: bool) -> Answerer:
    """``implicit``'s ALS, fitted on the run's training interactions: ``recommend`` with what the user has had filtered out.

    Args:
        setting: of the measurement.
        from_history: compute the user's factors from the request, as a user of whom something new is known demands; else they are
            those of the training, looked up.
    """
    import implicit.als
    from scipy.sparse import csr_matrix

    arrays = setting.requests
    lengths = np.diff(arrays["offsets"])
    rows = np.repeat(np.arange(len(lengths)), lengths)
    shape = (len(lengths), setting.item_count)
    ones = np.ones(len(rows), np.float32)
    model = implicit.als.AlternatingLeastSquares(factors=setting.factors, num_threads=1, random_state=0)
    model.fit(csr_matrix((ones, (rows, arrays["items"] - 1)), shape=shape), show_progress=False)
    had = []
    for history, exclude in zip(arrays["history"], arrays["exclude"], strict=True):
        items = np.unique(np.concatenate([history, exclude]))
        items = items[items > 0] - 1
        had.append(csr_matrix((np.ones(len(items), np.float32), (np.zeros(len(items), int), items)), shape=(1, shape[1])))

    def answer(row: int) -> Items:
        user = int(arrays["users"][row])
        items, _ = model.recommend(user, had[row], setting.top_k, filter_already_liked_items=True, recalculate_user=from_history)
        return np.asarray(items + 1)

    return answer


def over_the_wire(setting: Setting, *, all_scores: bool) -> Answerer:
    """The same student behind tritonserver over loopback gRPC, from arrays to arrays.

    Args:
        setting: of the measurement.
        all_scores: the server sends the masked scores of all table rows, and the client takes the top K; else it sends the K best.
    """
    import grpc
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

    from clients.wire import infer_request, read_answer

    if setting.url is None:
        raise RuntimeError("no tritonserver could be started")
    infer = GRPCInferenceServiceStub(grpc.insecure_channel(setting.url)).ModelInfer
    history, exclude = setting.requests["history"], setting.requests["exclude"]

    def ask(model: str, row: int) -> Any:
        return infer(infer_request(model, history[row : row + 1], exclude[row : row + 1]), timeout=10)

    def best_items(row: int) -> Items:
        items, _, _ = read_answer(ask("student", row), rows=1)
        return np.asarray(items[0])

    def best_of_all_scores(row: int) -> Items:
        scores = np.frombuffer(ask("scores", row).raw_output_contents[0], "<f4")
        best = np.argpartition(scores, -setting.top_k)[-setting.top_k :]
        return np.asarray(best[np.argsort(-scores[best], kind="stable")])

    return best_of_all_scores if all_scores else best_items
