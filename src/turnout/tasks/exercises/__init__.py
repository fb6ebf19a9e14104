"""Open-ended exercises for small models: facts to remember and chains to compute, each with a dial.

facts    "kelo mura is tavi ."                    recall: as many facts as one likes, nine bits each
chains   "start 5 add 8 : 5 add 8 is 13 . 13 ."   reasoning: modular arithmetic of any depth, with written steps
gym      text problems of reasoning-gym, an optional package
"""

from turnout.tasks.exercises.chains import chains
from turnout.tasks.exercises.exercise import Exercise, digest, parse_answer
from turnout.tasks.exercises.facts import facts
from turnout.tasks.exercises.load import load_exercises
from turnout.tasks.exercises.vocabulary import VOCABULARY

__all__ = ["VOCABULARY", "Exercise", "chains", "digest", "facts", "load_exercises", "parse_answer"]
