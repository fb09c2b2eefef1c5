#!/usr/bin/env python3
"""Makes conversations about a small invented world, with answers that can be checked: train.jsonl and test.jsonl.

    python3 scripts/conversations.py --out data/world

Every line is {"kind": …, "messages": […]}; the last message is the answer that is checked. The kinds:

| kind | question | what the test has that was never trained on |
| --- | --- | --- |
| sum | a number up to 99 plus one up to 9 | the sums (a tenth of all, by a hash), and the wording |
| fact | where one of 24 people lives, their job, pet or favourite colour | the wording: the facts are stated in training alone |
| follow-up | the same of another person, or another fact of the same one: "And Ben?" | the pair of questions (by a hash) |
| stated | what the user said before: a name, a pet's name, a number of things | the names (by a hash), and the wording |
| unknown | what nobody has said: a stranger, the user's name, the future | the strangers (by a hash), and the wording |

The same seed gives the same files. Names of strangers and pets are made of syllables, so that they can only be copied.
"""

import argparse
import hashlib
import json
import pathlib
import random

PEOPLE = "Ada Ben Cleo Dan Eva Finn Gwen Hugo Ida Jon Kim Leo Mia Ned Olga Pia Quin Rosa Sam Tess Uma Vic Wes Zoe".split()
CITIES = "Oslo Rome Lima Cairo Paris Delhi Kyoto Quito".split()
JOBS = "baker pilot nurse tailor farmer doctor singer builder".split()
PETS = "cat dog fox owl goat hen mule frog".split()
COLOURS = "red blue green pink grey white black brown".split()
THINGS = "apples books coins keys hats cups pens maps".split()

# For each attribute: its values, the answer, the follow-up, wordings of the training, wordings of the test.
ATTRIBUTES = {
    "city": (
        CITIES,
        "{who} lives in {value}.",
        "And the city?",
        ["Where does {who} live?", "In which city does {who} live?", "What is the city of {who}?", "Tell me where {who} lives."],
        ["Which city does {who} live in?", "Tell me in which city {who} lives.", "Do you know where {who} lives?"],
    ),
    "job": (
        JOBS,
        "{who} is a {value}.",
        "And the job?",
        ["What is the job of {who}?", "What does {who} do for a job?", "Which job does {who} have?", "Tell me the job of {who}."],
        ["What job does {who} have?", "Do you know the job of {who}?", "Tell me which job {who} has."],
    ),
    "pet": (
        PETS,
        "{who} has a {value}.",
        "And the pet?",
        ["Which pet does {who} have?", "What is the pet of {who}?", "What pet has {who}?", "Tell me the pet of {who}."],
        ["What pet does {who} have?", "Tell me which pet {who} has.", "Do you know the pet of {who}?"],
    ),
    "colour": (
        COLOURS,
        "{who} likes {value}.",
        "And the colour?",
        ["Which colour does {who} like?", "What is the colour of {who}?", "What colour does {who} like?", "Tell me the colour of {who}."],
        ["Do you know which colour {who} likes?", "Tell me what colour {who} likes.", "Which colour is the one of {who}?"],
    ),
}
SUMS = (
    ["What is {a} + {b}?", "{a} + {b}", "How much is {a} + {b}?", "Add {a} and {b}.", "What is {a} plus {b}?"],
    ["How much is {a} plus {b}?", "What do {a} and {b} add up to?", "Tell me {a} + {b}."],
)
OWN_NAME = (
    ["What is my name?", "Who am I?", "Tell me my name.", "Do you remember my name?"],
    ["Do you know my name?", "Can you tell me my name?", "What was my name?"],
)
PET_NAME = (
    ["What is my {pet} called?", "What is the name of my {pet}?", "Tell me the name of my {pet}."],
    ["Do you know the name of my {pet}?", "What did I call my {pet}?", "Tell me what my {pet} is called."],
)
COUNT = (
    ["How many {things} do I have?", "What number of {things} do I have?", "Tell me how many {things} I have."],
    ["Do you know how many {things} I have?", "How many {things} have I?", "Tell me the number of my {things}."],
)
FUTURE = (
    ["What will happen tomorrow?", "Will it rain next week?", "Who will win the game?", "What will I eat tonight?", "Will I be rich?"],
    ["Will it rain tomorrow?", "Who will be rich next week?", "What will happen tonight?", "What will I win?"],
)
CANNOT = "I cannot know that."


def held_out(*key):
    """Whether something is the test's: a tenth of all, by a hash, whatever the seed."""
    return hashlib.sha256(repr(key).encode()).digest()[0] % 10 == 0


def say(role, content):
    return {"role": role, "content": content}


def turn(question, answer):
    return [say("user", question), say("assistant", answer)]


class World:
    """Facts, and the conversations of one part: the training's or the test's."""

    def __init__(self, seed, test):
        rng = random.Random(seed)
        self.facts = {
            name: {who: rng.choice(values) for who in PEOPLE} for name, (values, *_) in ATTRIBUTES.items()
        }
        self.test = test
        self.rng = random.Random(f"{seed} {test}")

    def draw(self, make):
        """The first of random things that belongs to this part."""
        while True:
            thing = make()
            if held_out(thing) == self.test:
                return thing

    def word(self, wordings):
        return self.rng.choice(wordings[1 if self.test else 0])

    def stranger(self):
        """A name of two or three syllables of this part."""

        def make():
            syllables = [self.rng.choice("bdfghklmnprstvwz") + self.rng.choice("aeiou") for _ in range(self.rng.choice([2, 3]))]
            return "".join(syllables).capitalize()

        return self.draw(make)

    def sum(self):
        a, b = self.draw(lambda: (self.rng.randrange(100), self.rng.randrange(10)))
        return turn(self.word(SUMS).format(a=a, b=b), f"{a + b}.")

    def question(self, name, who, test=None):
        wordings = ATTRIBUTES[name][4 if (self.test if test is None else test) else 3]
        return turn(self.rng.choice(wordings).format(who=who), self.answer(name, who))

    def answer(self, name, who):
        return ATTRIBUTES[name][1].format(who=who, value=self.facts[name][who])

    def fact(self):
        return self.question(self.rng.choice(list(ATTRIBUTES)), self.rng.choice(PEOPLE))

    def follow_up(self):
        """The first question has the training's wording in the test too, since the second is what is new."""

        def make():
            name, who = self.rng.choice(list(ATTRIBUTES)), self.rng.choice(PEOPLE)
            if self.rng.random() < 0.5:
                return name, who, name, self.rng.choice([other for other in PEOPLE if other != who])
            return name, who, self.rng.choice([other for other in ATTRIBUTES if other != name]), who

        name, who, next_name, next_who = self.draw(make)
        asked = f"And {next_who}?" if who != next_who else ATTRIBUTES[next_name][2]
        return self.question(name, who, test=False) + turn(asked, self.answer(next_name, next_who))

    def stated(self):
        """Something that the user says, in half of the cases something else, then the question."""
        kind = self.rng.choice(["name", "pet", "count"])
        if kind == "name":
            who = self.stranger()
            first = turn(self.rng.choice([f"My name is {who}.", f"I am {who}.", f"Hello, I am {who}."]), f"Hello, {who}.")
            last = turn(self.word(OWN_NAME), f"You are {who}.")
        elif kind == "pet":
            who, pet = self.stranger(), self.rng.choice(PETS)
            first = turn(self.rng.choice([f"My {pet} is called {who}.", f"I have a {pet}. Its name is {who}."]), "I see.")
            last = turn(self.word(PET_NAME).format(pet=pet), f"Your {pet} is called {who}.")
        else:
            number, things = self.rng.randrange(2, 100), self.rng.choice(THINGS)
            first = turn(self.rng.choice([f"I have {number} {things}.", f"There are {number} {things} in my bag."]), "I see.")
            last = turn(self.word(COUNT).format(things=things), f"You have {number} {things}.")
        between = self.rng.choice([[], [], self.sum(), self.question(self.rng.choice(list(ATTRIBUTES)), self.rng.choice(PEOPLE), test=False)])
        return first + between + last

    def unknown(self):
        kind = self.rng.choice(["stranger", "stranger", "name", "pet", "future"])
        if kind == "stranger":
            who, name = self.stranger(), self.rng.choice(list(ATTRIBUTES))
            return turn(self.rng.choice(ATTRIBUTES[name][4 if self.test else 3]).format(who=who), f"I do not know {who}.")
        if kind == "future":
            return turn(self.word(FUTURE), CANNOT)
        before = self.rng.choice([[], self.sum(), self.question(self.rng.choice(list(ATTRIBUTES)), self.rng.choice(PEOPLE), test=False)])
        if kind == "name":
            return before + turn(self.word(OWN_NAME), "You have not told me your name.")
        pet = self.rng.choice(PETS)
        return before + turn(self.word(PET_NAME).format(pet=pet), f"You have not told me of a {pet}.")

    def conversation(self):
        kinds = {"sum": self.sum, "fact": self.fact, "follow-up": self.follow_up, "stated": self.stated, "unknown": self.unknown}
        kind = self.rng.choice(list(kinds))
        return {"kind": kind, "messages": kinds[kind]()}


def conversations(seed, test, count):
    """Conversations of all kinds, equally often; those of the test are different ones."""
    world, lines = World(seed, test), []
    for _ in range(100 * count):
        line = json.dumps(world.conversation())
        if not test or line not in lines:
            lines.append(line)
        if len(lines) == count:
            break
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=12000, help="conversations to train on")
    parser.add_argument("--test", type=int, default=500, help="conversations of the test")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, test, count in [("train", False, options.count), ("test", True, options.test)]:
        lines = conversations(options.seed, test, count)
        path = options.out / f"{name}.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        turns = sum(line.count('"assistant"') for line in lines)
        print(f"{path}: {len(lines)} conversations, {turns} turns")


if __name__ == "__main__":
    main()
