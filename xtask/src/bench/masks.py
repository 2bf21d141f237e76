"""Presidio's pattern recognisers on the corpus of masks: no model, one recogniser for each kind.

Reads the samples as JSON lines; prints one JSON line for each kind, and its speed with all of them.
"""

import json
import sys
import time

import tldextract
from presidio_analyzer import predefined_recognizers as known

# Its list of domains comes with it: nothing is asked of the network.
tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

RECOGNISERS = {
    "card": known.CreditCardRecognizer,
    "iban": known.IbanRecognizer,
    "ssn": known.UsSsnRecognizer,
    "email": known.EmailRecognizer,
    "phone": known.PhoneRecognizer,
    "ip": known.IpRecognizer,
}


def finds(recogniser, text):
    # What it scores 0 it has refused itself.
    found = recogniser.analyze(text, recogniser.supported_entities, None) or []
    return [(one.start, one.end) for one in found if one.score > 0]


def main():
    samples = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    for sample in samples:
        text = sample["text"].encode()
        # It counts in characters.
        sample["span"] = tuple(len(text[: sample[edge]].decode()) for edge in ("start", "end"))
    made = {kind: make() for kind, make in RECOGNISERS.items()}
    spent = 0.0
    for kind, recogniser in made.items():
        right = missed = wrong = 0
        begun = time.perf_counter()
        found = [finds(recogniser, sample["text"]) for sample in samples]
        spent += time.perf_counter() - begun
        for sample, spans in zip(samples, found):
            labelled = sample["kind"] == kind
            hit = any(labelled and a <= sample["span"][0] and b >= sample["span"][1] for a, b in spans)
            right += hit
            missed += labelled and not hit
            wrong += bool(spans) and not hit
        print(json.dumps({"kind": kind, "right": right, "missed": missed, "wrong": wrong}))
    size = sum(len(sample["text"].encode()) for sample in samples)
    print(json.dumps({"mb_per_s": size / 1e6 / spent}))


main()
