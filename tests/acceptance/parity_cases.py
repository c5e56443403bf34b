"""Ten models for each of the five tables, as a client names them."""

from typing import Any

Document = dict[str, Any]


def _named(name: str, /, **params: Any) -> Document:
    return {"name": name, "params": params}


def _steps(*documents: Document) -> Document:
    return {"steps": list(documents)}


# Neighbours by products of matrices have no compiled form: scikit-learn serves them.
UNCOMPILED = _named("KNeighborsClassifier", algorithm="brute", weights="distance")

CASES: dict[str, list[Document]] = {
    "iris": [
        _named("LogisticRegression", C=0.5),
        _named("DecisionTreeClassifier", max_depth=4),
        _named("RandomForestClassifier", n_estimators=20),
        _named("GradientBoostingClassifier", n_estimators=10),
        _named("HistGradientBoostingClassifier", max_iter=20),
        UNCOMPILED,
        _named("GaussianNB"),
        _named("SVC", C=2.0),
        _named("MLPClassifier", hidden_layer_sizes=[8], max_iter=300),
        _named("LinearDiscriminantAnalysis"),
    ],
    "wine": [
        _named("ExtraTreesClassifier", n_estimators=20, min_samples_leaf=2),
        _named("BaggingClassifier"),
        _named("AdaBoostClassifier", n_estimators=20),
        _named("QuadraticDiscriminantAnalysis"),
        _named("RidgeClassifier"),
        _named("LinearSVC"),
        _named("MultinomialNB"),
        _named("NearestCentroid"),
        _steps(_named("StandardScaler"), _named("PCA", n_components=5), _named("SVC")),
        _steps(_named("SelectKBest", k=6), UNCOMPILED),
    ],
    "breast_cancer": [
        _named("LogisticRegression", l1_ratio=1.0, solver="saga"),
        _named("SGDClassifier", loss="log_loss"),
        _named("HistGradientBoostingClassifier", max_iter=20, max_leaf_nodes=8),
        _named("GradientBoostingClassifier", n_estimators=15, subsample=0.7),
        _named("BernoulliNB"),
        UNCOMPILED,
        _named("CalibratedClassifierCV", estimator=_named("LinearSVC"), cv=3),
        _named(
            "StackingClassifier",
            estimators=[_named("GaussianNB"), _named("DecisionTreeClassifier", max_depth=3)],
        ),
        _named(
            "GridSearchCV",
            estimator=_named("RandomForestClassifier", n_estimators=10),
            param_grid={"max_depth": [2, 6]},
            cv=3,
        ),
        _steps(_named("PowerTransformer"), _named("LinearDiscriminantAnalysis")),
    ],
    "diabetes": [
        _named("LinearRegression"),
        _named("ElasticNet", alpha=0.5),
        _named("HuberRegressor"),
        _named("RandomForestRegressor", n_estimators=20),
        _named("HistGradientBoostingRegressor", max_iter=20, loss="poisson"),
        _named("GradientBoostingRegressor", n_estimators=15),
        _named("AdaBoostRegressor", n_estimators=10),
        _named("SVR", C=10.0),
        _named("KNeighborsRegressor", algorithm="brute", weights="distance"),
        _steps(_named("PolynomialFeatures", degree=2), _named("Ridge", alpha=10.0)),
    ],
    "digits": [
        _named("LogisticRegression", max_iter=200),
        _named("DecisionTreeClassifier"),
        _named("RandomForestClassifier", n_estimators=20),
        _named("HistGradientBoostingClassifier", max_iter=5),
        UNCOMPILED,
        _named("GaussianNB"),
        _named("ComplementNB"),
        _named("MLPClassifier", hidden_layer_sizes=[32], max_iter=30),
        _named(
            "VotingClassifier",
            estimators=[_named("ExtraTreesClassifier", n_estimators=5), _named("GaussianNB")],
        ),
        _steps(_named("PCA", n_components=20), _named("QuadraticDiscriminantAnalysis")),
    ],
}


def title(document: Document) -> str:
    """The estimators of a case, in order."""
    return "+".join(step["name"] for step in document.get("steps", [document]))
