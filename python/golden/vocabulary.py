"""Tokenizer folders: CLIP's byte-pair vocabulary as published folders carry it, small ones of WordPiece and of chats."""
import gzip
import json
import shutil
import string

from transformers import BertTokenizer, CLIPTokenizer, Qwen2Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_MERGES = 49152 - 256 - 2


def byte_letters():
    """The printable letter for each byte, in the order in which CLIP's vocabulary lists them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]


def read_merges(bpe_file):
    """The merges that CLIP uses out of the published list."""
    lines = gzip.open(bpe_file, "rt", encoding="utf-8").read().split("\n")
    return lines[1:CLIP_MERGES + 1]


def write_clip(folder, bpe_file, pad=END, single_file=False):
    """A CLIP tokenizer as `vocab.json` and `merges.txt`, or as one `tokenizer.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    merges, letters = read_merges(bpe_file), byte_letters()
    words = letters + [letter + "</w>" for letter in letters] + ["".join(merge.split()) for merge in merges] + [START, END]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    special = dict(bos_token=START, eos_token=END, unk_token=END, pad_token=pad)
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    config = dict(special, add_prefix_space=False, do_lower_case=True, errors="replace", model_max_length=77,
                  tokenizer_class="CLIPTokenizer")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    if single_file:
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        shutil.rmtree(folder)
        tokenizer.save_pretrained(folder)


def write_wordpiece(folder, words):
    """An uncased BERT tokenizer of the letters, their continuations and some whole words."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters), *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, model_max_length=32).save_pretrained(folder)
    return len(vocabulary)


CHAT = ("{% for message in messages %}<|im_start|>{{ message.role + '\\n' + message.content }}<|im_end|>{{ '\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>{{ 'assistant\\n' }}"
        "{% if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}")


def write_chat(folder):
    """A byte-pair vocabulary of Qwen's kind with a few merges, and a template of chats that may leave thoughts out."""
    merges = ["a s", "u s", "us e", "use r", "Ġ a", "Ġ c", "a t", "Ġc at", "i n", "in g", "Ġ r", "Ġr a", "Ġra in"]
    letters = sorted(set(byte_letters())) + ["".join(merge.split()) for merge in merges]
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab={word: i for i, word in enumerate(letters)}, merges=[tuple(merge.split()) for merge in merges],
                               additional_special_tokens=marks[1:], chat_template=CHAT, model_max_length=131072)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    return len(tokenizer)
