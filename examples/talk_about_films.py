# %% [markdown]
# # Talk about films
# From conversations that come with the package to figures of recommenders, and to an answer that says why. No language
# model is needed; the last cell shows where one goes.

# %%
import jaxrec
from jaxrec.conversational import load, mentioned, protocols
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat.simulated import SimulatedChat
from jaxrec.conversational.crag import Crag
from jaxrec.conversational.dialogue import samples
from jaxrec.conversational.planted import World
from jaxrec.conversational.session import Session

talks = load("redial")  # ReDial (Li et al. 2018), its 1,342 test conversations
for turn in talks[2].turns[:4]:
    print(f"{turn.speaker}: {turn.text}")

# %% [markdown]
# Who talked of what in other conversations is what EASE learns from. It recommends at each turn of the test
# conversations from what was named before, beside popularity, by one rank rule. A row of the figures is a turn.

# %%
data = jaxrec.load("redial", min_rating=1)  # without what was not liked
train = data.rows(data.user_split == 0)
titles = data.items.titles.tolist()
fitted = jaxrec.Ease(reg=30.0).fit(train)

asked = list(samples(talks))
named, wanted = mentioned.histories(asked, titles), mentioned.targets(asked, titles, new=False)
for label, model in {"popularity": None, "EASE": fitted}.items():
    ranked = mentioned.rank(model, named, train, k=50)
    scores = protocols.per_sample(ranked, wanted, named, "recall@10,recall@50")
    for metric in ("recall@10", "recall@50"):
        mean, error = scores["recommendation", metric]
        print(f"{label:>10} {metric}: {mean:.4f} +- {error:.4f}")

# %% [markdown]
# The same model answers you: names are looked up in what you write, with what you think of them. In a terminal it is
# `python -m jaxrec chat`.

# %%
session = Session(Catalogue.of(train), fitted, train.item_counts)
answer = session.say("I loved Star Wars (1977) and Alien, but I hated Titanic")
for title, reason in zip(answer.titles, answer.reasons, strict=True):
    print(f"{title}: {reason}")

# %% [markdown]
# With a language model it is CRAG: the model is told what goes with the names, and ranks what it recommends. Here one
# is simulated, in a world of made-up films; in its place goes `HttpChat("MODEL", "http://localhost:8000/v1")`.

# %%
world = World.drawn(seed=0)
model = SimulatedChat(world, typos=0.1, cut_off=2015)
weights = jaxrec.Ease(reg=20.0).fit(world.interactions(600))
asked = list(samples(world.dialogues(50)))
found = Crag(k=10).run(asked, model, Catalogue(world.titles), weights)
print(found)
print(*found.traces[0].explained()[:8], sep="\n")
