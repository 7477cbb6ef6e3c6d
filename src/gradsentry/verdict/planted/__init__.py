"""The planted-trigger detector: prompt patterns that look inserted, and what they do to the answers, measured against matched prompts.

It needs no payload that recurs word for word: a flipped label, a missing caution or a shorter answer is an effect too.

prompts.py   words as written, spacing and shapes -> patterns, and how inserted each looks
answers.py   answers -> features: spans, whole answers, lengths, fit to the prompt, script
controls.py  for each prompt with a pattern the most similar prompt without it; is the comparison fair?
detector.py  patterns x features -> evidence in nats -> findings
"""
