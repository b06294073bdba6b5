"""Small vocabularies of every kind with the ids that their own programs give, for the tests of the Rust readers.

    python tokens.py OUT            (OUT: crates/ondine-models/tests/vocabularies)

Each OUT/NAME holds one vocabulary (`tokenizer.json`, `pieces.model` or `vocabulary.gguf`) and `cases.json`: texts with
their ids, `marked` with a token that says something, `whole` with what every text begins and ends with, and `exact` if
ids spell the very text again. Those in GGUF are the others in another file; their ids are those of the originals.
"""
import argparse
import io
import json
import shutil
import tempfile
from pathlib import Path

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = """The quick brown fox jumps over the lazy dog. A dog is not a fox, and 2024 is a year with 366 days.
She said: "It's raining cats & dogs", didn't she? We'll see; they've been here before, haven't they?
Der schnelle braune Fuchs springt über den faulen Hund. Übung macht den Meister; das Mädchen läuft.
Le renard brun saute par-dessus le chien paresseux. Ça va? L'été est arrivé, déjà 12 345 fois.
быстрая коричневая лиса прыгает через ленивую собаку. 猫は犬より小さい。 犬と猫と狐。
def main():\n    for i in range(10):\n        print(i * i + 1)\n\n\treturn None
""" * 8
TEXTS = [
    "The lazy dog isn't a quick fox.",
    "a",
    "They'll see 12345 cats in 2024!",
    "  two  blanks   and three ",
    "for i in range(3):\n    print(i)\n\n\n\treturn",
    "Übung läuft déjà",
    "犬と猫 лиса 🦊 \u0301",
    "\n",
    "x\r\ny",
    "\uff21 \ufb01ne u\u0308ber\te\u0301t\u00e9",
]
MARK = "<|turn|>"


def cases(folder, encode, around, exact, texts=TEXTS):
    ids = [encode(text, False) for text in texts]
    marked = f"a dog{MARK}The fox"
    found = dict(texts=texts, ids=ids, exact=exact, whole=around[0] + ids[0] + around[1],
                 marked=dict(text=marked, ids=encode(marked, True)))
    (folder / "cases.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def with_steps(tokenizer):
    """A function that encodes, with control tokens as text or meant."""
    def encode(text, marks):
        tokenizer.encode_special_tokens = not marks
        return tokenizer.encode(text, add_special_tokens=False).ids
    return encode


def fresh(out, name):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def bytes_pairs():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS.splitlines(True), trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<s>", "</s>", MARK]))
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def word_pieces():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    # Ids of special tokens are where BERT has them.
    special = ["[PAD]"] + [f"[unused{i}]" for i in range(99)] + ["[UNK]", "[CLS]", "[SEP]", "[MASK]", MARK]
    tokenizer.train_from_iterator(CORPUS.splitlines(True), trainers.WordPieceTrainer(vocab_size=420, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)])
    return tokenizer


# Characters that are written as others: a ligature, the full-width A, a tab, and letters with a combining accent.
CHARACTERS = """FB01\t66 69\nFF21\t41\n9\t20\n75 308\tFC\n65 301\tE9\n"""


def pieces(kind):
    model = io.BytesIO()
    rules = tempfile.NamedTemporaryFile("w", suffix=".tsv")
    rules.write(CHARACTERS)
    rules.flush()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()), model_writer=model, model_type=kind,
        vocab_size=480, byte_fallback=True, character_coverage=0.99,
        **(dict(normalization_rule_name="identity") if kind == "bpe" else dict(normalization_rule_tsv=rules.name)),
        remove_extra_whitespaces=kind != "bpe", control_symbols=[MARK], hard_vocab_limit=False)
    return model.getvalue()


def with_pieces(model):
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def encode(text, marks):
        if not marks:
            return processor.encode(text)
        # SentencePiece itself never finds a control token in a text: what stands around it are texts.
        first, second = text.split(MARK)
        return processor.encode(first) + [processor.piece_to_id(MARK)] + processor.encode(second)
    return encode


def write_gguf(path, model, tokens, kinds, scores=None, merges=None, characters=None, **keys):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if scores is not None:
        writer.add_token_scores(scores)
    if merges is not None:
        writer.add_token_merges(merges)
    if characters:
        writer.add_precompiled_charsmap(characters)
    for key, value in keys.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}[type(value)]
        add(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def table(tokenizer):
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    special = {id for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return [token for token, _ in vocabulary], [3 if id in special else 1 for _, id in vocabulary]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out

    tokenizer = bytes_pairs()
    folder = fresh(out, "bytes-json")
    tokenizer.save(str(folder / "tokenizer.json"))
    cases(folder, with_steps(tokenizer), ([0], []), True)
    folder = fresh(out, "bytes-gguf")
    merges = [merge if isinstance(merge, str) else " ".join(merge)
              for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    write_gguf(folder / "vocabulary.gguf", "gpt2", *table(tokenizer), merges=merges, pre="smollm", bos_token_id=0,
               eos_token_id=1, add_bos_token=True)
    cases(folder, with_steps(tokenizer), ([0], []), True)

    tokenizer = word_pieces()
    folder = fresh(out, "words-json")
    tokenizer.save(str(folder / "tokenizer.json"))
    cases(folder, with_steps(tokenizer), ([101], [102]), False)
    folder = fresh(out, "words-gguf")
    tokens, kinds = table(tokenizer)
    marked = [token if kind == 3 else token[2:] if token.startswith("##") else "▁" + token
              for token, kind in zip(tokens, kinds)]
    write_gguf(folder / "vocabulary.gguf", "bert", marked, kinds, cls_token_id=101, seperator_token_id=102,
               unknown_token_id=100)
    cases(folder, with_steps(tokenizer), ([101], [102]), False)

    for kind, model_name in [("bpe", "llama"), ("unigram", "t5")]:
        model = pieces(kind)
        folder = fresh(out, f"{kind}-model")
        (folder / "pieces.model").write_bytes(model)
        exact = kind == "bpe"
        cases(folder, with_pieces(model), ([], []), exact)
        proto = sentencepiece_model_pb2.ModelProto.FromString(model)
        folder = fresh(out, f"{kind}-gguf")
        write_gguf(folder / "vocabulary.gguf", model_name, [piece.piece for piece in proto.pieces],
                   [piece.type for piece in proto.pieces], [piece.score for piece in proto.pieces],
                   bos_token_id=1, eos_token_id=2, unknown_token_id=0, add_space_prefix=True,
                   characters=bytes(proto.normalizer_spec.precompiled_charsmap))
        cases(folder, with_pieces(model), ([1], []) if kind == "bpe" else ([], [2]), exact)

    # Pairs of characters with bytes for what no token spells, as transformers writes vocabularies of SentencePiece.
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.train_from_iterator(CORPUS.splitlines(True), trainers.BpeTrainer(
        vocab_size=440, limit_alphabet=40,
        special_tokens=["<unk>", "<s>", "</s>", MARK] + [f"<0x{byte:02X}>" for byte in range(256)]))
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = [token for token in described["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(described))
    folder = fresh(out, "characters-json")
    tokenizer.save(str(folder / "tokenizer.json"))
    cases(folder, with_steps(tokenizer), ([], []), True)


if __name__ == "__main__":
    main()
