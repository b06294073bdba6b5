"""Writes small tokenizers and what transformers makes of a few texts with them (tests/tokenizers.rs reads both).

    python make.py [CLIP_MERGES WORDPIECE_VOCAB]

That of chats is made without other files. CLIP_MERGES is `bpe_simple_vocab_16e6.txt.gz` of OpenAI's CLIP, WORDPIECE_VOCAB a `vocab.txt` of an uncased BERT.
"""

import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path

from diffusers.loaders import TextualInversionLoaderMixin
from transformers import AutoTokenizer, BertTokenizer, CLIPTokenizer

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[3] / "python/golden"))
from vocabulary import write_chat
MERGES = 1200
WORDS = 3000
LENGTH = 16
TEXTS = [
    "",
    "a photo of a cat",
    "A Photo,  of\ta\n CAT!!",
    "the quick brown fox jumps over the lazy dog, twice, and then once more for good measure",
    "I'm sure they'll say it's we've DON'T you're he'd",
    "3 cats 42 1999 x2 v1.5",
    "cafe\u0301 caf\u00e9 na\u00efve \u0130stanbul \u1e9e stra\u00dfe",
    "\U0001f600\U0001f469\u200d\U0001f680 party \u2764\ufe0f",
    "\u4f60\u597d \u4e16\u754c \u3053\u3093\u306b\u3061\u306f",
    "hello! world ! !!! <|endoftext|> <|startoftext|>x <|ENDOFTEXT|>",
    "[MASK] [CLS] [SEP] [UNK] [PAD] [mask]",
    "zero\u200bwidth soft\u00adhyphen \u00a0nbsp\u3000ideographic",
    "snake_case camelCase http://a.b/c?d=e&f (masterpiece:1.2) --- ... \u2014 \u201cquoted\u201d",
    "\u0000\u0001\ufffd",
    "supercalifragilisticexpialidocious" * 4,
]


WORDS_IN_TEXTS = [
    "a photo of a <toy> in the rain",
    "<toy>",
    "<toy>_1 alone",
    "a<toy>cat, <TOY> <toy>",
    "a big word, a Big  Word and a bigger word",
    "two plushes and a PLUSH",
    "nothing of that",
]


def clip_vocabulary(path):
    """The bytes, the bytes that end a word, the first merges and the two special tokens."""
    merges = gzip.open(path, "rt", encoding="utf-8").read().split("\n")[1 : MERGES + 1]
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens = letters + [letter + "</w>" for letter in letters] + [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        (folder / name).write_text(text, encoding="utf-8")


def expect(tokenizer, texts=TEXTS):
    def ids(written):
        text = TextualInversionLoaderMixin().maybe_convert_prompt(written, tokenizer)
        plain = tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]
        padded = tokenizer(text, truncation=True, max_length=LENGTH, padding="max_length")["input_ids"]
        whole = tokenizer(text)["input_ids"]
        return {"text": written, "ids": plain, "padded": padded, "truncated": len(whole) - len(plain)}

    return [ids(text) for text in texts]


SAID = ["", "a photo of a cat", "user", " \n\na  cat\n", "A Ünicode 猫 🚀", "<|im_end|>\n<|im_start|>x </think> <|endoftext|>",
        "a long cat in the rain, " * 8]
CHAT_LENGTH = 64


def chats():
    """Texts as pipelines write them for a language model that shall not think."""
    write_chat(HERE / "chat")
    tokenizer = AutoTokenizer.from_pretrained(HERE / "chat")

    def ids(said):
        text = tokenizer.apply_chat_template([{"role": "user", "content": said}], tokenize=False, add_generation_prompt=True,
                                             enable_thinking=False)
        plain, whole = (tokenizer(text, truncation=short, max_length=CHAT_LENGTH)["input_ids"] for short in (True, False))
        padded = tokenizer(text, truncation=True, max_length=CHAT_LENGTH, padding="max_length")["input_ids"]
        return {"text": said, "ids": plain, "padded": padded, "truncated": len(whole) - len(plain)}

    write(HERE / "chat", {"expected.json": [ids(said) for said in SAID]})


def main():
    chats()
    if len(sys.argv) == 1:
        return
    vocab, merges = clip_vocabulary(sys.argv[1])
    files = {"vocab.json": vocab, "merges.txt": "\n".join(["#version: 0.2", *merges, ""])}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH}
    write(HERE / "clip", {**files, "tokenizer_config.json": config})
    write(HERE / "clip", {"expected.json": expect(CLIPTokenizer.from_pretrained(HERE / "clip"))})
    # As in SDXL's second tokenizer: the padding is a word, which thereby becomes special. In one file this time.
    bang = CLIPTokenizer.from_pretrained(HERE / "clip", pad_token="!")
    bang.save_pretrained(HERE / "clip_bang")
    write(HERE / "clip_bang", {"expected.json": expect(CLIPTokenizer.from_pretrained(HERE / "clip_bang"))})

    # Words of textual inversion as transformers kept them before 4.34; one of them has three vectors.
    words = ["<toy>", "<toy>_1", "<toy>_2", "Big Word", "plush"]
    folder = HERE / "clip_words"
    write(folder, {"added_tokens.json": {word: len(vocab) + i for i, word in enumerate(words)}})
    with tempfile.TemporaryDirectory() as whole:
        for source in (HERE / "clip", folder):
            shutil.copytree(source, whole, dirs_exist_ok=True)
        taught = CLIPTokenizer.from_pretrained(whole)
    write(folder, {"expected.json": expect(taught, WORDS_IN_TEXTS)})

    lines = Path(sys.argv[2]).read_text(encoding="utf-8").split("\n")
    specials = [line for line in lines[:110] if line.startswith("[") and "unused" not in line]
    words = specials + lines[999:WORDS] + [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    words = list(dict.fromkeys(words))
    folder = HERE / "bert"
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": LENGTH, "do_lower_case": True}
    write(folder, {"vocab.txt": "\n".join(words) + "\n", "tokenizer_config.json": config})
    write(folder, {"expected.json": expect(BertTokenizer.from_pretrained(folder))})


main()
