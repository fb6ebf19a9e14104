"""Prompts: the exact text, chat templates, letters, shots, and a prompt longer than the context."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from turnout.errors import TaskError
from turnout.tasks import Question, choose_shots, encode, letter_ids, plain_prompt
from turnout.tasks.prompts import encode_continuation

Q = Question("q1", "sums", "maths", "What is 1 + 1?", ("1", "2", "3", "4"), 1)
SHOT = Question("q0", "sums", "maths", "What is 0 + 1?", ("0", "1", "2", "3"), 1)
TEXT = Question("t1", "prose", "en", "Once upon a time")
PLAIN = "Question: What is 1 + 1?\nChoices:\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def byte_tokenizer(extra=(), template=None):
    """Every byte is a token, `extra` are tokens too; <s> goes in front by default."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "</s>", *alphabet, *extra]
    merges = [(word[0], word[1]) for word in extra]
    core = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    fast.chat_template = template
    return fast


def test_the_plain_prompt():
    assert plain_prompt(Q) == PLAIN
    assert plain_prompt(Q, [SHOT]).startswith(
        "Question: What is 0 + 1?\nChoices:\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer: B\n\n"
    )
    assert plain_prompt(Q, [SHOT]).endswith("\n\n" + PLAIN)
    assert plain_prompt(TEXT, [SHOT]) == "Once upon a time"


def test_plain_tokens_have_the_tokenizers_own_special_tokens():
    tokenizer = byte_tokenizer()
    ids = encode(tokenizer, Q)
    assert tokenizer.decode(ids) == "<s>" + PLAIN
    assert ids.count(0) == 1


def test_a_chat_template_has_one_user_turn_and_no_further_special_tokens():
    tokenizer = byte_tokenizer(template=TEMPLATE)
    ids = encode(tokenizer, Q)
    assert tokenizer.decode(ids) == f"<s>[user]{PLAIN}[assistant]"
    assert ids.count(0) == 1, "the template's <s> and no second one"
    with_shot = encode(tokenizer, Q, shots=[SHOT])
    assert tokenizer.decode(with_shot) == f"<s>[user]{plain_prompt(Q, [SHOT])}[assistant]"


def test_a_text_row_is_its_text():
    tokenizer = byte_tokenizer(template=TEMPLATE)
    assert tokenizer.decode(encode(tokenizer, TEXT)) == "<s>Once upon a time"


def test_letters_with_a_space_where_all_of_them_are_tokens():
    spaced = byte_tokenizer(extra=[f"Ġ{c}" for c in "ABCD"])
    assert spaced.convert_ids_to_tokens(letter_ids(spaced, 4)) == ["ĠA", "ĠB", "ĠC", "ĠD"]
    assert spaced.convert_ids_to_tokens(letter_ids(spaced, 5)) == list("ABCDE"), "one form for all"
    bare = byte_tokenizer()
    assert bare.convert_ids_to_tokens(letter_ids(bare, 26)) == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.mark.parametrize("n", [0, 1, 27])
def test_two_to_26_letters(n):
    with pytest.raises(TaskError, match="2 to 26"):
        letter_ids(byte_tokenizer(), n)


def test_a_tokenizer_without_the_letters():
    core = Tokenizer(models.WordLevel({"[UNK]": 0, "A": 1}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    with pytest.raises(TaskError, match="each answer letter A to D"):
        letter_ids(tokenizer, 4)


def test_a_prompt_longer_than_the_context():
    tokenizer = byte_tokenizer()
    n = len(encode(tokenizer, Q))
    assert len(encode(tokenizer, Q, max_length=n)) == n
    with pytest.raises(TaskError, match=rf"question q1: .*at most {n - 1} tokens.*got {n} tokens; shorten"):
        encode(tokenizer, Q, max_length=n - 1)


def test_a_prompt_without_tokens():
    core = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(TaskError, match="at least one token"):
        encode(PreTrainedTokenizerFast(tokenizer_object=core), Question("t", "s", "d", "  "))


def test_shots_are_of_the_same_subject_and_never_the_question():
    same_words = Question("other id", "sums", "maths", Q.text, Q.choices, 1)
    other = Question("x", "law", "law", "Who?", ("I", "you"), 0)
    unsolved = Question("y", "sums", "maths", "2?", ("1", "2"), None)
    dev = [Q, same_words, other, unsolved, TEXT, SHOT]
    assert choose_shots(Q, dev, 1) == (SHOT,)
    assert choose_shots(Q, dev, 0) == ()
    with pytest.raises(TaskError, match="question q1: expected 2 solved examples of its subject 'sums', got 1"):
        choose_shots(Q, dev, 2)


def test_a_shot_needs_an_answer():
    with pytest.raises(TaskError, match="shot t1"):
        plain_prompt(Q, [TEXT])


def appending_tokenizer(template=None):
    """The byte tokenizer, but </s> follows every text."""
    tokenizer = byte_tokenizer(template=template)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


@pytest.mark.parametrize("question", [Q, TEXT], ids=["question", "text"])
def test_nothing_follows_the_prompt_whatever_the_tokenizer_appends(question):
    assert appending_tokenizer()("x")["input_ids"][-1] == 1
    assert encode(appending_tokenizer(), question) == encode(byte_tokenizer(), question)


def sentencepiece_tokenizer():
    """A space in front of every text, as SentencePiece adds it: " 4" alone is two tokens, in context one."""
    pieces = ["<s>", "</s>", "<unk>", "\u2581", "2", "+", "=", "\u25814", "\u25812", "4"]
    core = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_a_continuation_is_encoded_in_context():
    tokenizer = sentencepiece_tokenizer()
    alone = tokenizer.convert_ids_to_tokens(tokenizer(" 4", add_special_tokens=False)["input_ids"])
    prompt, continuation = encode_continuation(tokenizer, "2+2=", " 4")
    assert alone == ["\u2581", "\u25814"]
    assert tokenizer.convert_ids_to_tokens(continuation) == ["\u25814"]
    assert prompt + continuation == tokenizer("2+2= 4")["input_ids"]


def test_a_token_across_the_boundary_belongs_to_the_continuation():
    tokenizer = byte_tokenizer(extra=["ab"])
    prompt, continuation = encode_continuation(tokenizer, "xa", "b")
    assert tokenizer.convert_ids_to_tokens(prompt) == ["<s>", "x"]
    assert tokenizer.convert_ids_to_tokens(continuation) == ["ab"]


def test_a_continuation_of_an_appending_tokenizer_has_no_end_token():
    prompt, continuation = encode_continuation(appending_tokenizer(), "x", " y")
    assert (prompt, continuation) == encode_continuation(byte_tokenizer(), "x", " y")
