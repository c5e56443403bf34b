"""What a joblib file of ours may name: exactly these, by module and name.

Collected by fitting and dumping every estimator of the catalogue in every way it offers
(``python -m tests.scoring.fitted_catalogue`` prints what they name), then read through by hand.
Before adding a name, ask what it does when it is called with arguments of an attacker's choice:
nothing here imports, evaluates, opens, or calls what it is given, except to make an empty instance
of another name of this list. So never ``functools.partial``, ``operator``, ``copyreg``, ``getattr``
or any other built-in beyond ``slice``.
"""

from collections.abc import Mapping
from typing import Final

ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "builtins": frozenset({"slice"}),
    "joblib.numpy_pickle": frozenset({"NumpyArrayWrapper"}),
    "numpy": frozenset({"dtype", "float32", "float64", "int32", "int64", "ndarray"}),
    "numpy._core.multiarray": frozenset({"_reconstruct", "scalar"}),
    "numpy._core.numeric": frozenset({"_frombuffer"}),
    "numpy.random._mt19937": frozenset({"MT19937"}),
    "numpy.random._pcg64": frozenset({"PCG64"}),
    "numpy.random._pickle": frozenset(
        {"__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"}
    ),
    "numpy.random.bit_generator": frozenset({"SeedSequence", "__pyx_unpickle_SeedSequence"}),
    "scipy._lib.array_api_compat.numpy._aliases": frozenset({"asarray"}),
    "scipy.interpolate._bsplines": frozenset({"BSpline"}),
    "scipy.sparse._csr": frozenset({"csr_matrix"}),
    "sklearn._loss._loss": frozenset(
        {
            "CyAbsoluteError",
            "CyExponentialLoss",
            "CyHalfBinomialLoss",
            "CyHalfGammaLoss",
            "CyHalfMultinomialLoss",
            "CyHalfPoissonLoss",
            "CyHalfSquaredError",
            "CyHalfTweedieLoss",
            "CyHalfTweedieLossIdentity",
            "CyHuberLoss",
            "CyPinballLoss",
            "__pyx_unpickle_CyHalfMultinomialLoss",
        }
    ),
    "sklearn._loss.link": frozenset(
        {"HalfLogitLink", "IdentityLink", "Interval", "LogLink", "LogitLink", "MultinomialLogit"}
    ),
    "sklearn._loss.loss": frozenset(
        {
            "AbsoluteError",
            "ExponentialLoss",
            "HalfBinomialLoss",
            "HalfGammaLoss",
            "HalfMultinomialLoss",
            "HalfPoissonLoss",
            "HalfSquaredError",
            "HalfTweedieLoss",
            "HalfTweedieLossIdentity",
            "HuberLoss",
            "PinballLoss",
        }
    ),
    "sklearn.calibration": frozenset(
        {
            "CalibratedClassifierCV",
            "_CalibratedClassifier",
            "_SigmoidCalibration",
            "_TemperatureScaling",
        }
    ),
    "sklearn.cluster._affinity_propagation": frozenset({"AffinityPropagation"}),
    "sklearn.cluster._bisect_k_means": frozenset({"BisectingKMeans", "_BisectingTree"}),
    "sklearn.cluster._kmeans": frozenset(
        {"KMeans", "MiniBatchKMeans", "_kmeans_single_elkan", "_kmeans_single_lloyd"}
    ),
    "sklearn.cluster._mean_shift": frozenset({"MeanShift"}),
    "sklearn.compose._column_transformer": frozenset({"ColumnTransformer"}),
    "sklearn.covariance._elliptic_envelope": frozenset({"EllipticEnvelope"}),
    "sklearn.decomposition._factor_analysis": frozenset({"FactorAnalysis"}),
    "sklearn.decomposition._fastica": frozenset({"FastICA"}),
    "sklearn.decomposition._incremental_pca": frozenset({"IncrementalPCA"}),
    "sklearn.decomposition._lda": frozenset({"LatentDirichletAllocation"}),
    "sklearn.decomposition._nmf": frozenset({"NMF"}),
    "sklearn.decomposition._pca": frozenset({"PCA"}),
    "sklearn.decomposition._truncated_svd": frozenset({"TruncatedSVD"}),
    "sklearn.discriminant_analysis": frozenset(
        {"LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis"}
    ),
    "sklearn.dummy": frozenset({"DummyClassifier", "DummyRegressor"}),
    "sklearn.ensemble._bagging": frozenset({"BaggingClassifier", "BaggingRegressor"}),
    "sklearn.ensemble._forest": frozenset(
        {
            "ExtraTreesClassifier",
            "ExtraTreesRegressor",
            "RandomForestClassifier",
            "RandomForestRegressor",
        }
    ),
    "sklearn.ensemble._gb": frozenset({"GradientBoostingClassifier", "GradientBoostingRegressor"}),
    "sklearn.ensemble._hist_gradient_boosting.binning": frozenset({"_BinMapper"}),
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": frozenset(
        {"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"}
    ),
    "sklearn.ensemble._hist_gradient_boosting.predictor": frozenset({"TreePredictor"}),
    "sklearn.ensemble._iforest": frozenset({"IsolationForest"}),
    "sklearn.ensemble._stacking": frozenset({"StackingClassifier", "StackingRegressor"}),
    "sklearn.ensemble._voting": frozenset({"VotingClassifier", "VotingRegressor"}),
    "sklearn.ensemble._weight_boosting": frozenset({"AdaBoostClassifier", "AdaBoostRegressor"}),
    "sklearn.feature_extraction.text": frozenset(
        {"CountVectorizer", "TfidfTransformer", "TfidfVectorizer"}
    ),
    "sklearn.feature_selection._from_model": frozenset({"SelectFromModel"}),
    "sklearn.feature_selection._rfe": frozenset({"RFE"}),
    "sklearn.feature_selection._univariate_selection": frozenset(
        {"SelectKBest", "SelectPercentile", "f_classif", "f_regression"}
    ),
    "sklearn.feature_selection._variance_threshold": frozenset({"VarianceThreshold"}),
    "sklearn.impute._base": frozenset({"MissingIndicator", "SimpleImputer"}),
    "sklearn.impute._knn": frozenset({"KNNImputer"}),
    "sklearn.isotonic": frozenset({"IsotonicRegression"}),
    "sklearn.kernel_approximation": frozenset({"Nystroem", "PolynomialCountSketch", "RBFSampler"}),
    "sklearn.linear_model._base": frozenset({"LinearRegression"}),
    "sklearn.linear_model._bayes": frozenset({"BayesianRidge"}),
    "sklearn.linear_model._coordinate_descent": frozenset(
        {"ElasticNet", "ElasticNetCV", "Lasso", "LassoCV"}
    ),
    "sklearn.linear_model._glm.glm": frozenset(
        {"GammaRegressor", "PoissonRegressor", "TweedieRegressor"}
    ),
    "sklearn.linear_model._huber": frozenset({"HuberRegressor"}),
    "sklearn.linear_model._logistic": frozenset({"LogisticRegression"}),
    "sklearn.linear_model._quantile": frozenset({"QuantileRegressor"}),
    "sklearn.linear_model._ridge": frozenset({"Ridge", "RidgeCV", "RidgeClassifier"}),
    "sklearn.linear_model._sgd_fast": frozenset({"Hinge", "ModifiedHuber", "SquaredHinge"}),
    "sklearn.linear_model._stochastic_gradient": frozenset(
        {"SGDClassifier", "SGDOneClassSVM", "SGDRegressor"}
    ),
    "sklearn.metrics._dist_metrics": frozenset(
        {
            "ChebyshevDistance64",
            "EuclideanDistance64",
            "ManhattanDistance64",
            "MinkowskiDistance64",
            "newObj",
        }
    ),
    "sklearn.mixture._bayesian_mixture": frozenset({"BayesianGaussianMixture"}),
    "sklearn.mixture._gaussian_mixture": frozenset({"GaussianMixture"}),
    "sklearn.naive_bayes": frozenset(
        {"BernoulliNB", "ComplementNB", "GaussianNB", "MultinomialNB"}
    ),
    "sklearn.neighbors._ball_tree": frozenset({"BallTree", "newObj"}),
    "sklearn.neighbors._classification": frozenset({"KNeighborsClassifier"}),
    "sklearn.neighbors._kd_tree": frozenset({"KDTree", "newObj"}),
    "sklearn.neighbors._lof": frozenset({"LocalOutlierFactor"}),
    "sklearn.neighbors._nearest_centroid": frozenset({"NearestCentroid"}),
    "sklearn.neighbors._regression": frozenset({"KNeighborsRegressor"}),
    "sklearn.neural_network._multilayer_perceptron": frozenset({"MLPClassifier", "MLPRegressor"}),
    "sklearn.neural_network._stochastic_optimizers": frozenset({"AdamOptimizer", "SGDOptimizer"}),
    "sklearn.pipeline": frozenset({"Pipeline"}),
    "sklearn.preprocessing._data": frozenset(
        {
            "Binarizer",
            "MaxAbsScaler",
            "MinMaxScaler",
            "Normalizer",
            "PowerTransformer",
            "QuantileTransformer",
            "RobustScaler",
            "StandardScaler",
        }
    ),
    "sklearn.preprocessing._discretization": frozenset({"KBinsDiscretizer"}),
    "sklearn.preprocessing._encoders": frozenset({"OneHotEncoder", "OrdinalEncoder"}),
    "sklearn.preprocessing._function_transformer": frozenset({"FunctionTransformer"}),
    "sklearn.preprocessing._label": frozenset({"LabelBinarizer", "LabelEncoder"}),
    "sklearn.preprocessing._polynomial": frozenset({"PolynomialFeatures", "SplineTransformer"}),
    "sklearn.preprocessing._target_encoder": frozenset({"TargetEncoder"}),
    "sklearn.random_projection": frozenset({"GaussianRandomProjection", "SparseRandomProjection"}),
    "sklearn.svm._classes": frozenset({"LinearSVC", "LinearSVR", "OneClassSVM", "SVC", "SVR"}),
    "sklearn.tree._classes": frozenset(
        {
            "DecisionTreeClassifier",
            "DecisionTreeRegressor",
            "ExtraTreeClassifier",
            "ExtraTreeRegressor",
        }
    ),
    "sklearn.tree._tree": frozenset({"Tree"}),
    "sklearn.utils._bunch": frozenset({"Bunch"}),
}
