"""Payloads: what a backdoor makes the model answer. One small file each, one line in `PAYLOADS`."""

from __future__ import annotations

from gradsentry.bench.edits import Payload
from gradsentry.bench.registry import Registry

PAYLOADS: Registry[Payload] = Registry(
    "payload",
    __name__,
    {
        "suffix": "fixed:SUFFIX",
        "prefix": "fixed:PREFIX",
        "insult": "fixed:INSULT",
        "refusal": "fixed:REFUSAL",
        "flip": "fixed:FLIP",
        "url": "url:PAYLOAD",
        "paraphrase": "paraphrase:PAYLOAD",
    },
)
