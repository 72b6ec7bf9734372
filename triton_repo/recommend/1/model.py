"""The front door: string ids in and out, for curl and every language.

It is one model rather than an ensemble: ids are looked up, the graph runs and ids are written in one process, so a request crosses
no process twice. It needs only numpy and onnxruntime, and faiss for an approximate head. Where the student is served by another
backend (parameter ``upstream``), this model sends requests on to it and needs only numpy. Requests are not batched, so a bad one
gets its own error and touches no other.
"""

import json
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

# distilrec/core/filters.py and histories.py, copied next to this file
from filters import PARAMETER, FilterError, filter_of, pairs_of, parse_filters
from histories import PADDING, cut_history, request_tensors

MASKED = -1e38
"""Scores below it belong to items that must not be returned; the graph gives them -3e38."""

NO_ITEM = -1
"""Entry of the tensor ``allow`` that no item fits: a list without a known item allows none."""


class BadRequest(ValueError):
    """A request that cannot be answered; the message says why."""


class TritonPythonModel:
    """One instance of the model; Triton starts as many as config.pbtxt says."""

    def initialize(self, args):
        """Load vocabulary and graph, and refuse a vocabulary that is not the one config.pbtxt states."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self.history_length, self.exclude_length, self.top_k = (
            int(parameters[name]) for name in ("history_length", "exclude_length", "top_k")
        )
        self.filters = parse_filters(parameters.get(PARAMETER, ""))
        lengths = {"filter": "filter_length", "allow": "allow_length"}
        names = [tensor["name"] for tensor in config["input"] if tensor["name"] in ("filter", "allow", "repeats", "similar")]
        self.choices = {name: int(parameters[lengths[name]]) if name in lengths else 1 for name in names}
        folder = Path(args["model_repository"]) / args["model_version"]
        vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        if vocabulary["sha256"] != parameters["vocabulary_sha256"]:
            raise pb_utils.TritonModelException(
                f"{folder} holds vocabulary {vocabulary['sha256']}, config.pbtxt states {parameters['vocabulary_sha256']}."
                " Fill the repository again: distilrec export"
            )
        ids = [item_id.encode() for item_id in vocabulary["item_ids"]]
        self.ids = np.array([b"", *ids], np.object_)
        self.index_of = {item_id: index for index, item_id in enumerate(ids, start=1)}
        if "upstream" in parameters:
            self.infer = self._upstream(parameters["upstream"])
        else:
            self.infer = (self._head if (folder / "head.json").exists() else self._local)(folder, parameters)

    def execute(self, requests):
        """Answer each request by itself. Triton sends one at a time, as config.pbtxt has no dynamic batching."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            tensors, k, unknown = self._encode(request)
            items, scores = self.infer(tensors)
        except (BadRequest, FilterError) as error:
            return _error(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # whatever the error is, this request gets an answer
            return _error(str(error), pb_utils.TritonError.INTERNAL)
        return self._decode(items[:, :k], scores[:, :k], unknown)

    def _encode(self, request):
        """The student's tensors by name, int32 [rows, ...], k, and the unknown ids of each row."""
        histories = _ids(request, "history")
        excludes = _ids(request, "exclude", default=histories[:, :0])
        if len(excludes) != len(histories):
            raise BadRequest(f"exclude: found {len(excludes)} rows, expected {len(histories)} as in history")
        k = self._k(request)
        rows, unknown = [], []
        choices, not_allowed = self._choices(request, len(histories))
        for row, (seen_ids, banned_ids) in enumerate(zip(histories, excludes, strict=True)):
            seen, not_seen = self._known(seen_ids)
            banned, not_banned = self._known(banned_ids)
            if len(set(banned)) > self.exclude_length:
                raise BadRequest(f"exclude: found {len(set(banned))} ids, expected at most {self.exclude_length}")
            if "repeats" in choices and choices["repeats"][row, 0]:
                seen = seen[-self.history_length :]
            if "similar" in choices and choices["similar"][row, 0] == 1 and not seen:
                raise BadRequest(f"similar: found no known item in row {row} of history, expected one")
            rows.append(cut_history(seen, banned, self.history_length, self.exclude_length))
            unknown.append(not_seen + not_banned + not_allowed[row])
        newest, excluded = [row.newest for row in rows], [row.exclude for row in rows]
        history, exclude = request_tensors(newest, excluded, self.history_length, self.exclude_length)
        return {"history": history, "exclude": exclude, **choices}, k, unknown

    def _choices(self, request, rows):
        """The student's optional tensors by name, int32 [rows, ...], and the unknown ids of each row's ``allow``."""
        values = {name: np.zeros((rows, length), np.int32) for name, length in self.choices.items()}
        unknown = [[] for _ in range(rows)]
        for name in self.choices:
            given = _ids(request, name)
            if given is None:
                continue
            if len(given) != rows:
                raise BadRequest(f"{name}: found {len(given)} rows, expected {rows} as in history")
            for row, texts in enumerate(given):
                if name == "similar":
                    values[name][row] = texts
                    continue
                chosen, unknown_ids = self._chosen(name, [text for text in texts if text])
                values[name][row, : len(chosen)] = chosen
                unknown[row] += unknown_ids
        return values, unknown

    def _chosen(self, name, texts):
        """Values of a row of an optional tensor that is written as text, and ids that are not known."""
        if name == "filter":
            wanted = filter_of(text.decode(errors="replace") for text in texts)
            return self.filters.encode(pairs_of(wanted), self.choices[name]), []
        if name == "repeats":
            if not set(texts) <= {b"never", b"allow"}:
                raise BadRequest(f"repeats: found {texts[0].decode(errors='replace')!r:.100}, expected 'never' or 'allow'")
            return [int(b"allow" in texts)], []
        known, unknown = self._known(texts)
        allowed = sorted(set(known))
        if len(allowed) > self.choices[name]:
            raise BadRequest(f"allow: found {len(allowed)} ids, expected at most {self.choices[name]}")
        return (allowed or [NO_ITEM]) if texts else [], unknown

    def _k(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "k")
        if tensor is None:
            return min(10, self.top_k)
        values = sorted(set(tensor.as_numpy().ravel().tolist()))
        if len(values) != 1 or not 1 <= values[0] <= self.top_k:
            raise BadRequest(f"k: found {', '.join(map(str, values))}, expected one number of 1 to {self.top_k}")
        return values[0]

    def _known(self, ids):
        """Indices of known ids, and the ids that are not known; empty strings are padding."""
        known, unknown = [], []
        for item_id in ids:
            index = self.index_of.get(item_id)
            if index is not None:
                known.append(index)
            elif item_id:
                unknown.append(item_id)
        return known, unknown

    def _decode(self, items, scores, unknown):
        items = np.where(scores > MASKED, items, PADDING)
        width = max(map(len, unknown))
        padded = [row + [b""] * (width - len(row)) for row in unknown]
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("item_ids", self.ids[items]),
                pb_utils.Tensor("scores", np.where(items == PADDING, np.float32(0), scores)),
                pb_utils.Tensor("unknown_ids", np.array(padded, np.object_).reshape(len(unknown), width)),
            ]
        )

    def _local(self, folder, parameters):
        """A function that runs the graph with ONNX Runtime in this process."""
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by ONNX Runtime as it is loaded
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        found = session.get_modelmeta().custom_metadata_map.get("vocabulary_sha256")
        if found != parameters["vocabulary_sha256"]:
            raise pb_utils.TritonModelException(f"{folder}/model.onnx was made for vocabulary {found}. Fill the repository again")
        return lambda tensors: session.run(["items", "scores"], tensors)

    def _head(self, folder, parameters):
        """A function that answers by the approximate head in this process."""
        # Both are of export/heads, copied next to this file; the first one sets the number of threads before faiss is loaded.
        from head_files import open_head  # isort: skip
        from approximate import ApproximateHead

        head = ApproximateHead(open_head(folder))
        if (found := head.settings.vocabulary_sha256) != parameters["vocabulary_sha256"]:
            raise pb_utils.TritonModelException(f"{folder}/head.json was made for vocabulary {found}. Fill the repository again")
        return head.recommend

    def _upstream(self, model):
        """A function that sends requests to the student on another backend, within the server."""
        # A student on a GPU answers in the GPU's memory unless it is asked for this, and numpy cannot read that.
        memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)

        def infer(tensors):
            inputs = [pb_utils.Tensor(name, values) for name, values in tensors.items()]
            response = pb_utils.InferenceRequest(
                model_name=model, requested_output_names=["items", "scores"], inputs=inputs, preferred_memory=memory
            ).exec()
            if response.has_error():
                raise RuntimeError(response.error().message())
            return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in ("items", "scores")]

        return infer


def _ids(request, name, default=None):
    """Ids of a tensor, bytes [rows, n]; ``default`` where the request lacks it."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy()


def _error(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
