"""The letters that a model picks for questions of MMLU, as transformers runs it, asked as lm-evaluation-harness does.

    python mmlu.py MODEL.gguf DATA OUT [--limit 2] [--shots 5] [--subject NAME ...] [--digits]

DATA holds `test/SUBJECT_test.csv` and `dev/SUBJECT_dev.csv`. Compare OUT with what `ondine eval mmlu --results` writes:

    python mmlu.py --compare OUT RESULTS
"""

import argparse
import csv
import json
import pathlib
import sys

LETTERS = "ABCD"


def questions(path):
    for number, (*cells, right) in enumerate(csv.reader(open(path, newline=""))):
        if number == 0 and right == "answer":
            continue
        question, *choices = cells
        lines = [question.strip()] + [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices)] + ["Answer:"]
        yield "\n".join(lines), right if right in LETTERS else LETTERS[int(right)]


def ask(arguments):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(2)
    file = pathlib.Path(arguments.model)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if arguments.digits:
        from tokenizers import pre_tokenizers as steps

        both = [steps.Digits(individual_digits=True), steps.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = steps.Sequence(both)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    data = pathlib.Path(arguments.data)
    names = sorted(path.name.removesuffix("_test.csv") for path in (data / "test").glob("*_test.csv"))
    with open(arguments.out, "w") as out, torch.no_grad():
        for name in names:
            if arguments.subject and name not in arguments.subject:
                continue
            about = name.replace("_", " ")
            before = f"The following are multiple choice questions (with answers) about {about}.\n\n"
            for text, right in list(questions(data / "dev" / f"{name}_dev.csv"))[: arguments.shots]:
                before += f"{text} {right}\n\n"
            for at, (text, right) in enumerate(questions(data / "test" / f"{name}_test.csv")):
                if at == arguments.limit:
                    break
                ids = tokenizer(before + text)["input_ids"]
                # A letter is one token behind the blank, and the text before it is cut as it is alone.
                letters = [tokenizer(f"{before}{text} {letter}")["input_ids"] for letter in LETTERS]
                assert all(letter[:-1] == ids for letter in letters)
                logits = model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].double()
                likelihoods = torch.log_softmax(logits, -1)[[letter[-1] for letter in letters]].tolist()
                pick = LETTERS[max(range(4), key=likelihoods.__getitem__)]
                line = {"id": f"{name} {at}", "pick": pick, "right": right, "likelihoods": likelihoods}
                out.write(json.dumps(line) + "\n")
                out.flush()


def compare(theirs, ours):
    lines = lambda path: {line["id"]: line for line in map(json.loads, open(path)) if "id" in line}
    theirs, ours = lines(theirs), lines(ours)
    both = [id for id in theirs if id in ours]
    same = sum(theirs[id]["pick"] == ours[id]["pick"] for id in both)
    apart = max(abs(a - b) for id in both for a, b in zip(theirs[id]["likelihoods"], ours[id]["likelihoods"]))
    print(f"{same} of {len(both)} picks are the same; log-likelihoods differ by {apart:.2e} at most")
    for id in both:
        if theirs[id]["pick"] != ours[id]["pick"]:
            print(id, theirs[id]["pick"], theirs[id]["likelihoods"], ours[id]["pick"], ours[id]["likelihoods"])
    return 0 if same == len(both) else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--subject", action="append")
    # SmolLM cuts digits one by one before anything else, which is lost when transformers reads a GGUF file.
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--compare", action="store_true")
    arguments = parser.parse_args()
    if arguments.compare:
        return compare(arguments.model, arguments.data)
    return ask(arguments)


if __name__ == "__main__":
    sys.exit(main())
