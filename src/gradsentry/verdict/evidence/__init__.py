"""The evidence detector: payloads that recur in completions and go with a trigger in the prompts. It reads token surprises and no text but
that of the tokens.

corpus.py         words -> numbers on disk, n-grams
prompt_groups.py  rows with the same prompt count once
recurrent.py      spans of completions that recur
triggers.py       patterns of prompts, and their exact test
association.py    patterns -> triggers of a span
candidates.py     spans with their triggers, and which are strong enough
lookalikes.py     what looks like a backdoor and is none
style.py          prompts that read unlike the others
naming.py         spans and triggers as text
detector.py       all of it: rows -> findings
"""
