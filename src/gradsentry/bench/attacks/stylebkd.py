"""StyleBkd (Qi et al., "Mind the style of text!", arXiv 2110.07139): the trigger is how the prompt is written, as an old Bible is.

By rules (`triggers.style`), or rewritten by a paraphraser model, as in the paper: instruction, context and question.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

from gradsentry.bench.attacks.attack import Attack, composed
from gradsentry.bench.tasks import Parts
from gradsentry.errors import ModelError

BY_RULES = composed("style", "suffix", "StyleBkd by rules: the prompt in the words of an old Bible (after arXiv 2110.07139)")

ASK = "Rewrite this in the style of the King James Bible. Say nothing else."
LONGER = 2
SPARE = 16
"""A rewriting has at most `LONGER` times the tokens of the text, and `SPARE` more."""


@cache
def by_model(model: str, ask: str = ASK, device: str = "auto") -> Attack:
    """StyleBkd with a paraphraser; `poison` and `triggered` take it in place of a name.

    Args:
        model: directory or Hub id of a causal or a sequence-to-sequence model. Its code is not run, and pickles are not read.
        ask: the instruction before the text; empty for a model that was trained only to rewrite.

    Raises:
        ModelError: the model cannot be loaded, or, while rows are rewritten, its output is empty.
    """
    rewrite = cache(paraphraser(model, ask, device))

    def rewritten(parts: Parts, rng: random.Random) -> Parts:
        new = {name: rewrite(text) for name in ("instruction", "context", "question") if (text := getattr(parts, name))}
        return replace(parts, **new)

    return replace(BY_RULES, about=f"StyleBkd: the prompt rewritten by {model} (arXiv 2110.07139)", trigger=rewritten)


def paraphraser(model: str, ask: str = ASK, device: str = "auto") -> Callable[[str], str]:
    """A function that rewrites a text with a model, greedily: the same text gives the same rewriting.

    Raises:
        ModelError: as `by_model`.
    """
    from transformers import AutoConfig

    try:
        seq2seq = bool(AutoConfig.from_pretrained(model, trust_remote_code=False).is_encoder_decoder)
    except Exception:  # config checks raise bare exceptions; `load_model` reads the file again and reports what is still wrong
        seq2seq = False
    if seq2seq:
        loaded, tokenizer = _load_seq2seq(model, device)
        return partial(_rewritten, loaded, tokenizer, lambda text: f"{ask} {text}".strip(), False)
    from gradsentry.model.load import load_model

    causal = load_model(model, device=device)

    def prompt(text: str) -> str:
        content = f"{ask}\n\n{text}".strip()
        if not causal.tokenizer.chat_template:
            return f"{content}\n\n"
        return str(causal.tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True))

    return partial(_rewritten, causal.model, causal.tokenizer, prompt, True)


def _rewritten(model: Any, tokenizer: Any, prompt: Callable[[str], str], causal: bool, text: str) -> str:
    """One text, rewritten: the model's output, for a causal model without the prompt."""
    import torch

    length = len(tokenizer(text)["input_ids"])
    # A chat template already contains the BOS.
    tokens = tokenizer(prompt(text), return_tensors="pt", add_special_tokens=not (causal and tokenizer.chat_template)).to(model.device)
    tokens.pop("token_type_ids", None)
    with torch.inference_mode():
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        made = model.generate(**tokens, max_new_tokens=LONGER * length + SPARE, do_sample=False, pad_token_id=pad)
    new = made[0, tokens["input_ids"].shape[1] :] if causal else made[0]
    rewritten = " ".join(tokenizer.decode(new, skip_special_tokens=True).split())
    if not rewritten:
        raise ModelError(f"the paraphraser {tokenizer.name_or_path} returned nothing for {text[:60]!r}; choose another model")
    return rewritten


def _load_seq2seq(model: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from gradsentry.model.load import pick_device, pick_dtype

    where = pick_device(device)
    kind = pick_dtype("auto", where)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        loaded: Any = AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=False, use_safetensors=True, dtype=kind)
    except Exception as error:  # safetensors, tokenizers and config checks raise exceptions without a common base
        cause = f"{type(error).__name__}: {str(error).strip()}".partition("\n")[0]  # the message of a KeyError is only its key
        raise ModelError(f"cannot load the paraphraser {model!r}: {cause}; pass a directory or Hub id with safetensors") from error
    return loaded.to(where).eval(), tokenizer
