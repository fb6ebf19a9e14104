"""Open-ended exercises for small models: facts to recall and chains to compute, with adjustable number and depth.

facts    "kelo mura is tavi ."                    recall: any number of facts, nine bits each
chains   "start 5 add 8 : 5 add 8 is 13 . 13 ."   reasoning: modular arithmetic of any depth, with written steps
gym      text problems of reasoning-gym, an optional package
"""

from turnout.tasks.exercises.exercise import Exercise, digest, parse_answer
from turnout.tasks.exercises.generated import VOCABULARY, chains, facts
from turnout.tasks.exercises.load import load_exercises

__all__ = ["VOCABULARY", "Exercise", "chains", "digest", "facts", "load_exercises", "parse_answer"]
