"""What training loss does not explain of a task, and what a task's loss does not explain of accuracy.

The paper (arXiv 2508.18672) names both gaps; the formulas are ours. Both are relative to the family they are taken in.

Shapes: R runs.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression


def generalisation_gap(task_loss_R: NDArray[np.floating], training_loss_R: NDArray[np.floating]) -> NDArray[np.float64]:
    """Task loss − training loss, nats a token, run by run."""
    return np.asarray(task_loss_R, np.float64) - np.asarray(training_loss_R, np.float64)


def loss_accuracy_gap(task_loss_R: NDArray[np.floating], accuracy_R: NDArray[np.floating]) -> NDArray[np.float64]:
    """Accuracy − what the family's falling fit predicts from the task loss; above 0: more accurate than its loss says.

    The fit is isotonic (accuracy never rises with loss), made on the same runs: residuals, which sum to about 0.
    """
    loss, accuracy = np.asarray(task_loss_R, np.float64), np.asarray(accuracy_R, np.float64)
    fit = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(loss, accuracy)
    return accuracy - fit.predict(loss)
