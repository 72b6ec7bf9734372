"""Serving targets, one module for each; its name, with ``-`` for ``_``, is what ``export.target`` says.

Settings are validated by these modules, so they import neither PyTorch nor ONNX.
"""
