"""Plans before the first call, and budgets that stop."""

import pytest
from conversational.endpoints import MODEL, questions, serving, waiting_for
from conversational.test_recording import Parrot

from jaxrec import InputError
from jaxrec.conversational.chat.budget import BudgetedChat, Prices, plan
from jaxrec.conversational.chat.http import HttpChat
from jaxrec.conversational.chat.protocol import ChatModel, ChatRequest, Message
from jaxrec.conversational.chat.recording import RecordingChat


def test_a_plan_counts_calls_tokens_and_price():
    requests = [
        ChatRequest((Message("system", "a" * 40), Message("user", "b" * 80)), str(i), max_tokens=100) for i in "ab"
    ]
    found = plan(requests, Prices(2.5, 10.0))
    assert (found.calls, found.prompt_tokens, found.completion_tokens) == (2, 2 * (30 + 8), 200)
    assert found.price == pytest.approx((2.5 * 76 + 10.0 * 200) / 1e6)
    assert str(plan(requests)) == "2 calls with about 76 tokens, and at most 200 in reply."
    assert str(plan(requests * 9999, Prices(2.5, 10))).endswith("which cost at most 21.90.")


def test_calls_over_the_budget_are_errors_and_the_others_are_answered():
    parrot = Parrot(fails={"1"})
    chat = BudgetedChat(parrot, calls=4)
    assert isinstance(chat, ChatModel) and chat.name == "parrot"
    replies = [*chat.complete(questions(3)), *chat.complete(questions(3, start=3))]
    assert parrot.asked == ["0", "1", "2", "3"] and chat.spent.calls == 4
    assert [each.error for each in replies[3:]] == [None] + ["not asked: the budget of 4 calls is used up."] * 2


def test_tokens_are_counted_as_the_model_says_and_never_exceeded():
    # A request is 3 + 4 tokens by the estimate and has 100 in reply at most; the parrot says that each took 3 + 4.
    requests = [ChatRequest((Message("user", f"question {i}"),), str(i), max_tokens=100) for i in range(90)]
    parrot = Parrot()
    chat = BudgetedChat(parrot, tokens=500)
    replies = chat.complete(requests)
    asked = sum(each.error is None for each in replies)
    # the last one is asked as long as it would fit with the longest reply: 7 n + 106 <= 500
    assert asked == len(parrot.asked) == 57 and chat.spent.prompt_tokens + chat.spent.completion_tokens == 7 * 57
    assert replies[57].error == "not asked: the budget of 500 tokens is used up."


def test_a_price_stops_it_too():
    chat = BudgetedChat(Parrot(), price=0.01, prices=Prices(1.0, 10.0))
    replies = chat.complete(questions(600))  # each 0.000043, and 0.005 at most
    asked = sum(each.error is None for each in replies)
    assert chat.spent.price == pytest.approx(asked * 43e-6) and 100 < asked < 117
    assert replies[-1].error == "not asked: the budget of price 0.01 is used up."


def test_what_was_recorded_takes_nothing(tmp_path):
    for _ in range(3):
        with RecordingChat(BudgetedChat(Parrot(), calls=2), tmp_path / "run.jsonl") as chat:
            replies = chat.complete(questions(5))
    assert all(each.error is None for each in replies)


def test_eight_are_under_way_together_within_a_budget():
    with serving(waiting_for(8)) as server:
        BudgetedChat(HttpChat(MODEL, server.url), calls=17).complete(questions(30))
        assert server.most == 8 and len(server.asked) == 17


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "needs a number of calls or of tokens, or a price"),
        ({"calls": 0}, "calls must be at least 1, got 0"),
        ({"tokens": 0}, "tokens must be at least 1, got 0"),
        ({"tokens": -5}, "tokens must be at least 1, got -5"),
        ({"price": 0, "prices": Prices(1, 1)}, "price must be above 0"),
        ({"price": 3}, "needs prices"),
        ({"price": 3, "prices": 5}, "prices must be Prices"),
    ],
)
def test_a_budget_of_nothing_is_refused(limits, said):
    with pytest.raises(InputError, match=said):
        BudgetedChat(Parrot(), **limits)
    with pytest.raises(InputError, match="at least 0"):
        Prices(-1, 2)
