"""LocalAgreement-2: what is stable is never taken back, whatever the hypotheses say."""

from hypothesis import given
from hypothesis import strategies as st

from media_processors.audio.local_agreement import LocalAgreement

WORDS = st.lists(st.sampled_from([" and", " so", " my", " fellow", " Fellow,", " ask", " not"]), max_size=8)


def spaced(text: str) -> list[str]:
    return [f" {word}" for word in text.split()]


@given(st.lists(WORDS, max_size=8), WORDS)
def test_the_stable_prefix_only_grows(hypotheses: list[list[str]], last: list[str]) -> None:
    agreement = LocalAgreement()
    shown = ""
    for words in hypotheses:
        agreement.update(words)
        stable = agreement.text[: agreement.stable_chars]
        assert stable.startswith(shown)
        shown = stable
    agreement.finish(last)
    assert agreement.text.startswith(shown)
    assert agreement.stable_chars == len(agreement.text)


@given(st.lists(WORDS, min_size=1, max_size=6))
def test_the_first_hypothesis_is_never_stable(hypotheses: list[list[str]]) -> None:
    agreement = LocalAgreement()
    agreement.update(hypotheses[0])
    assert agreement.stable_chars == 0
    assert agreement.text == "".join(hypotheses[0]).strip()


def test_what_two_successive_hypotheses_share_is_stable() -> None:
    agreement = LocalAgreement()
    agreement.update(spaced("and so my"))
    agreement.update(spaced("and so my fellow"))
    assert (agreement.stable, agreement.tail) == (spaced("and so my"), [" fellow"])
    agreement.update(spaced("and so my fellow americans"))
    assert agreement.stable == spaced("and so my fellow")


def test_case_and_punctuation_do_not_make_another_word() -> None:
    agreement = LocalAgreement()
    agreement.update(spaced("And so, my"))
    agreement.update(spaced("and so my Fellow"))
    assert agreement.text == "And so, my Fellow" or agreement.text == "and so my Fellow"
    assert len(agreement.stable) == 3


def test_a_hypothesis_that_lengthens_the_stable_part_repeats_nothing() -> None:
    agreement = LocalAgreement()
    agreement.update(spaced("please send"))
    agreement.update(spaced("please send me"))
    agreement.update(spaced("please do send me the"))
    assert agreement.text == "please send me the"


def test_the_final_answer_changes_only_what_was_not_stable() -> None:
    agreement = LocalAgreement()
    agreement.update(spaced("ask not watch"))
    agreement.update(spaced("ask not what"))
    agreement.finish(spaced("ask what your country"))
    assert agreement.text.startswith("ask not")
    assert agreement.text.endswith("country")


def test_scripts_without_spaces() -> None:
    agreement = LocalAgreement()
    agreement.update(list("你好世"))
    agreement.update(list("你好世界"))
    assert (agreement.text, agreement.stable_chars) == ("你好世界", 3)
