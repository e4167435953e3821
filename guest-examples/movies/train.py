"""Trains the ranking model and writes `ranker.onnx`.

    python train.py path/to/movies.json [--tune]

A small network (1024-64-16-1) learns a film's real IMDb rating from the features of FEATURES.md, and with
them the worth of matching tastes (see dataset.py). Seeded: the same machine writes the same file. The
held-out films are never looked at here; `evaluate.py` reports on them.
"""

import os
import sys
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from scipy.sparse import vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

import features
from dataset import Films, Users

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "ranker.onnx")
OPSET, IR = 17, 8

SEED = 20
HIDDEN = (64, 16)
# Users made up for training, and how many films each judges.
USERS, FILMS_PER_USER = 1000, 12
# How many times each film appears without tastes, so that the plain rating is not drowned by the users.
PLAIN_COPIES = 3
# Chosen with `--tune`, which looks at training films only.
WEIGHT_DECAY, EPOCHS = 10.0, 50


def examples(films, pool, seed, users=USERS):
    """Feature rows and what they should score, from the films of a pool."""
    people = Users(films, f"train-{seed}")
    pairs, wanted = [], []
    for _ in range(users):
        tastes = people.tastes()
        for film in people.candidates(tastes, pool, FILMS_PER_USER):
            pairs.append((tastes, film[0]))
            wanted.append(people.preference(tastes, film))
    plain = films.rows([({}, film[0]) for film in pool])
    ratings = np.array([film[1] for film in pool])
    rows = vstack([films.rows(pairs)] + [plain] * PLAIN_COPIES, format="csr")
    return rows, np.concatenate([np.array(wanted)] + [ratings] * PLAIN_COPIES)


def fit(rows, wanted, seed=SEED, decay=WEIGHT_DECAY, epochs=EPOCHS):
    """The trained network and the mean that it was trained to predict the distance from."""
    mean = float(wanted.mean())
    network = MLPRegressor(
        hidden_layer_sizes=HIDDEN, alpha=decay, max_iter=epochs, random_state=seed, tol=0.0, n_iter_no_change=epochs
    )
    with warnings.catch_warnings():
        # The number of epochs is chosen; stopping there is not a failure to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(rows, wanted - mean), mean


def export(network, mean, path):
    """Writes the network as ONNX: `features` [n, 1024] f32 in, `score` [n, 1] f32 out."""
    nodes, weights, source = [], [], "features"
    last = len(network.coefs_) - 1
    for layer, (matrix, bias) in enumerate(zip(network.coefs_, network.intercepts_)):
        bias = bias + mean if layer == last else bias
        weights.append(numpy_helper.from_array(matrix.astype(np.float32), f"weight_{layer}"))
        weights.append(numpy_helper.from_array(bias.astype(np.float32), f"bias_{layer}"))
        target = "score" if layer == last else f"sum_{layer}"
        nodes.append(helper.make_node("Gemm", [source, f"weight_{layer}", f"bias_{layer}"], [target]))
        if layer != last:
            source = f"hidden_{layer}"
            nodes.append(helper.make_node("Relu", [target], [source]))
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", features.WIDTH])]
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(nodes, "movie-ranker", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="sluice-example")
    model.ir_version = IR
    onnx.checker.check_model(model)
    onnx.save(model, path)


def disagreement(network, mean, path, rows):
    """The largest difference between ONNX Runtime on the file and the network it was made from."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    scores = session.run(None, {"features": rows.toarray().astype(np.float32)})[0].reshape(-1)
    return float(np.abs(scores - (network.predict(rows) + mean)).max())


def tune(films):
    """Prints the rank correlation on every fourth training film for a few settings, learned from the others."""
    from scipy.stats import spearmanr

    check = films.train[1::4]
    keys = {film[0] for film in check}
    rows, wanted = examples(films, [film for film in films.train if film[0] not in keys], SEED)
    plain, ratings = films.rows([({}, film[0]) for film in check]), [film[1] for film in check]
    people = Users(films, "tune")
    judged = [(tastes, film) for tastes in (people.tastes() for _ in range(400)) for film in people.random.sample(check, 5)]
    tasted = films.rows([(tastes, film[0]) for tastes, film in judged])
    preferences = [people.preference(tastes, film) for tastes, film in judged]
    for decay in (0.1, 1.0, 3.0, 10.0, 30.0):
        for epochs in (5, 10, 25, 50):
            network, _ = fit(rows, wanted, decay=decay, epochs=epochs)
            both = [spearmanr(network.predict(x), y)[0] for x, y in ((plain, ratings), (tasted, preferences))]
            print(f"decay {decay:5} epochs {epochs:3}: no tastes {both[0]:.3f}, tastes {both[1]:.3f}", flush=True)


def main():
    films = Films(sys.argv[1])
    if "--tune" in sys.argv:
        return tune(films)
    rows, wanted = examples(films, films.train, SEED)
    print(f"training on {len(films.train)} films: {rows.shape[0]} rows")
    network, mean = fit(rows, wanted)
    export(network, mean, MODEL)
    gap = disagreement(network, mean, MODEL, films.rows([({}, film[0]) for film in films.test]))
    if gap > 1e-4:
        sys.exit(f"the exported model differs from the trained one by {gap}")
    print(f"wrote ranker.onnx, {os.path.getsize(MODEL)} bytes; onnx runtime agrees within {gap:.1e}")


if __name__ == "__main__":
    main()
