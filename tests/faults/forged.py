"""Models whose bytes are signed and allowed, and whose native code does what it shouldn't.

scikit-learn's trees walk from node to node by the numbers that they hold, without a look at them.
"""

from sklearn.tree import DecisionTreeClassifier

from tests.predictions.predicting import fitted

FAR_AWAY = 2**40
ITSELF = 0


def forged(next_node):
    """A fitted pipeline whose tree goes from its root to that node, whatever it is asked."""
    pipeline, _ = fitted(DecisionTreeClassifier(random_state=0))
    tree = pipeline.named_steps["model"].tree_
    state = tree.__getstate__()
    nodes = state["nodes"].copy()
    nodes["left_child"][0] = nodes["right_child"][0] = next_node
    tree.__setstate__({**state, "nodes": nodes})
    return pipeline
